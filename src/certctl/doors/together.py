"""Questions that many callers ask the database at the same time, answered by one statement for all of them.

Whoever asks first is answered by a statement of their own; who asks while it is out waits for the next one. So a quiet
process is as quick as ever and a busy one asks less often, not later. Nothing is remembered: what is answered was read
after it was asked.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Generic, TypeVar

from certctl.core.errors import Temporary

Key = TypeVar("Key")
Found = TypeVar("Found")

MOST_AT_ONCE = 500
MOST_WAITING = 2_000


class Together(Generic[Key, Found]):
    """One question of one process. `ask` is given keys that differ; what it leaves out of its answer is not there."""

    def __init__(
        self,
        name: str,
        ask: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Found]]],
        *,
        most_at_once: int = MOST_AT_ONCE,
    ) -> None:
        self._name = name
        self._ask = ask
        self._most_at_once = most_at_once
        self._waiting: dict[Key, asyncio.Future[Found | None]] = {}
        self._task: asyncio.Task[None] | None = None
        # seconds that the last statement took
        self._took = 0.0

    def refuse_a_queue(self) -> None:
        """Temporary when so many wait that one more would wait long: to be asked again within the time they need.

        Each is told a moment of its own in that time, so that they do not come back together.
        """
        if len(self._waiting) < MOST_WAITING:
            return
        seconds = len(self._waiting) / self._most_at_once * self._took
        wait = timedelta(seconds=1 + seconds * random.random())  # noqa: S311 - spreads load, guards nothing
        raise Temporary("more call than can be answered; come back later", retry_after=wait)

    async def find(self, key: Key) -> Found | None:
        """What is there for this key, None when nothing is. Raises what `ask` raises, to all that asked with it."""
        answer = self._waiting.get(key)
        if answer is None:
            answer = self._waiting[key] = asyncio.get_running_loop().create_future()
        if self._task is None or self._task.done():
            # nobody's request in particular: it carries no request id, and no witness of a commit
            self._task = asyncio.create_task(self._answer(), name=self._name, context=contextvars.Context())
        # whoever goes away takes nobody's answer along
        return await asyncio.shield(answer)

    async def _answer(self) -> None:
        while self._waiting:
            keys = list(itertools.islice(self._waiting, self._most_at_once))
            asked = {key: self._waiting.pop(key) for key in keys}
            began = time.monotonic()
            try:
                found = await self._ask(keys)
            except asyncio.CancelledError:
                left, self._waiting = self._waiting, {}
                _fail([*asked.values(), *left.values()], Temporary("the server is ending"))
                raise
            except Exception as error:
                _fail(asked.values(), error)
            else:
                for key, answer in asked.items():
                    if not answer.done():
                        answer.set_result(found.get(key))
            self._took = time.monotonic() - began


def _fail(answers: Iterable[asyncio.Future[Found | None]], error: Exception) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_exception(error)
            answer.exception()  # seen: who asked may have gone
