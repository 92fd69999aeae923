"""Clients that ask for certificates at the same time are served together (`lifecycle.together`, ADR 44).

Who comes first is served at once; who comes while that is being written waits, and goes with the next group. So a quiet
process is as quick as ever, and a busy one commits less often, not later. A CA that takes its time holds up nobody
but those who asked it. One a process; keeps nothing of any call.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Sequence
from datetime import timedelta

from msgspec import Struct

from certctl.core.actor import Actor
from certctl.core.errors import CallerError, CertctlError, Temporary
from certctl.core.scope import Scope
from certctl.lifecycle import together
from certctl.lifecycle.context import Context
from certctl.lifecycle.request import NewCertificate
from certctl.lifecycle.together import Beside, Found, Member, Wish
from certctl.store.tx import WITNESS
from certctl.telemetry import tracing
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

# how long a caller waits for what is being signed; who drives a job alone waits for a step's end, too: this is for a
# signer that does not answer, not for a busy machine
BUDGET = timedelta(seconds=10)
MOST_WAITING = 2_000
# the next group begins when the one before is recorded, or a CA has taken so long over it
_PATIENCE_SECONDS = 0.05


class _Written(Struct, frozen=True):
    """What was found of a wish, and the task that has its group signed and recorded."""

    found: Found
    finishing: asyncio.Task[None] | None


class Issuing:
    """The groups of one process."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._waiting: list[tuple[Wish, asyncio.Future[_Written]]] = []
        self._task: asyncio.Task[None] | None = None
        # what goes on when its callers have their answers: kept here, or nobody would hold on to it
        self._finishing: set[asyncio.Task[None]] = set()

    async def ask(
        self,
        scope: Scope,
        actor: Actor,
        wanted: NewCertificate,
        beside: Beside | None = None,
        budget: timedelta | None = None,
    ) -> Member | None:
        """Have a certificate issued together with whoever else asks: a member whose version is there, or is still under
        way when `budget` (or else the usual one) is over. None: nothing was written, and it has to go alone.

        Raises what refuses it, and Temporary.
        """
        if not together.may_go(wanted):
            return None
        if len(self._waiting) >= MOST_WAITING:
            raise Temporary("more ask than can be answered; come back later")
        wish = Wish(
            scope=scope,
            actor=actor,
            wanted=wanted,
            traceparent=tracing.traceparent(),
            witness=WITNESS.get(),
            beside=beside,
        )
        answer: asyncio.Future[_Written] = asyncio.get_running_loop().create_future()
        self._waiting.append((wish, answer))
        if self._task is None or self._task.done():
            # nobody's call in particular: it carries no request id, and no witness but those of its wishes
            self._task = asyncio.create_task(self._go(), name="issuing", context=contextvars.Context())
        # whoever goes away takes nobody's certificate along
        written = await asyncio.shield(answer)
        if isinstance(written.found, CallerError):
            raise written.found
        if written.found is not None and written.finishing is not None:
            await asyncio.wait({written.finishing}, timeout=(BUDGET if budget is None else budget).total_seconds())
        return written.found

    async def ask_all(self, scope: Scope, actor: Actor, wanted: Sequence[NewCertificate]) -> list[Found | Temporary]:
        """`ask` for many of one caller, in order: what refuses one is told in its place. The commits are the call's."""
        found: list[Found | Temporary] = []
        begun: list[asyncio.Task[None]] = []
        for start in range(0, len(wanted), together.MOST_AT_ONCE):
            part = wanted[start : start + together.MOST_AT_ONCE]
            wishes = [Wish(scope=scope, actor=actor, wanted=one, traceparent=tracing.traceparent()) for one in part]
            try:
                some = await together.intend(self._ctx, wishes)
            except Temporary as error:
                found += [error] * len(part)
                continue
            found += some
            finishing = self._finish([one for one in some if isinstance(one, Member)])
            if finishing is not None:
                begun.append(finishing)
            if len(begun) > 1:  # while one is signed the next is judged
                await asyncio.wait({begun[-2]}, timeout=_PATIENCE_SECONDS)
        if begun:
            await asyncio.wait(begun, timeout=2 * BUDGET.total_seconds())
        return found

    async def _go(self) -> None:
        while self._waiting:
            group = self._waiting[: together.MOST_AT_ONCE]
            del self._waiting[: together.MOST_AT_ONCE]
            try:
                found = await together.intend(self._ctx, [wish for wish, _ in group])
            except Exception as error:
                _fail([answer for _, answer in group], error)
                continue
            except BaseException:
                left, self._waiting = self._waiting, []
                _fail([answer for _, answer in (*group, *left)], Temporary("the server is ending"))
                raise
            finishing = self._finish([one for one in found if isinstance(one, Member)])
            for (_, answer), one in zip(group, found, strict=True):
                if not answer.done():
                    answer.set_result(_Written(one, finishing))
            if finishing is not None:
                await asyncio.wait({finishing}, timeout=_PATIENCE_SECONDS)

    def _finish(self, members: Sequence[Member]) -> asyncio.Task[None] | None:
        if not members:
            return None
        task = asyncio.create_task(_finish(self._ctx, members), name="issuing-finish", context=contextvars.Context())
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        return task


async def _finish(ctx: Context, members: Sequence[Member]) -> None:
    """What fails here is settled by whoever has the steps when their leases lapse: nobody waits for it any more."""
    try:
        await together.finish(ctx, members)
    except CertctlError as error:
        log.warning("group_not_finished", error=error)
    except Exception:
        log.exception("group_not_finished")


def _fail(answers: Sequence[asyncio.Future[_Written]], error: Exception) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_exception(error)
            with contextlib.suppress(asyncio.CancelledError):
                answer.exception()  # seen: who asked may have gone
