"""Those who ask for certificates at the same time are served together, in two halves (ADR 44): what is intended is
written by one commit for all of a group, then it is signed and recorded.

Who comes first is served at once; who comes while that is being written waits, and goes with the next group. So a quiet
process is as quick as ever, and a busy one commits less often, not later. A CA that takes its time holds up nobody
but those who asked it. Keeps nothing of any call.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Generic, TypeVar

from msgspec import Struct

from certctl.core.errors import CallerError, CertctlError, Temporary
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

MOST_WAITING = 2_000
# the next group begins when the one before is recorded, or a CA has taken so long over it
PATIENCE_SECONDS = 0.05

WishT = TypeVar("WishT")
MemberT = TypeVar("MemberT")


class _Written(Struct, Generic[MemberT], frozen=True):
    """What was found of a wish, and the task that has its group signed and recorded."""

    found: MemberT | CallerError | None
    finishing: asyncio.Task[None] | None


class Groups(Generic[WishT, MemberT]):
    """The groups of one kind of wish in one process. `intend` answers each with the member that it has written, what
    refuses it, or None for one that has to go alone; `finish` has members signed and recorded.
    """

    def __init__(
        self,
        name: str,
        intend: Callable[[Sequence[WishT]], Awaitable[Sequence[MemberT | CallerError | None]]],
        finish: Callable[[Sequence[MemberT]], Awaitable[None]],
        *,
        most_at_once: int,
    ) -> None:
        self._name = name
        self._intend = intend
        self._finish = finish
        self._most_at_once = most_at_once
        self._waiting: list[tuple[WishT, asyncio.Future[_Written[MemberT]]]] = []
        self._task: asyncio.Task[None] | None = None
        # what goes on when its callers have their answers: kept here, or nobody would hold on to it
        self._finishing: set[asyncio.Task[None]] = set()

    async def ask(self, wish: WishT, budget: timedelta) -> MemberT | None:
        """The member that comes of a wish: finished, or still under way when `budget` is over. None: nothing was
        written, and it has to go alone. Raises what refuses it, and Temporary.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise Temporary("more ask than can be answered; come back later")
        answer: asyncio.Future[_Written[MemberT]] = asyncio.get_running_loop().create_future()
        self._waiting.append((wish, answer))
        if self._task is None or self._task.done():
            # nobody's call in particular: it carries no request id, and no witness but those of its wishes
            self._task = asyncio.create_task(self._go(), name=self._name, context=contextvars.Context())
        # whoever goes away takes nobody's certificate along
        written = await asyncio.shield(answer)
        if isinstance(written.found, CallerError):
            raise written.found
        if written.found is not None and written.finishing is not None:
            await asyncio.wait({written.finishing}, timeout=budget.total_seconds())
        return written.found

    def finish(self, found: Sequence[MemberT | CallerError | None]) -> asyncio.Task[None] | None:
        """Have those of these that are members signed and recorded: the task that does it, if there are any."""
        members = [one for one in found if one is not None and not isinstance(one, CallerError)]
        if not members:
            return None
        name = f"{self._name}-finish"
        task = asyncio.create_task(self._finish_all(members), name=name, context=contextvars.Context())
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        return task

    async def _go(self) -> None:
        while self._waiting:
            group = self._waiting[: self._most_at_once]
            del self._waiting[: self._most_at_once]
            try:
                found = await self._intend([wish for wish, _ in group])
            except Exception as error:
                _fail([answer for _, answer in group], error)
                continue
            except BaseException:
                left, self._waiting = self._waiting, []
                _fail([answer for _, answer in (*group, *left)], Temporary("the server is ending"))
                raise
            finishing = self.finish(found)
            for (_, answer), one in zip(group, found, strict=True):
                if not answer.done():
                    answer.set_result(_Written(one, finishing))
            if finishing is not None:
                await asyncio.wait({finishing}, timeout=PATIENCE_SECONDS)

    async def _finish_all(self, members: Sequence[MemberT]) -> None:
        """What fails here is settled by whoever has the steps when their leases lapse: nobody waits for it any more."""
        try:
            await self._finish(members)
        except CertctlError as error:
            log.warning("group_not_finished", group=self._name, error=error)
        except Exception:
            log.exception("group_not_finished", group=self._name)


def _fail(answers: Sequence[asyncio.Future[_Written[MemberT]]], error: Exception) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_exception(error)
            with contextlib.suppress(asyncio.CancelledError):
                answer.exception()  # seen: who asked may have gone
