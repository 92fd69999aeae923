"""`make bench BENCH=summary`: the summary of 100,000 certificates and as many jobs, computed afresh, beside one count.

Usage: bench/run.py summary [--only DATABASE] [--keep]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import sqlalchemy as sa
from kit import arguments, load, tell

from certctl.core.ids import DEFAULT_TENANT
from certctl.core.scope import Reach, Scope
from certctl.core.status import CertificateStatus, JobStatus, JobType
from certctl.store import migrate, schema, stats
from certctl.store.tx import Database
from peers.postgres import postgres

_BATCH = 5_000
_STATUSES = (*[CertificateStatus.ACTIVE] * 7, CertificateStatus.EXPIRING, CertificateStatus.REVOKED, "Archived")


async def _seed(database: Database, count: int, now: datetime) -> None:
    for first in range(0, count, _BATCH):
        numbers = range(first, min(first + _BATCH, count))
        async with database.begin("bench") as tx:
            await tx.execute(sa.insert(schema.certificates), [_certificate(number, now) for number in numbers])
            await tx.execute(sa.insert(schema.jobs), [_job(number, now) for number in numbers])
    if database.dialect == "postgresql":
        async with database.engine.connect() as connection:
            outside = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await outside.execute(sa.text("VACUUM ANALYZE"))


def _certificate(number: int, now: datetime) -> dict[str, object]:
    return {
        "tenant_id": DEFAULT_TENANT,
        "id": f"mc-{number}",
        "name": f"n{number}.bench.example",
        "common_name": f"n{number}.bench.example",
        "sans": [f"n{number}.bench.example", f"www.n{number}.bench.example"],
        "team_id": f"team-{number % 50}",
        "tags": {"service": f"s{number % 100}"},
        "status": _STATUSES[number % len(_STATUSES)],
        "expires_at": now + timedelta(minutes=number % 129_600 - 1000),
        "created_at": now,
        "updated_at": now,
    }


def _job(number: int, now: datetime) -> dict[str, object]:
    status = JobStatus.COMPLETED if number % 20 else JobStatus.FAILED
    return {
        "tenant_id": DEFAULT_TENANT,
        "id": f"job-{number}",
        "type": JobType.RENEWAL,
        "certificate_id": f"mc-{number}",
        "status": status,
        "idempotency_key": f"k{number}",
        "body": {},
        "scheduled_at": now,
        "completed_at": now - timedelta(minutes=number % 43_200),
        "created_at": now,
    }


async def _measure(url: str, count: int, rounds: int) -> dict[str, float]:
    database, now = Database(url), datetime.now(UTC)
    try:
        await migrate.migrate(database)
        await _seed(database, count, now)
        figures: dict[str, float] = {"certificates": count, "limit_count_p50_ms": await _count_alone(database, rounds)}
        scopes = {"whole": Scope.whole(DEFAULT_TENANT), "one_team": Scope(DEFAULT_TENANT, (Reach(teams=("team-1",)),))}
        for name, scope in scopes.items():
            took = []
            for _ in range(rounds):
                started = time.perf_counter()
                async with database.read() as tx:
                    found = await stats.summary(tx, scope, now)
                took.append(time.perf_counter() - started)
            # a tenth was put away, and no certificate of that team
            if found.total_certificates != (count * 9 // 10 if name == "whole" else count // 50):
                raise RuntimeError(f"counted {found.total_certificates}")
            figures[f"{name}_p50_ms"] = round(1000 * statistics.median(took), 2)
            figures[f"{name}_worst_ms"] = round(1000 * max(took), 2)
        return figures
    finally:
        await database.close()


async def _count_alone(database: Database, rounds: int) -> float:
    """The limit: one exact count of the inventory, and nothing else."""
    statement, took = sa.select(sa.func.count()).select_from(schema.certificates), []
    async with database.read() as tx:
        for _ in range(rounds):
            started = time.perf_counter()
            await tx.scalar(statement)
            took.append(time.perf_counter() - started)
    return round(1000 * statistics.median(took), 2)


def summary(directory: Path, url: str | None, count: int = 100_000, rounds: int = 40) -> dict[str, float]:
    """Milliseconds to compute the summary, never from the two-second cache: what its unluckiest caller waits for."""
    return asyncio.run(_measure(url or f"sqlite:///{directory}/summary.db", count, rounds))


def main(given: list[str] | None = None) -> int:
    """Measure, print, keep."""
    asked = arguments(__doc__).parse_args(given)
    figures: dict[str, object] = {"load_before": load()}
    with tempfile.TemporaryDirectory(prefix="certctl-summary-") as folder:
        if asked.only != "sqlite":
            with postgres() as server:
                figures["postgresql"] = summary(Path(folder), server.new_database())
        if asked.only != "postgresql":
            figures["sqlite"] = summary(Path(folder), None)
    tell("summary", figures, keep=asked.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
