"""What takes long to count, kept for a moment, so that a page of a large inventory does not wait for it.

Where counting is quick a page waits for it and is never older than a second. Where it is slow, the last counts are
shown with their time, and whoever was shown them counts anew once their page is on its way. Who gives a patience is not
kept longer than that even by the first count. Must never show one scope what another may see: the scope is part of the
key.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from msgspec import Struct

from certctl.core.scope import Scope
from certctl.lifecycle.context import Context

FRESH = timedelta(seconds=1)
OLDEST = timedelta(minutes=2)
QUICK_SECONDS = 0.15
# how long a page waits for a count that was never made, before it says so and is shown without it
PATIENCE_SECONDS = 0.25
# and where there is an older one to show meanwhile, with its time, or where the first count is known to be a long one
SHORT_PATIENCE_SECONDS = 0.05
_MOST = 512

Key = tuple[Scope, str]
Make = Callable[[], Awaitable[Any]]
Later = Callable[[], Awaitable[None]]


class Kept(Struct, frozen=True, kw_only=True):
    """Counts, when they were made, and how long that took."""

    value: Any
    as_of: datetime
    seconds: float


class Counted:
    """One per process and kind of count. Bounded: the least lately made goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        self._locks: dict[Key, asyncio.Lock] = {}
        # what is being counted before anybody has asked
        self._ahead: set[Key] = set()

    async def of(self, ctx: Context, key: Key, make: Make) -> tuple[Kept, Later | None]:
        """The counts, and what is to be called once the page is sent, when they should be made anew."""
        found = self._good(ctx, key, make)
        if found is not None:
            return found
        return await self._make(ctx, key, make), None

    async def soon(self, ctx: Context, key: Key, make: Make) -> tuple[Kept | None, Later | None]:
        """The same within the patience above: what takes longer is shown as it was counted last, however long ago, or
        not at all (None) when it never was, and is counted on once the page is sent.
        """
        found = self._good(ctx, key, make)
        if found is not None:
            return found
        making = asyncio.ensure_future(self._make(ctx, key, make))
        hurried = key in self._kept or key in self._ahead
        patience = SHORT_PATIENCE_SECONDS if hurried else PATIENCE_SECONDS
        done, _ = await asyncio.wait({making}, timeout=min(patience, PATIENCE_SECONDS))
        if done:
            return making.result(), None
        return self._kept.get(key), partial(self._rest, making)

    async def ahead(self, ctx: Context, key: Key, make: Make) -> None:
        """Count before anybody asks, unless somebody has."""
        if key not in self._kept:
            self._ahead.add(key)
            try:
                await self._make(ctx, key, make)
            finally:
                self._ahead.discard(key)

    def _good(self, ctx: Context, key: Key, make: Make) -> tuple[Kept, Later | None] | None:
        """What is young enough to be shown."""
        known = self._kept.get(key)
        age = ctx.now() - known.as_of if known is not None else OLDEST
        if known is not None and timedelta(0) <= age < OLDEST:
            if age < FRESH:
                return known, None
            if known.seconds > QUICK_SECONDS:
                return known, None if key in self._locks else partial(self._again, ctx, key, make)
        return None

    async def _rest(self, making: asyncio.Future[Kept]) -> None:
        await making

    async def _again(self, ctx: Context, key: Key, make: Make) -> None:
        await self._make(ctx, key, make)

    async def _make(self, ctx: Context, key: Key, make: Make) -> Kept:
        """One counts while the rest wait for what it finds."""
        before = self._kept.get(key)
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                known = self._kept.get(key)
                if known is not None and known is not before:
                    return known
                began, as_of = time.monotonic(), ctx.now()
                kept = Kept(value=await make(), as_of=as_of, seconds=time.monotonic() - began)
                self._kept[key] = kept
                self._kept.move_to_end(key)
                while len(self._kept) > _MOST:
                    self._kept.popitem(last=False)
                return kept
        finally:
            if not lock.locked():
                self._locks.pop(key, None)
