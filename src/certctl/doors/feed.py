"""What changes, told to whoever follows: one log in commit order, read from the follower's own place in it.

The log itself is the queue: a slow follower is behind, and costs no memory. Its place is a sealed cursor, because the
numbers in it count what happens to others. Must never tell what a follower may not see, nor that it happened.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import timedelta

import msgspec

from certctl import ledger
from certctl.client.models.events import ChangeView
from certctl.core.errors import CertctlError, Malformed, Misconfigured, RateLimited, TrustError, Violation
from certctl.core.scope import Scope
from certctl.doors.identity import Caller
from certctl.ledger import EventRow
from certctl.lifecycle.context import Context
from certctl.store.tx import Tx
from certctl.store.visible import visible
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

Position = tuple[int, int]
CHANNEL = "events"
MOST_FOLLOWERS = 256
_SEALED_AS = "certctl/events/cursor"
_LONGEST_CURSOR = 400
_BATCH = 200
_LOOK_SECONDS = 0.5
# one look at the log's end serves every follower of a process
_FRESH_SECONDS = 0.25
_KEEP_ALIVE_SECONDS = 15.0
_CHECK_CALLER_SECONDS = 5.0
_AGAIN_AFTER = timedelta(seconds=30)

# what one must be allowed to read to hear of a kind of thing; of other kinds nobody hears
NEEDS: Mapping[str, str] = {
    "agent": "agent.read",
    "agent_group": "agent.read",
    "certificate": "cert.read",
    "health_check": "healthcheck.read",
    "issuer": "issuer.read",
    "owner": "owner.read",
    "policy": "policy.read",
    "profile": "profile.read",
    "renewal_policy": "policy.read",
    "target": "target.read",
    "team": "team.read",
}


class Feed:
    """One per process: how many follow, and a fresh look at the log's end."""

    def __init__(self) -> None:
        self._followers = 0
        self._end: Position = (0, 0)
        self._looked_at = float("-inf")
        self._lock = asyncio.Lock()

    def check_room(self) -> None:
        """RateLimited when as many follow as may: asked before the answer begins."""
        if self._followers >= MOST_FOLLOWERS:
            raise RateLimited("too many follow this process already; come back later", retry_after=_AGAIN_AFTER)

    @contextlib.contextmanager
    def seat(self) -> Iterator[None]:
        """A follower's place for the length of the block."""
        self._followers += 1
        try:
            yield
        finally:
            self._followers -= 1

    async def end(self, ctx: Context) -> Position:
        """Where the log ended at most a quarter of a second ago."""
        clock = asyncio.get_running_loop()
        async with self._lock:
            if clock.time() - self._looked_at > _FRESH_SECONDS:
                async with ctx.database.read() as tx:
                    self._end = await ledger.newest(tx, ctx.scope)
                self._looked_at = clock.time()
            return self._end


class Follower:
    """One who follows from `position`. `again` says anew who they are, and raises when they are nobody any more."""

    def __init__(
        self,
        ctx: Context,
        feed: Feed,
        position: Position,
        again: Callable[[], Awaitable[Caller]],
        pause: Callable[[float], Awaitable[bool]],
    ) -> None:
        self._ctx = ctx
        self._feed = feed
        self._position = position
        self._again = again
        self._pause = pause

    async def run(self) -> AsyncIterator[bytes]:
        """Blocks of an event stream (HTML living standard 9.2.6) until `pause` says stop, or the caller is nobody.

        Whoever was cut off comes back with the last id; so a failure ends the stream and costs nothing.
        """
        clock = asyncio.get_running_loop()
        spoke = checked = clock.time()
        yield b"retry: 2000\n" + self._place() + b"\n"
        try:
            while True:
                if await self._feed.end(self._ctx) > self._position:
                    blocks, is_full = await self._next(await self._again())
                    checked = clock.time()
                    for block in blocks:
                        yield block
                        spoke = checked
                    if is_full:
                        continue
                if clock.time() - checked >= _CHECK_CALLER_SECONDS:
                    await self._again()
                    checked = clock.time()
                if clock.time() - spoke >= _KEEP_ALIVE_SECONDS:
                    # the place moves on with the clock, never because something happened to others
                    yield b": keep-alive\n" + self._place() + b"\n"
                    spoke = clock.time()
                if await self._pause(_LOOK_SECONDS):
                    return
        except CertctlError as error:
            log.info("follower_left", error=error.message)

    async def _next(self, caller: Caller) -> tuple[list[bytes], bool]:
        """The next events that the caller may see, and whether there may be more."""
        async with self._ctx.database.read() as tx:
            rows = await ledger.follow(tx, self._ctx.scope, self._position, _BATCH)
            shown = await seen_by(tx, caller, rows)
        if rows:
            self._position = (rows[-1].transaction_id, rows[-1].seq)
        return [self._block(row) for row in shown], len(rows) == _BATCH

    def _block(self, row: EventRow) -> bytes:
        told = ChangeView(type=row.type, subject_type=row.subject_type, subject_id=row.subject_id, at=row.created_at)
        place = write_cursor(self._ctx, (row.transaction_id, row.seq))
        return f"id: {place}\nevent: {row.type}\ndata: ".encode() + msgspec.json.encode(told) + b"\n\n"

    def _place(self) -> bytes:
        return f"id: {write_cursor(self._ctx, self._position)}\n".encode()


async def seen_by(tx: Tx, caller: Caller, rows: Sequence[EventRow]) -> list[EventRow]:
    """Those events whose thing the caller may read: by permission, and within its reach."""
    known: dict[str, set[str]] = {}
    for subject_type in {row.subject_type for row in rows} & NEEDS.keys():
        scope = caller.permissions.get(NEEDS[subject_type])
        if scope is not None:
            ids = [row.subject_id for row in rows if row.subject_type == subject_type]
            # who may see everything also hears of what is no more
            everything = scope == Scope.whole(scope.tenant_id)
            known[subject_type] = set(ids) if everything else await visible(tx, scope, subject_type, ids)
    return [row for row in rows if row.subject_id in known.get(row.subject_type, ())]


def write_cursor(ctx: Context, position: Position) -> str:
    """A place in the log that only this installation can read, another text each time."""
    plain = f"{position[0]}:{position[1]}".encode()
    return base64.urlsafe_b64encode(ctx.sealer.seal(plain, f"{_SEALED_AS}/{ctx.scope.tenant_id}")).decode()


def read_cursor(ctx: Context, text: str) -> Position:
    """The place that a Last-Event-ID names. Raises Malformed for one that we did not write."""
    try:
        sealed = base64.b64decode(text[:_LONGEST_CURSOR].encode("ascii"), altchars=b"-_", validate=True)
        plain = ctx.sealer.unseal(sealed, f"{_SEALED_AS}/{ctx.scope.tenant_id}")
        transaction_id, _, seq = plain.decode().partition(":")
        return int(transaction_id), int(seq)
    except (ValueError, binascii.Error, TrustError, Misconfigured) as error:
        message = "Last-Event-ID is none of ours: begin again without it"
        raise Malformed(message, violations=(Violation("cursor_is_unknown", message, "Last-Event-ID"),)) from error
