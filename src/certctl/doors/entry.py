"""Every caller comes in here: counted, recognised, counted again as themselves.

Strangers are counted by address before anything is looked up; whoever turns out to be known is not, so that many behind
one address do not share its limit, and a flood from there keeps out strangers alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from certctl.core.rules import Rate
from certctl.doors.identity import Caller, Knock, authenticate, authenticate_browser
from certctl.doors.limits import neighbourhood
from certctl.doors.state import AppState

_ADDRESS = "address"
_CLAIMS = "claims"
_CALLER = "caller"
_SIGN_IN = "sign-in"
_SIGN_INS = Rate(per_second=5 / 60, burst=5)


async def admit(door: AppState, knock: Knock, *, browsers: bool = False) -> Caller:
    """Who calls. `browsers` lets in sessions too, by cookie, when there is no Authorization header."""
    visit = Visit(door, knock.address)
    caller = await recognise(door, knock, browsers=browsers, before_look_up=visit.count)
    visit.forget()
    if door.rules.limits.enabled:
        await door.limits.take(_CALLER, f"{caller.actor.type}:{caller.actor.id}", door.rules.limits.caller)
    return caller


async def recognise(
    door: AppState, knock: Knock, *, browsers: bool = False, before_look_up: Callable[[], Awaitable[None]] | None = None
) -> Caller:
    """Who calls, uncounted: for a call that goes on and asks again whether its caller is still good."""
    before = before_look_up or _nothing
    if browsers and "authorization" not in knock.headers and "cookie" in knock.headers:
        return await authenticate_browser(door.ctx, door.callers, door.rules, knock, before)
    return await authenticate(door.ctx, door.callers, door.agents, knock, before)


async def _nothing() -> None:
    return


class Visit:
    """A call of somebody who is not known yet."""

    def __init__(self, door: AppState, address: str, *, claims: bool = False) -> None:
        """`claims`: it says whom it comes from and is about to prove it; such calls do not share the rate of those
        that say nothing.
        """
        self._door = door
        self._name = _CLAIMS if claims else _ADDRESS
        self._who = neighbourhood(address)
        self._counted = False

    async def count(self) -> None:
        """Before anything is looked up; RateLimited when too many came from there."""
        if self._door.rules.limits.enabled:
            await self._door.limits.take(self._name, self._who, self._door.rules.limits.address)
            self._counted = True

    def forget(self) -> None:
        """It was somebody known."""
        if self._counted:
            self._door.limits.give_back(self._name, self._who, self._door.rules.limits.address)


async def count_sign_in(door: AppState, address: str) -> None:
    """Five attempts a minute and address with a password, whatever else is limited."""
    await door.limits.take(_SIGN_IN, neighbourhood(address), _SIGN_INS)
