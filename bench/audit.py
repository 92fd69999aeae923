"""`make bench BENCH=audit`: what eight writers append a second beside the sealer, and how long verifying takes.

Writers are processes of their own, each commits one event, then ten, at a time; the sealer follows them. Then the log
is filled up to `--events` and sealed; the whole is verified, and once more after one new event.
Usage: bench/run.py audit [--only DATABASE] [--events N] [--seconds N] [--writers N] [--keep]
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from kit import arguments, load, tell

from certctl import settings as settings_module
from certctl.bootstrap import House, open_house
from certctl.control import audit
from certctl.core.actor import Actor, ActorType
from certctl.core.events import Event, EventType
from certctl.core.ids import DEFAULT_TENANT
from certctl.core.scope import Scope
from certctl.ledger import append
from certctl.store.tx import Database
from peers.postgres import postgres

_FILL = 2000
_SETTLE_SECONDS = 60


def _event(number: int) -> Event:
    actor = Actor(f"user-{number % 20}", ActorType.USER, f"req-{number}", "203.0.113.7")
    details = {"fields": ["environment"], "before": {"environment": "test"}, "after": {"environment": "prod"}}
    return Event(
        type=EventType.CERTIFICATE_UPDATED,
        subject_type="certificate",
        subject_id=f"mc-{number % 100_000}",
        actor=actor,
        details=details,
    )


def _write(url: str, seconds: float, together: int, begin: float) -> int:
    """One writer: how many events it committed."""
    return asyncio.run(_write_on(url, seconds, together, begin))


async def _write_on(url: str, seconds: float, together: int, begin: float) -> int:
    database, scope, written = Database(url), Scope.whole(DEFAULT_TENANT), 0
    try:
        async with database.read():
            pass
        await asyncio.sleep(max(0.0, begin - time.time()))
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            async with database.begin("bench") as tx:
                await append(tx, scope, datetime.now(UTC), *(_event(written + each) for each in range(together)))
            written += together
        return written
    finally:
        await database.close()


async def _appended(house: House, url: str, writers: int, seconds: float, together: int) -> float:
    """Events a second of all writers, the sealer at work beside them."""
    done = asyncio.Event()

    async def follow() -> None:
        while not done.is_set():
            await audit.seal_all(house.ctx)
            await asyncio.sleep(0.5)

    sealer = asyncio.create_task(follow())
    context = multiprocessing.get_context("spawn")
    with context.Pool(writers) as pool:
        begin = time.time() + _SETTLE_SECONDS / 10
        each = pool.starmap_async(_write, [(url, seconds, together, begin)] * writers)
        counts = await asyncio.to_thread(each.get)
    done.set()
    await sealer
    return round(sum(counts) / seconds, 1)


async def _fill(house: House, number: int) -> float:
    """Fill the log up and seal it; seconds a million events would take to seal."""
    scope = house.ctx.scope
    await audit.seal_all(house.ctx)
    missing = number - (await audit.read(house.ctx)).tree.size
    for first in range(0, max(missing, 0), _FILL):
        events = [_event(first + each) for each in range(min(_FILL, missing - first))]
        async with house.database.begin("bench") as tx:
            await append(tx, scope, datetime.now(UTC), *events)
    started = time.perf_counter()
    sealed = await audit.seal_all(house.ctx)
    return round((time.perf_counter() - started) * 1_000_000 / max(sealed, 1), 1)


async def _measure(url: str, directory: Path, events: int, seconds: float, writers: int) -> dict[str, float]:
    environment = {"CERTCTL_DATA_DIR": str(directory), "CERTCTL_DATABASE_URL": url, "CERTCTL_LOG_LEVEL": "error"}
    environment["CERTCTL_CONFIG_ENCRYPTION_KEY"] = "a-key-of-the-bench-that-is-long-enough"
    async with open_house(settings_module.load(environment)) as house:
        figures: dict[str, float] = {"writers": writers}
        for together in (1, 10):
            rate = await _appended(house, url, writers, seconds, together)
            figures[f"appends_per_second_{together}_a_commit"] = rate
        figures["sealing_a_million_seconds"] = await _fill(house, events)
        gc.freeze()  # as a server does before it serves
        started = time.perf_counter()
        found = await audit.verify_all(house.ctx)
        took = time.perf_counter() - started
        if found.broken is not None:
            raise RuntimeError(f"the log does not hold: {found}")
        figures |= {"verified_events": found.size, "verify_whole_seconds": round(took, 2)}
        figures["verify_a_million_seconds"] = round(took * 1_000_000 / found.size, 2)
        async with house.database.begin("bench") as tx:
            await append(tx, house.ctx.scope, datetime.now(UTC), _event(0))
        await audit.seal_all(house.ctx)
        started = time.perf_counter()
        await audit.verify_due(house.ctx, house.ctx.patience.responder_validity)
        figures["verify_one_more_ms"] = round(1000 * (time.perf_counter() - started), 1)
        return figures


def main(given: list[str] | None = None) -> int:
    """Measure, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--writers", type=int, default=8)
    asked = parser.parse_args(given)
    figures: dict[str, object] = {"load_before": load()}
    with tempfile.TemporaryDirectory(prefix="certctl-audit-") as folder:
        if asked.only != "sqlite":
            with postgres() as server:
                url = server.new_database()
                run = _measure(url, Path(folder) / "postgresql", asked.events, asked.seconds, asked.writers)
                figures["postgresql"] = asyncio.run(run)
        if asked.only != "postgresql":
            url = f"sqlite:///{folder}/audit.db"
            run = _measure(url, Path(folder) / "sqlite", asked.events, asked.seconds, asked.writers)
            figures["sqlite"] = asyncio.run(run)
    tell("audit", figures, keep=asked.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
