"""`make bench BENCH=lists`: lists, searches and single reads over 100,000 certificates, on both databases.

Real TLS, a real database, real server processes; the load runs on the same cores. Each kind is measured twice: 32
clients that ask as fast as they are answered (the machine is full: latency is then the number of clients by the
throughput), and the same clients at a steady rate beneath that. Beside them stand the limits of the same run: a route
that asks nothing of the database, and the statement of the same page alone. Usage: bench/run.py lists
[--certificates N] [--only DATABASE] [--keep]
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from kit import arguments, load, milliseconds, tell

from certctl.core.scope import Scope
from certctl.store.listings import CERTIFICATES, JOBS
from certctl.store.lists import Asked, Listing, rows_wanted
from certctl.store.tx import Database
from peers.fleet import Fleet, fleet
from peers.inventory import TENANT, fill, host
from peers.postgres import postgres

CLIENTS = 32
PACED_PER_SECOND = 30
WARM, FULL, PACED = 64, 600, 300
SEED = 20261126


def lists(directory: Path, url: str | None, count: int) -> dict[str, Any]:
    """All figures, on an empty PostgreSQL database at `url`, else on SQLite."""
    directory.mkdir(parents=True)
    processes = os.cpu_count() or 1 if url else 1
    more = {"CERTCTL_SERVER_PROCESSES": str(processes)} if url else {}
    quiet = {"CERTCTL_RATE_LIMIT_ENABLED": "false", "CERTCTL_STEP_LEASE": "30s", "CERTCTL_LOG_LEVEL": "warn"}
    with fleet(directory, url, **quiet, **more) as town:
        town.start_server()
        town.bootstrap()
        if url is None:
            town.stop_server()
        at = url or f"sqlite:///{town.server_dir}/certctl.db"
        started = time.perf_counter()
        asyncio.run(_fill(at, count))
        figures: dict[str, Any] = {
            "certificates": count,
            "server_processes": processes,
            "seeded_in_seconds": round(time.perf_counter() - started, 1),
            "load_before": load(),
            "limit_statement_alone": asyncio.run(_statements(at)),
        }
        if url is None:
            town.start_server()
        for name, path in _asked(count).items():
            asyncio.run(_load(town, path, WARM, None))
            figures[name] = {
                "load_before": load(),
                "full": asyncio.run(_load(town, path, FULL, None)),
                f"paced_{PACED_PER_SECOND}_per_second": asyncio.run(_load(town, path, PACED, PACED_PER_SECOND)),
            }
            sys.stderr.write(f"{name}: {json.dumps(figures[name])}\n")
        return figures


def _asked(count: int) -> dict[str, Callable[[], str]]:
    lot = random.Random(SEED)
    return {
        "limit_no_database": lambda: "/health",
        "get": lambda: f"/api/v1/certificates/cert-{lot.randrange(count):08}",
        "list_by_cursor": lambda: "/api/v1/certificates?page_size=50",
        "list_filtered": lambda: f"/api/v1/certificates?owner_id=owner-{lot.randrange(50)}&status=active&page_size=50",
        "list_sorted": lambda: "/api/v1/certificates?sort=-expiresAt&page_size=50",
        "jobs": lambda: f"/api/v1/jobs?agent_id=agent-{lot.randrange(100)}&page_size=50",
        "search_name": lambda: f"/api/v1/certificates?q={host(lot.randrange(count))}",
        "search_domain": lambda: f"/api/v1/certificates?q=zone{lot.randrange(97)}.example.com&page_size=50",
    }


async def _fill(url: str, count: int) -> None:
    database = Database(url)
    try:
        await fill(database, count)
    finally:
        await database.close()


async def _statements(url: str) -> dict[str, dict[str, float]]:
    """The one statement of each page, run by one connection and read to its end: no server, no JSON, no total."""
    owner, agent = {"owner_id": ("owner-7",), "status": ("Active",)}, {"agent_id": ("agent-7",)}
    pages: dict[str, tuple[Listing[Any], Asked]] = {
        "list_by_cursor": (CERTIFICATES, Asked(sort="createdAt")),
        "list_filtered": (CERTIFICATES, Asked(sort="createdAt", filters=owner)),
        "list_sorted": (CERTIFICATES, Asked(sort="expiresAt", descending=True)),
        "jobs": (JOBS, Asked(sort="createdAt", descending=True, filters=agent)),
        "search_name": (CERTIFICATES, Asked(sort="createdAt", q=host(4))),
        "search_domain": (CERTIFICATES, Asked(sort="createdAt", q="zone7.example.com")),
    }
    database, found = Database(url), {}
    try:
        async with database.read() as tx:
            for name, (listing, asked) in pages.items():
                statement = rows_wanted(Scope.whole(TENANT), listing, asked)
                took = []
                for number in range(60):
                    started = time.perf_counter()
                    (await tx.execute(statement)).all()
                    if number >= 10:
                        took.append(time.perf_counter() - started)
                found[name] = milliseconds(took)
        return found
    finally:
        await database.close()


async def _load(town: Fleet, path: Callable[[], str], requests: int, per_second: float | None) -> dict[str, float]:
    context = ssl.create_default_context(cafile=str(town.ca_path))
    waiting = iter(range(requests))
    took: list[float] = []
    begun = time.perf_counter()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("localhost", town.api_port, ssl=context)
        try:
            for number in waiting:
                if per_second is not None:
                    # latency counts from when the request was due, so that a stall is not left out
                    due = begun + number / per_second
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    started = due
                else:
                    started = time.perf_counter()
                await _ask(reader, writer, town.key, path())
                took.append(time.perf_counter() - started)
        finally:
            writer.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    elapsed = time.perf_counter() - begun
    return {"requests": requests, "per_second": round(requests / elapsed, 1), **milliseconds(took)}


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str, path: str) -> None:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    lengths = [line.partition(":")[2] for line in lines if line.lower().startswith("content-length:")]
    body = await reader.readexactly(int(lengths[0]))
    if " 200 " not in status + " ":
        raise RuntimeError(f"{path}: {status} {json.loads(body).get('message')}")


def main(given: list[str] | None = None) -> int:
    """Measure, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--certificates", type=int, default=100_000)
    asked = parser.parse_args(given)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="certctl-lists-") as folder:
        if asked.only != "sqlite":
            with postgres() as server:
                figures["postgresql"] = lists(Path(folder) / "pg", server.new_database(), asked.certificates)
        if asked.only != "postgresql":
            figures["sqlite"] = lists(Path(folder) / "sqlite", None, asked.certificates)
    tell("lists", figures, keep=asked.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
