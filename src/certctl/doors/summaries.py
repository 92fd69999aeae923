"""The summary's counts, computed at most once a second a process and scope, and never shown older than two.

A dashboard open in a hundred browsers costs one computation: who comes in the second second has it counted anew and
waits a moment for it, where the last count took no longer, while the rest are shown what is known; they wait only where
nothing is. Must never show one scope what another may see: the scope is the key. Bounded: the least lately used scope
goes first.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from datetime import timedelta

import structlog

from certctl.core.scope import Scope
from certctl.lifecycle.context import Context
from certctl.store import stats
from certctl.store.stats import Summary

log = structlog.get_logger(__name__)

FRESH = timedelta(seconds=1)
OLDEST = timedelta(seconds=2)
# how long who has it counted anew waits where there is one to show meanwhile; a million are counted in longer
PATIENCE_SECONDS = 0.05
_MOST_SCOPES = 1024


class Summaries:
    """One per process."""

    def __init__(self) -> None:
        # and in how many seconds it was counted
        self._known: OrderedDict[Scope, tuple[Summary, float]] = OrderedDict()
        self._locks: dict[Scope, asyncio.Lock] = {}
        # an event loop forgets a task that nobody holds
        self._counting: set[asyncio.Task[Summary]] = set()

    async def of(self, ctx: Context, scope: Scope) -> Summary:
        """The counts of a scope, at most two seconds old when this call began."""
        # where somebody is counting already, what is not too old will do
        known = self._find(scope, ctx, OLDEST if scope in self._locks else FRESH)
        if known is not None:
            return known
        older = self._find(scope, ctx, OLDEST)
        if older is None:
            return await self._count(ctx, scope)
        counting = asyncio.create_task(self._count(ctx, scope))
        self._counting.add(counting)
        counting.add_done_callback(self._counted)
        if self._known[scope][1] > PATIENCE_SECONDS:
            return older  # waiting would be for nothing
        done, _ = await asyncio.wait({counting}, timeout=PATIENCE_SECONDS)
        return counting.result() if done else older

    def _counted(self, task: asyncio.Task[Summary]) -> None:
        self._counting.discard(task)
        # told to who waited, or else to nobody: the next who comes counts again
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("summary_not_counted", error=str(error))

    async def _count(self, ctx: Context, scope: Scope) -> Summary:
        """One counts while the rest wait for what it finds."""
        lock = self._locks.setdefault(scope, asyncio.Lock())
        try:
            async with lock:
                known = self._find(scope, ctx, FRESH)
                if known is not None:
                    return known
                now, began = ctx.now(), time.monotonic()
                async with ctx.database.read() as tx:
                    made = await stats.summary(tx, scope, now)
                self._keep(scope, made, time.monotonic() - began)
                return made
        finally:
            if not lock.locked():
                self._locks.pop(scope, None)

    def _find(self, scope: Scope, ctx: Context, oldest: timedelta) -> Summary | None:
        known = self._known.get(scope)
        # a clock that was set back must not keep a summary alive
        if known is None or not timedelta(0) <= ctx.now() - known[0].as_of < oldest:
            return None
        self._known.move_to_end(scope)
        return known[0]

    def _keep(self, scope: Scope, made: Summary, seconds: float) -> None:
        self._known[scope] = made, seconds
        self._known.move_to_end(scope)
        while len(self._known) > _MOST_SCOPES:
            self._known.popitem(last=False)
