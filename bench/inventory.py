"""`make bench BENCH=inventory`: what one read costs against the size of the inventory: 10^4, 10^5, 10^6 certificates.

Kept seeds (`bench/run.py seed`), made first where they are not there yet; one real server process on PostgreSQL, one
kept TLS connection, one call after the other, as one caller meets it. Beside them stands the limit of the same run: a
certificate read by its primary key with raw SQL on a kept connection. Also: from the start of a process to its first
ready answer, its memory, and, with --tick, the renewal tick in a copy of the seed: 32 of 1,000 certificates fall due at
once and are found and handed to their agents. Usage: bench/run.py inventory [--sizes N,N,...] [--rounds N] [--tick]
[--keep]
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import asyncpg
import httpx
import kept
import seed
from kit import arguments, load, milliseconds, tell
from ladder import memory_mib, tree

from certctl import settings
from certctl.bootstrap import open_house
from certctl.lifecycle import renew
from peers.fleet import Fleet, fleet
from peers.postgres import Postgres

SEED = 20261127
WARM = 15
DUE_OF_THOUSAND = 32
_SUMMARY = "/api/v1/stats/summary"


def asked(count: int) -> dict[str, Callable[[], str]]:
    """What is asked, by name."""
    lot = random.Random(SEED)
    certificates = "/api/v1/certificates"
    return {
        "limit_no_database": lambda: "/health",
        "get": lambda: f"{certificates}/{seed.certificate_id(lot.randrange(count))}",
        "list": lambda: f"{certificates}?page_size=50",
        "list_by_end": lambda: f"{certificates}?sort=expiresAt&page_size=50",
        "list_of_owner": lambda: (
            f"{certificates}?owner_id=owner-{lot.randrange(seed.OWNERS):02}&status=active&page_size=50"
        ),
        "list_failed": lambda: f"{certificates}?status=failed&sort=-createdAt&page_size=50",
        "search_name": lambda: f"{certificates}?q={seed.host(lot.randrange(count))}",
        "search_prefix": lambda: f"{certificates}?q={seed.host(lot.randrange(count))[:11]}",
        "search_domain": lambda: f"{certificates}?q=zone{lot.randrange(seed.ZONES):02}.example.com&page_size=50",
        "page_certificates": lambda: "/certificates",
        "page_overview": lambda: "/",
        "page_certificate": lambda: f"/certificates/{seed.certificate_id(lot.randrange(count))}",
    }


def measure(directory: Path, rounds: int, *, tick: bool, most_due: int = 1_000_000) -> dict[str, Any]:
    """All figures of one seed."""
    facts = kept.facts_of(directory)
    count = int(facts["certificates"])
    with kept.started(directory) as server:
        url = kept.url_of(server)
        size = int(server.sql(f"SELECT pg_database_size('{kept.DATABASE}')"))
        figures: dict[str, Any] = {
            "certificates": count,
            "agents": facts["agents"],
            "database_mib": round(size / 2**20, 1),
            "load_before": load(),
            "limit_sql_by_primary_key": asyncio.run(_by_primary_key(url, count, rounds)),
        }
        with fleet(directory, url, **seed.QUIET) as town:
            town.key = facts["api_key"]
            figures["start"] = _start(town)
            figures |= _reads(town, count, rounds)
            figures["summary"] = _summary(town)
            assert town.server is not None
            figures["server_mib"] = memory_mib(tree(town.server.pid))
            figures["postgresql_mib"] = memory_mib(tree(server.process.pid), "Pss")
        if tick:
            figures["renewal_tick"] = _tick_in_a_copy(server, count, most_due)
    return figures


def _start(town: Fleet) -> dict[str, float]:
    took = []
    for _ in range(3):
        town.stop_server()
        began = time.perf_counter()
        town.start_server()
        took.append(time.perf_counter() - began)
    first, again = _first_pages(town)
    return {
        "ready_seconds": round(statistics.median(took), 2),
        "first_overview_ms": first,
        "first_certificates_ms": again,
    }


def _first_pages(town: Fleet) -> tuple[float, float]:
    """The first overview and the first list after a start, as soon as it is ready."""
    with _client(town) as client:
        client.get("/health")
        took = []
        for path in ("/", "/certificates"):
            began = time.perf_counter()
            client.get(path).raise_for_status()
            took.append(round((time.perf_counter() - began) * 1000, 1))
    return took[0], took[1]


def _client(town: Fleet) -> httpx.Client:
    trust = ssl.create_default_context(cafile=str(town.ca_path))
    return httpx.Client(base_url=town.url, verify=trust, timeout=120, headers={"Authorization": f"Bearer {town.key}"})


def _reads(town: Fleet, count: int, rounds: int) -> dict[str, Any]:
    found = {}
    with _client(town) as client:
        paths = asked(count) | {"list_far_in": _far_in(client)}
        for name, path in paths.items():
            took = []
            for number in range(rounds + WARM):
                address = path()
                began = time.perf_counter()
                answer = client.get(address)
                if number >= WARM:
                    took.append(time.perf_counter() - began)
                if answer.status_code != 200:
                    raise RuntimeError(f"{address}: {answer.status_code} {answer.text[:200]}")
            found[name] = milliseconds(took)
            sys.stderr.write(f"{count} {name}: {json.dumps(found[name])}\n")
    return found


def _far_in(client: httpx.Client) -> Callable[[], str]:
    """A page a thousand rows in, by keyset."""
    path = "/api/v1/certificates?page_size=500"
    for _ in range(2):
        cursor = client.get(path).json()["next_cursor"]
        path = f"/api/v1/certificates?page_size=500&cursor={cursor}"
    cursor = client.get("/api/v1/certificates?page_size=50").json()["next_cursor"]
    return lambda: f"/api/v1/certificates?page_size=50&cursor={cursor}"


def _summary(town: Fleet) -> dict[str, Any]:
    """Asked for ten times a second by one dashboard; and counted afresh, by who comes when nobody has for a while."""
    often: list[float] = []
    alone: list[float] = []
    with _client(town) as client:
        for each, number, pause in ((often, 60, 0.1), (alone, 8, 2.1)):
            for _ in range(number):
                time.sleep(pause)
                began = time.perf_counter()
                client.get(_SUMMARY).raise_for_status()
                each.append(time.perf_counter() - began)
    return {"often": milliseconds(often), "alone": milliseconds(alone)}


async def _by_primary_key(url: str, count: int, rounds: int) -> dict[str, float]:
    lot, took = random.Random(SEED), []
    connection = await asyncpg.connect(url.replace("postgres://", "postgresql://", 1))
    try:
        get = await connection.prepare("SELECT * FROM managed_certificates WHERE tenant_id = 't-default' AND id = $1")
        for number in range(rounds + WARM):
            began = time.perf_counter()
            row = await get.fetchrow(seed.certificate_id(lot.randrange(count)))
            if number >= WARM:
                took.append(time.perf_counter() - began)
            assert row is not None
    finally:
        await connection.close()
    return milliseconds(took)


def _tick_in_a_copy(server: Postgres, count: int, most_due: int) -> dict[str, Any]:
    """The seed stays as it is: what is due is made due in a copy, which is thrown away."""
    server.sql("DROP DATABASE IF EXISTS tick")
    began = time.perf_counter()
    slowly(server, f"CREATE DATABASE tick TEMPLATE {kept.DATABASE}", "postgres")
    copied = round(time.perf_counter() - began, 1)
    try:
        due = min(count * DUE_OF_THOUSAND // 1000, most_due)
        slowly(
            server,
            "CREATE TEMP TABLE chosen AS SELECT c.id FROM managed_certificates c JOIN certificate_target_mappings m "
            "ON m.tenant_id = c.tenant_id AND m.certificate_id = c.id WHERE c.status = 'Active' ORDER BY c.id LIMIT "
            f"{due}; UPDATE certificate_versions SET not_after = now() + interval '20 days', not_before = now() - "
            "interval '70 days' WHERE certificate_id IN (SELECT id FROM chosen); UPDATE managed_certificates SET "
            "next_check_at = now(), expires_at = now() + interval '20 days' WHERE id IN (SELECT id FROM chosen); "
            "ANALYZE managed_certificates",
            "tick",
        )
        return {"copied_in_seconds": copied} | asyncio.run(_tick(kept.url_of(server, "tick")))
    finally:
        server.sql("DROP DATABASE IF EXISTS tick WITH (FORCE)")


def slowly(server: Postgres, statements: str, database: str) -> None:
    """What takes longer than a test may wait."""

    async def run() -> None:
        url = kept.url_of(server, database).replace("postgres://", "postgresql://", 1)
        connection = await asyncpg.connect(url, timeout=60)
        try:
            await connection.execute(statements, timeout=1800)
        finally:
            await connection.close()

    asyncio.run(run())


async def _tick(url: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="certctl-tick-") as folder:
        environ = {
            "CERTCTL_DATABASE_URL": url,
            "CERTCTL_CONFIG_ENCRYPTION_KEY": seed.CONFIG_KEY,
            "CERTCTL_DATA_DIR": folder,
            **seed.QUIET,
        }
        async with open_house(settings.load(environ)) as house:
            before = highest = memory_mib([os.getpid()])
            began, cpu = time.perf_counter(), time.process_time()
            ticking = asyncio.create_task(renew.tick_all(house.ctx))
            while not (await asyncio.wait({ticking}, timeout=0.2))[0]:
                highest = max(highest, memory_mib([os.getpid()]))
            looked = ticking.result()
            elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    connection = await asyncpg.connect(url.replace("postgres://", "postgresql://", 1))
    try:
        jobs = await connection.fetchval("SELECT count(*) FROM jobs WHERE type = 'Renewal' AND status <> 'Completed'")
    finally:
        await connection.close()
    return {
        "due": looked,
        "renewals_enqueued": jobs,
        "seconds": round(elapsed, 2),
        "per_second": round(looked / elapsed, 1) if looked else 0,
        "cpu_seconds_of_the_process": round(cpu, 2),
        "memory_before_mib": before,
        "memory_highest_mib": highest,
    }


def main(given: list[str] | None = None) -> int:
    """Measure, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--tick", action="store_true", help="the renewal tick too, in a copy of the seed")
    parser.add_argument("--most-due", type=int, default=1_000_000, help="look at so many in the tick at most")
    parser.add_argument("--into", type=Path, help="where the seed of one size lies, or of several each in DIR/N")
    wanted = parser.parse_args(given)
    figures: dict[str, Any] = {"database": "postgresql", "began": datetime.now(UTC).isoformat(timespec="seconds")}
    sizes = [int(each) for each in wanted.sizes.split(",")]
    for count in sizes:
        kept_in = seed.usual(count) if wanted.into is None else wanted.into / str(count)
        directory = (wanted.into if wanted.into and len(sizes) == 1 else kept_in).resolve()
        if not (directory / kept.FACTS).exists():
            seed.make(directory, count, 20261126)
        figures[str(count)] = measure(directory, wanted.rounds, tick=wanted.tick, most_due=wanted.most_due)
    tell("inventory", figures, keep=wanted.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
