"""Lists, searches and single reads over an inventory of 100,000 certificates: real TLS, real PostgreSQL, real server.

Each kind is measured twice: 32 clients that ask as fast as they are answered (the machine is full: latency is then the
number of clients by the throughput), and the same clients at a steady rate beneath that. The load runs on the same
cores as server and database.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from certctl.store.tx import Database
from peers.fleet import Fleet, fleet
from peers.inventory import fill, host

COUNT = 100_000
CLIENTS = 32
PACED_PER_SECOND = 60


def lists(directory: Path, url: str, count: int = COUNT) -> dict[str, object]:
    """All figures, on an empty PostgreSQL database at `url`."""
    directory.mkdir(parents=True)
    workers = {"CERTCTL_SERVER_PROCESSES": str(os.cpu_count() or 1), "CERTCTL_RATE_LIMIT_ENABLED": "false"}
    with fleet(directory, url, CERTCTL_STEP_LEASE="30s", CERTCTL_LOG_LEVEL="warn", **workers) as town:
        town.start_server()
        town.bootstrap()
        started = time.perf_counter()
        asyncio.run(_fill(url, count))
        seeded = time.perf_counter() - started
        figures: dict[str, object] = {
            "certificates": count,
            "seeded_in_seconds": round(seeded, 1),
            "load_average_before": round(os.getloadavg()[0], 2),
        }
        lot = random.Random(20261126)
        asked: dict[str, Callable[[], str]] = {
            "get": lambda: f"/api/v1/certificates/cert-{lot.randrange(count):08}",
            "list_by_cursor": lambda: "/api/v1/certificates?page_size=50",
            "list_filtered": lambda: (
                f"/api/v1/certificates?owner_id=owner-{lot.randrange(50)}&status=active&page_size=50"
            ),
            "list_sorted": lambda: "/api/v1/certificates?sort=-expiresAt&page_size=50",
            "jobs": lambda: f"/api/v1/jobs?agent_id=agent-{lot.randrange(100)}&page_size=50",
            "search_name": lambda: f"/api/v1/certificates?q={host(lot.randrange(count))}",
            "search_domain": lambda: f"/api/v1/certificates?q=zone{lot.randrange(97)}.example.com&page_size=50",
        }
        for name, path in asked.items():
            asyncio.run(_load(town, path, 200, None))
            figures[name] = {
                "full": asyncio.run(_load(town, path, 1500, None)),
                f"paced_{PACED_PER_SECOND}_per_second": asyncio.run(_load(town, path, 600, PACED_PER_SECOND)),
            }
        return figures


async def _fill(url: str, count: int) -> None:
    database = Database(url)
    try:
        await fill(database, count)
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
    ordered = sorted(took)
    return {
        "requests": requests,
        "per_second": round(requests / elapsed, 1),
        "p50_ms": round(statistics.median(ordered) * 1000, 1),
        "p95_ms": round(ordered[int(0.95 * len(ordered))] * 1000, 1),
        "p99_ms": round(ordered[int(0.99 * len(ordered))] * 1000, 1),
    }


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str, path: str) -> None:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    lengths = [line.partition(":")[2] for line in lines if line.lower().startswith("content-length:")]
    body = await reader.readexactly(int(lengths[0]))
    if " 200 " not in status + " ":
        raise RuntimeError(f"{path}: {status} {json.loads(body).get('message')}")
