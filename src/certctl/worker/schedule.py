"""Ticks: each takes a database lease, so that N replicas run one of each; they enqueue, and leave the work to the
steps.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from functools import partial

import structlog
from msgspec import Struct

from certctl.control import audit, batches, ca_asks, ca_proofs, hierarchy, sessions
from certctl.core.errors import CertctlError
from certctl.doors.idempotency import forget_answers
from certctl.lifecycle import compliance, flow, lapse, notify, observe, prove, publish, renew, suggest
from certctl.lifecycle.context import Context
from certctl.store import counters, statistics, ticks

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.5


class Tick(Struct, frozen=True):
    """Something that is looked at every so often. `run` returns how much it found; a full batch is followed at once."""

    name: str
    every: timedelta
    run: Callable[[Context], Awaitable[int]]


def standard_ticks(
    *,
    renewal: timedelta,
    agent_health: timedelta,
    crl: timedelta,
    lapsed: timedelta = timedelta(seconds=1),
    counting: timedelta = timedelta(seconds=10),
    policies: timedelta = timedelta(seconds=5),
    hierarchies: timedelta = timedelta(minutes=1),
    sweep: timedelta = timedelta(hours=1),
    batches_kept: timedelta = timedelta(days=90),
    sealing: timedelta = timedelta(seconds=2),
    verifying: timedelta = timedelta(minutes=5),
    walking: timedelta = timedelta(hours=6),
    suggesting: timedelta = timedelta(seconds=30),
    telling: timedelta = timedelta(seconds=1),
    lapsing: timedelta = timedelta(minutes=1),
    listing: timedelta = timedelta(seconds=1),
    planning: timedelta = timedelta(seconds=5),
) -> tuple[Tick, ...]:
    """The ticks of a control plane."""
    return (
        Tick("leases", lapsed, flow.free_lapsed),
        Tick("renew", renewal, renew.tick_all),
        Tick("suggest", suggesting, _ask_all),
        Tick("prove", suggesting, prove.tick),
        Tick("lapse", lapsing, lapse.tick),
        Tick("observe", agent_health, observe.tick),
        Tick("publish", crl, publish.tick),
        Tick("crl", listing, publish.list_revoked),
        Tick("count", counting, _fold_counters),
        Tick("policies", policies, _evaluate_all),
        Tick("hierarchy", hierarchies, hierarchy.finish),
        Tick("forget", timedelta(minutes=10), forget_answers),
        Tick("sessions", sweep, sessions.sweep),
        Tick("batches", timedelta(hours=1), partial(batches.purge, kept=batches_kept)),
        Tick("asks", timedelta(hours=1), ca_asks.sweep),
        Tick("proofs", timedelta(minutes=5), ca_proofs.sweep),
        Tick("notify", telling, _tell_all),
        Tick("statistics", planning, _look_at_tables),
        Tick("seal", sealing, audit.seal_all),
        Tick("seal.verify", min(verifying, walking), partial(audit.verify_due, walk_every=walking)),
    )


async def _fold_counters(ctx: Context) -> int:
    folded = 0
    while True:
        async with ctx.database.begin("count.fold") as tx:
            rows = await counters.fold(tx, ctx.scope)
        folded += rows
        if rows < counters.FULL:
            return folded


async def _look_at_tables(ctx: Context) -> int:
    return len(await statistics.keep_up(ctx.database, ctx.scope))


async def _ask_all(ctx: Context) -> int:
    looked = 0
    while found := await suggest.tick(ctx):
        looked += found
    return looked


async def _tell_all(ctx: Context) -> int:
    told = 0
    while found := await notify.tick(ctx):
        told += found
    return told


async def _evaluate_all(ctx: Context) -> int:
    looked = 0
    while found := await compliance.tick(ctx):
        looked += found
    return looked


class Schedule:
    """Runs the ticks of one tenant until told to stop."""

    def __init__(self, ctx: Context, every: Sequence[Tick], looked: Callable[[], None] = lambda: None) -> None:
        """`looked` hears of each time that the database let a tick be taken, or said that none is due: a database that
        is read but not written lets none be taken, so that they stay due.
        """
        self._ctx = ctx
        self._ticks = every
        self._looked = looked
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Start no further tick."""
        self._stop.set()

    async def run(self) -> None:
        """One look for all of them; each that is due runs in a task of its own: a slow one delays no other."""
        pause = min([_LOOK_SECONDS, *(tick.every.total_seconds() / 2 for tick in self._ticks)])
        running: set[str] = set()
        async with asyncio.TaskGroup() as group:
            while not self._stop.is_set():
                for tick in await self._due(running):
                    running.add(tick.name)
                    task = group.create_task(self._try(tick), name=f"tick-{tick.name}")
                    task.add_done_callback(lambda _, name=tick.name: running.discard(name))  # type: ignore[misc]
                await self._rest(pause)

    async def _due(self, running: Collection[str]) -> list[Tick]:
        """Those that may be taken and do not run here. When the database does not answer, none."""
        try:
            async with self._ctx.database.read() as tx:
                at_rest = await ticks.at_rest(tx, self._ctx.scope, self._ctx.now())
        except CertctlError as error:
            log.warning("ticks_not_looked_at", error=error.message, detail=error.detail)
            return []
        except Exception:
            log.exception("ticks_not_looked_at")
            return []
        due = [tick for tick in self._ticks if tick.name not in at_rest and tick.name not in running]
        if not due:
            self._looked()
        return due

    async def _try(self, tick: Tick) -> None:
        try:
            fence = await self._take(tick)
            if fence is not None:
                await self._run(tick, fence)
        except CertctlError as error:
            log.warning("tick_failed", tick=tick.name, error=error.message, detail=error.detail)
        except Exception:
            log.exception("tick_failed", tick=tick.name)

    async def _take(self, tick: Tick) -> int | None:
        ctx, lease = self._ctx, self._lease_of(tick)
        async with ctx.database.begin("tick") as tx:
            fence = await ticks.take(tx, ctx.scope, tick.name, ctx.owner, tick.every, ctx.now(), lease)
        self._looked()
        return fence

    def _lease_of(self, tick: Tick) -> timedelta | None:
        lease = self._ctx.patience.lease
        return lease if tick.every > lease else None

    async def _run(self, tick: Tick, fence: int) -> None:
        """Run it; with a lease when the next period is far: a tick that fails or dies is taken again as it lapses."""
        if self._lease_of(tick) is None:
            await tick.run(self._ctx)
            return
        keeper = asyncio.create_task(self._keep_lease(tick, fence), name=f"tick-{tick.name}-lease")
        try:
            await tick.run(self._ctx)
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        async with self._ctx.database.begin("tick.end") as tx:
            await ticks.end(tx, self._ctx.scope, tick.name, fence)

    async def _keep_lease(self, tick: Tick, fence: int) -> None:
        ctx, lease = self._ctx, self._ctx.patience.lease
        while True:
            await asyncio.sleep(lease.total_seconds() / 3)
            try:
                async with ctx.database.begin("tick.lease") as tx:
                    await ticks.keep(tx, ctx.scope, tick.name, fence, ctx.now() + lease)
            except CertctlError as error:
                log.warning("tick_lease_not_kept", tick=tick.name, error=error.message)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return
