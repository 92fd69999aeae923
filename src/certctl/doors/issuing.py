"""Clients that ask for certificates at the same time are served together (`lifecycle.together`, ADR 44).

One a process; keeps nothing of any call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from certctl.core.actor import Actor
from certctl.core.errors import Temporary
from certctl.core.scope import Scope
from certctl.doors.groups import PATIENCE_SECONDS, Groups
from certctl.lifecycle import together
from certctl.lifecycle.context import Context
from certctl.lifecycle.request import NewCertificate
from certctl.lifecycle.together import Beside, Found, Member, Wish
from certctl.store.tx import WITNESS
from certctl.telemetry import tracing

# how long a caller waits for what is being signed; who drives a job alone waits for a step's end, too: this is for a
# signer that does not answer, not for a busy machine
BUDGET = timedelta(seconds=10)


class Issuing:
    """The groups of one process."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._groups: Groups[Wish, Member] = Groups(
            "issuing", partial(together.intend, ctx), partial(together.finish, ctx), most_at_once=together.MOST_AT_ONCE
        )

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
        wish = Wish(
            scope=scope,
            actor=actor,
            wanted=wanted,
            traceparent=tracing.traceparent(),
            witness=WITNESS.get(),
            beside=beside,
        )
        return await self._groups.ask(wish, BUDGET if budget is None else budget)

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
            finishing = self._groups.finish(some)
            if finishing is not None:
                begun.append(finishing)
            if len(begun) > 1:  # while one is signed the next is judged
                await asyncio.wait({begun[-2]}, timeout=PATIENCE_SECONDS)
        if begun:
            await asyncio.wait(begun, timeout=2 * BUDGET.total_seconds())
        return found
