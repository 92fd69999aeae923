"""`make bench BENCH=issue`: certificates a second through the JSON API, one by one, each stored, audited and signed.

A server with its worker and real TLS; each client sends a request with its CSR over a connection that it keeps, and has
its certificate when the answer is there: `Active`, with a current version. It is judged at the end that each request
came to exactly one order, one version and one event of each kind. Then as many by few calls (`bulk-issue`), judged
alike. Beside it, in the same run: what one core signs
(openssl) and what the database commits of single rows. Clients and database share the machine with the server.

Usage: bench/run.py issue [--only DATABASE] [--count N] [--clients N ...] [--batch N] [--processes N] [--keep]
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import uvloop
from kit import arguments, load, milliseconds, post, tell
from ladder import cpu_seconds, tree
from revoke import raw_rows

from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from certctl.store.tx import Database
from peers.fleet import Fleet, fleet
from peers.postgres import postgres

_RAW_ROWS = 2_000
_CALLS_AT_ONCE = 4
_WARM = 40
# what each issuance leaves exactly once
_ONCE = (
    "SELECT count(DISTINCT certificate_id) FROM certificate_versions WHERE status = 'current'",
    "SELECT count(*) FROM certificate_versions",
    "SELECT count(*) FROM orders WHERE status = 'recorded'",
    "SELECT count(*) FROM jobs WHERE type = 'Issuance' AND status = 'Completed'",
    "SELECT count(*) FROM audit_events WHERE type = 'certificate_issued'",
    "SELECT count(*) FROM audit_events WHERE type = 'request_approved'",
    "SELECT count(*) FROM audit_events WHERE type = 'order_intended'",
)


def _requests(stem: str, count: int) -> list[bytes]:
    """Bodies with CSRs of one key: making keys is not what is measured."""
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    made = []
    for number in range(count):
        name = f"{stem}{number}.bench.example"
        csr = csr_pem(build_csr(key, name, parse_names([name])))
        made.append(json.dumps({"common_name": name, "csr_pem": csr}).encode())
    return made


async def _one_by_one(town: Fleet, bodies: list[bytes], clients: int) -> dict[str, float]:
    context = ssl.create_default_context(cafile=str(town.ca_path))
    waiting, took = iter(bodies), []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("localhost", town.api_port, ssl=context)
        for body in waiting:
            started = time.perf_counter()
            status, told = await post(reader, writer, "/api/v1/certificates", town.key, body)
            said = json.loads(told)
            if status != 201 or said["status"] != "Active":
                raise RuntimeError(f"{status}: {said}")
            took.append(time.perf_counter() - started)
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    elapsed = time.perf_counter() - begun
    return {"clients": clients, "issued": len(bodies), "per_second": round(len(bodies) / elapsed, 1)} | milliseconds(
        took
    )


async def _in_batches(town: Fleet, stem: str, count: int, size: int) -> dict[str, float]:
    """The same, `size` in one call, some calls at a time."""
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    names = [f"{stem}{number}.bench.example" for number in range(count)]
    items = [{"common_name": name, "csr_pem": csr_pem(build_csr(key, name, parse_names([name])))} for name in names]
    bodies = [json.dumps({"certificates": items[start : start + size]}).encode() for start in range(0, count, size)]
    context = ssl.create_default_context(cafile=str(town.ca_path))
    waiting, took = iter(bodies), []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("localhost", town.api_port, ssl=context, limit=1 << 24)
        for body in waiting:
            started = time.perf_counter()
            status, told = await post(reader, writer, "/api/v1/certificates/bulk-issue", town.key, body)
            said = json.loads(told)
            if status != 200 or said["total_issued"] != said["total"]:
                raise RuntimeError(f"{status}: {told[:1000]!r}")
            took.append(time.perf_counter() - started)
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(_CALLS_AT_ONCE)))
    elapsed = time.perf_counter() - begun
    return {"size": size, "issued": count, "per_second": round(count / elapsed, 1)} | milliseconds(took)


async def _judge(database: Database, before: list[int], count: int) -> None:
    found = await _counts(database)
    for sql, then, now in zip(_ONCE, before, found, strict=True):
        if now - then != count:
            raise RuntimeError(f"{sql}: {now - then} in place of {count}")


async def _counts(database: Database) -> list[int]:
    async with database.engine.connect() as connection:
        return [int((await connection.exec_driver_sql(sql)).scalar() or 0) for sql in _ONCE]


class Processor:
    """What the server's processes, and PostgreSQL's, have spent while something was measured."""

    def __init__(self, town: Fleet, postgres_pid: int | None) -> None:
        server = town.server
        if server is None:
            raise RuntimeError("no server runs")
        self._roots = {"server": server.pid}
        if postgres_pid is not None:
            self._roots["database"] = postgres_pid
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        return {name: cpu_seconds(tree(pid)) for name, pid in self._roots.items()}

    def each(self, count: int) -> dict[str, float]:
        """Milliseconds for each of `count`."""
        now = self._now()
        return {f"{name}_cpu_ms_each": round((now[name] - self._before[name]) / count * 1000, 2) for name in now}


async def _issue(
    town: Fleet, url: str, count: int, clients: list[int], batch: int, postgres_pid: int | None = None
) -> dict[str, Any]:
    database = Database(url)
    try:
        await _one_by_one(town, _requests("warm", _WARM), max(clients))
        before = await _counts(database)
        figures: dict[str, Any] = {"raw_rows_per_second": await raw_rows(database, _RAW_ROWS)}
        figures["one_by_one"] = []
        for number in clients:
            bodies, spent = _requests(f"c{number}-", count), Processor(town, postgres_pid)
            figures["one_by_one"].append(await _one_by_one(town, bodies, number) | spent.each(count))
        await _judge(database, before, count * len(clients))
        if batch:
            before, spent = await _counts(database), Processor(town, postgres_pid)
            figures["batches"] = await _in_batches(town, "b", count, batch) | spent.each(count)
            await _judge(database, before, count)
        return figures | {"each_exactly_once": True}
    finally:
        await database.close()


def _measure(
    folder: Path,
    url: str | None,
    count: int,
    clients: list[int],
    batch: int,
    processes: int,
    postgres_pid: int | None = None,
) -> dict[str, Any]:
    folder.mkdir(parents=True)
    more = {"CERTCTL_SERVER_PROCESSES": str(processes)} if url else {}
    with fleet(
        folder, url, CERTCTL_LOG_LEVEL="warn", CERTCTL_STEP_LEASE="30s", CERTCTL_RATE_LIMIT_ENABLED="false", **more
    ) as town:
        town.start_server()
        town.bootstrap()
        where = url or f"sqlite:///{town.server_dir}/certctl.db"
        return uvloop.run(_issue(town, where, count, clients, batch, postgres_pid))


def signatures() -> float:
    """What one core signs with P-256 here and now: no CA written on OpenSSL can issue faster a core."""
    command = ["openssl", "speed", "-seconds", "2", "ecdsap256"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(text.strip().splitlines()[-1].split()[-2])


def main(given: list[str] | None = None) -> int:
    """Measure, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=3_000)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--batch", type=int, default=500, help="so many in one call besides; 0: none")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args(given)
    figures: dict[str, Any] = {"load_before": load(), "openssl_ecdsa_p256_signs_per_second": signatures()}
    with tempfile.TemporaryDirectory(prefix="certctl-issue-") as folder:
        if asked.only != "sqlite":
            with postgres() as server:
                url = server.new_database()
                sizes = (asked.count, asked.clients, asked.batch, asked.processes, server.process.pid)
                figures["postgresql"] = _measure(Path(folder) / "pg", url, *sizes)
        if asked.only != "postgresql":
            figures["sqlite"] = _measure(
                Path(folder) / "sqlite", None, asked.count, asked.clients, asked.batch, asked.processes
            )
    tell("issue", figures, keep=asked.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
