"""`make bench BENCH=revoke`: revocations a second through the API, one by one and in bulk, beside few and a million.

A server process with its worker, real TLS, 8 clients that each revoke one certificate after the other; then one bulk
revocation by environment. It is judged before it is measured: each certificate has one revocation, one event and one
completed job. The limit beside it: one row and one commit at a time on as many connections. CPU is told by who used it.

Usage: bench/run.py revoke [--only DATABASE] [--there N ...] [--single N] [--bulk N] [--processes N] [--keep]
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import sqlalchemy as sa
from crl import seed
from kit import arguments, load, milliseconds, post, tell
from ladder import cpu_seconds, tree

from certctl.store.tx import Database
from peers.fleet import Fleet, fleet
from peers.postgres import Postgres, postgres

CLIENTS = 8
_LONGEST_SECONDS = 3600


async def _scalar(database: Database, sql: str) -> Any:
    async with database.engine.connect() as connection:
        return (await connection.exec_driver_sql(sql)).scalar()


class Used:
    """Microseconds of processor that server and database have used since, for each of so many."""

    def __init__(self, town: Fleet, database: int | None) -> None:
        """`database` is PostgreSQL's process."""
        assert town.server is not None
        self._pids = {"server": town.server.pid} | ({"database": database} if database else {})
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        return {who: cpu_seconds(tree(pid)) for who, pid in self._pids.items()}

    def each(self, count: int) -> dict[str, dict[str, int]]:
        spent = {who: seconds - self._before[who] for who, seconds in self._now().items()}
        return {"cpu_us_each": {who: round(seconds / count * 1e6) for who, seconds in spent.items()}}


async def _one_by_one(town: Fleet, names: list[str]) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=str(town.ca_path))
    waiting = iter(names)
    took: list[float] = []
    body = json.dumps({"reason": "superseded"}).encode()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("localhost", town.api_port, ssl=context)
        for name in waiting:
            started = time.perf_counter()
            status, said = await post(reader, writer, f"/api/v1/certificates/{name}/revoke", town.key, body)
            if status != 200:
                raise RuntimeError(f"{name}: {status} {said.decode()}")
            took.append(time.perf_counter() - started)
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    elapsed = time.perf_counter() - begun
    return {"revoked": len(names), "per_second": round(len(names) / elapsed, 1), **milliseconds(took)}


async def raw_rows(database: Database, count: int) -> float:
    """Rows a second, one a commit, on as many connections as there are clients."""
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE bench_rows (id TEXT PRIMARY KEY, told TEXT)")
    waiting = iter(range(count))

    async def client() -> None:
        for number in waiting:
            async with database.begin("bench") as tx:
                await tx.execute(sa.text("INSERT INTO bench_rows VALUES (:id, 'x')").bindparams(id=str(number)))

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    elapsed = time.perf_counter() - begun
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql("DROP TABLE bench_rows")
    return round(count / elapsed, 1)


def _in_bulk(town: Fleet, environment: str, count: int) -> dict[str, Any]:
    begun = time.perf_counter()
    wanted = {"environment": environment, "reason": "keyCompromise"}
    batch = f"/api/v1/batches/{town.post('/api/v1/certificates/bulk-revoke', wanted)['batch_id']}"
    deadline = time.monotonic() + _LONGEST_SECONDS
    while (found := town.get(batch))["status"] == "running":
        if time.monotonic() > deadline:
            raise RuntimeError(f"the batch does not end: {found}")
        time.sleep(0.1)
    elapsed = time.perf_counter() - begun
    if (found["status"], found["done"]) != ("completed", count):
        raise RuntimeError(f"the batch ended as {found}")
    return {"revoked": count, "seconds": round(elapsed, 2), "per_second": round(count / elapsed, 1)}


async def _judge(database: Database, ca_id: str, count: int, there: int) -> None:
    for sql, wanted in (
        (f"SELECT count(*) FROM certificate_revocations WHERE ca_certificate_id = '{ca_id}'", count + there),
        ("SELECT count(DISTINCT version_id) FROM certificate_revocations", count + there),
        ("SELECT count(DISTINCT subject_id) FROM audit_events WHERE type = 'certificate_revoked'", count),
        ("SELECT count(*) FROM audit_events WHERE type = 'certificate_revoked'", count),
        ("SELECT count(*) FROM jobs WHERE type = 'Revocation'", count),
        ("SELECT count(DISTINCT certificate_id) FROM jobs WHERE type = 'Revocation' AND status = 'Completed'", count),
        ("SELECT count(*) FROM managed_certificates WHERE status = 'Revoked'", count),
    ):
        found = await _scalar(database, sql)
        if found != wanted:
            raise RuntimeError(f"{sql}: {found} in place of {wanted}")


async def _revoke(
    town: Fleet, url: str, there: int, single: int, bulk: int, database_pid: int | None
) -> dict[str, Any]:
    database = Database(url)
    try:
        ca_id = await _scalar(database, "SELECT id FROM ca_certificates WHERE kind = 'intermediate'")
        await seed(database, ca_id, 0, there)
        await seed(database, ca_id, there, single, "single")
        await seed(database, ca_id, there + single, bulk, "bulk")
        # what was seeded is encoded first: an installation comes by its revocations one after the other
        waiting = "SELECT count(*) FROM certificate_revocations WHERE listed_number IS NULL"
        deadline = time.monotonic() + _LONGEST_SECONDS
        while await _scalar(database, waiting):
            if time.monotonic() > deadline:
                raise RuntimeError("what was seeded is not encoded")
            await asyncio.sleep(0.5)
        raw = await raw_rows(database, 2_000)
        names = [f"mc-{number}" for number in range(there, there + single)]
        await _one_by_one(town, names[:50])
        used = Used(town, database_pid)
        one_by_one = await _one_by_one(town, names[50:])
        one_by_one |= used.each(single - 50)
        used = Used(town, database_pid)
        in_bulk = await asyncio.to_thread(_in_bulk, town, "bulk", bulk)
        in_bulk |= used.each(bulk)
        await _judge(database, ca_id, single + bulk, there)
        return {
            "already_revoked": there,
            "raw_rows_per_second": raw,
            "one_by_one": one_by_one,
            "in_bulk": in_bulk,
            "each_exactly_once": True,
        }
    finally:
        await database.close()


def _measure(
    folder: Path, server: Postgres | None, there: int, single: int, bulk: int, processes: int
) -> dict[str, Any]:
    folder.mkdir(parents=True)
    url, pid = (server.new_database(), server.process.pid) if server else (None, None)
    more = {"CERTCTL_SERVER_PROCESSES": str(processes)} if url else {}
    with fleet(
        folder, url, CERTCTL_LOG_LEVEL="warn", CERTCTL_STEP_LEASE="30s", CERTCTL_RATE_LIMIT_ENABLED="false", **more
    ) as town:
        town.start_server()
        town.bootstrap()
        return asyncio.run(_revoke(town, url or f"sqlite:///{town.server_dir}/certctl.db", there, single, bulk, pid))


def main(given: list[str] | None = None) -> int:
    """Measure, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--there", type=int, nargs="+", default=[1_000, 1_000_000])
    parser.add_argument("--single", type=int, default=5_000)
    parser.add_argument("--bulk", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args(given)
    figures: dict[str, Any] = {"load_before": load()}
    with tempfile.TemporaryDirectory(prefix="certctl-revoke-") as folder:
        for there in asked.there:
            sizes = (there, asked.single, asked.bulk, asked.processes)
            if asked.only != "sqlite":
                with postgres() as server:
                    measured = _measure(Path(folder) / f"pg-{there}", server, *sizes)
                    figures.setdefault("postgresql", []).append(measured)
            if asked.only != "postgresql":
                measured = _measure(Path(folder) / f"sqlite-{there}", None, *sizes)
                figures.setdefault("sqlite", []).append(measured)
    tell("revoke", figures, keep=asked.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
