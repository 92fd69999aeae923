"""How many rows a long list has: counted at most every two seconds a process, caller's reach and question.

What is short is counted for each page, and exact. Counting what is long costs more than the page it stands beside, so
that number is kept for two seconds and told with its time. Must never tell one scope what another may see: the scope is
part of the question. Bounded: the question least lately asked goes first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from certctl.core.clock import Clock
from certctl.core.scope import Scope
from certctl.store.lists import Asked, Count, Listing, Total

OLDEST = timedelta(seconds=2)
KEPT_FROM = 1000
_MOST = 1024

Question = tuple[Any, ...]
KeyT = TypeVar("KeyT")


class Totals:
    """One per process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[Question, Total] = OrderedDict()
        self._locks: dict[Question, asyncio.Lock] = {}

    async def of(self, scope: Scope, listing: Listing[Any], asked: Asked, count: Count) -> Total:
        """The total of a question, at most two seconds old when this call began; one counts while the rest wait."""
        question = _question(scope, listing, asked)
        known = self._find(question, self._clock.now())
        if known is not None:
            return known
        lock = self._locks.setdefault(question, asyncio.Lock())
        try:
            async with lock:
                as_of = self._clock.now()
                known = self._find(question, as_of)
                return known if known is not None else self._keep(question, await count(), as_of)
        finally:
            if not lock.locked():
                self._locks.pop(question, None)

    async def of_each(
        self,
        scope: Scope,
        listing: Listing[Any],
        asked: Mapping[KeyT, Asked],
        count: Callable[[Sequence[KeyT]], Awaitable[Mapping[KeyT, Total]]],
    ) -> dict[KeyT, Total]:
        """`of` for several questions: those that nobody remembers are counted together, which is for short ones only
        when the long ones are remembered.
        """
        now = self._clock.now()
        questions = {key: _question(scope, listing, each) for key, each in asked.items()}
        known = {key: total for key, each in questions.items() if (total := self._find(each, now)) is not None}
        others = await count([key for key in questions if key not in known])
        return known | {key: self._keep(questions[key], total, now) for key, total in others.items()}

    def _find(self, question: Question, now: datetime) -> Total | None:
        known = self._kept.get(question)
        # a clock that was set back must not keep a number alive
        if known is None or known.as_of is None or not timedelta(0) <= now - known.as_of < OLDEST:
            return None
        self._kept.move_to_end(question)
        return known

    def _keep(self, question: Question, total: Total, as_of: datetime) -> Total:
        self._kept.pop(question, None)
        if total.number < KEPT_FROM:
            return total
        kept = self._kept[question] = msgspec.structs.replace(total, as_of=as_of)
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return kept


def _question(scope: Scope, listing: Listing[Any], asked: Asked) -> Question:
    filters = tuple(sorted((name, tuple(values)) for name, values in asked.filters.items()))
    return (scope, listing.name, filters, tuple(sorted(asked.fixed.items())), asked.q)
