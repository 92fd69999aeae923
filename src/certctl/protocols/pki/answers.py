"""What OCSP has said and read, used again as long as this process knows that nothing it speaks of was revoked.

Signed answers are given again as they are; what is known of a serial number is signed anew for those who send a nonce.
Either is used only while the watch has looked at the log of revocations a moment ago; what was revoked is dropped at
that look (ADR 30). Between a commit elsewhere and the look the old truth is told, for less than a second.
Must never keep what was read before a look and stored after it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from msgspec import Struct

from certctl import ledger
from certctl.authority.ocsp import SerialStatus
from certctl.core.errors import CertctlError
from certctl.lifecycle.context import Context
from certctl.pki.fingerprints import serial_hex
from certctl.store.wake import REVOKED_CHANNEL, Wakeups
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

MOST_KEPT = 20_000  # about 25 MB
MOST_STATUSES = 100_000  # about 35 MB
LONGEST_USE = timedelta(minutes=10)
_LOOK_SECONDS = 0.25
# without a look for so long nothing that is kept is used: the database, or this process, is too slow to know
_TRUSTED_SECONDS = 0.75
# revocations a second above which looks are spaced instead of following each: then the old truth may be told so long
_STORM, _STORM_LOOK_SECONDS = 16, 0.05


class RevocationWatch:
    """One per process: looks at what was revoked, by hints at once and by the clock beneath them."""

    def __init__(self, ctx: Context, wakeups: Wakeups, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ctx = ctx
        self._wakeups = wakeups
        self._monotonic = monotonic
        self._horizon: int | None = None
        self._last: frozenset[str] = frozenset()
        self._looked_at = float("-inf")
        # hints that ask for a look, and how many of them came before the last look that has ended began
        self._hints = self._heeded = 0
        self._told: deque[float] = deque(maxlen=_STORM)
        self._stopping = False
        self._is_blind = False
        # how often something became known that makes facts read before it out of date
        self.looks = 0
        self._drops: list[Callable[[frozenset[str] | None], None]] = []
        wakeups.call(REVOKED_CHANNEL, self._tell)

    def on_revoked(self, drop: Callable[[frozenset[str] | None], None]) -> None:
        """Have `drop` called at each look with the serial numbers that it found revoked, or None for all there are."""
        self._drops.append(drop)

    @property
    def is_current(self) -> bool:
        """Whether all that was revoked until less than a second ago is known here."""
        return self._hints == self._heeded and self._monotonic() - self._looked_at < _TRUSTED_SECONDS

    def _tell(self) -> None:
        """Something was revoked: what is kept waits for the look, unless that would be always."""
        now = self._monotonic()
        self._told.append(now)
        if not self._is_storm(now):
            self._hints += 1

    def _is_storm(self, now: float) -> bool:
        return len(self._told) == _STORM and now - self._told[0] < 1.0

    async def look(self) -> None:
        """Read what was revoked since the last look, and have it dropped. Raises Temporary; then nothing is used."""
        began, hints = self._monotonic(), self._hints
        try:
            async with self._ctx.database.read() as tx:
                horizon, serials = await ledger.revoked_since(tx, self._ctx.scope, self._horizon)
        except BaseException:
            self._looked_at = float("-inf")
            raise
        # a first look, or one at a log that begins anew, is told of nothing that was committed before it
        is_same_log = self._horizon is not None and horizon >= self._horizon
        fresh = serials - self._last
        if not is_same_log or fresh:
            self.looks += 1
            for drop in self._drops:
                drop(fresh if is_same_log else None)
        self._horizon, self._last, self._looked_at, self._heeded = horizon, serials, began, hints

    async def run(self) -> None:
        """Look again and again until `stop`."""
        with self._wakeups.watch(REVOKED_CHANNEL) as told:
            while not self._stopping:
                await self._try_to_look()
                await told.wait(_LOOK_SECONDS)
                if self._is_storm(self._monotonic()):
                    await asyncio.sleep(_STORM_LOOK_SECONDS)

    async def _try_to_look(self) -> None:
        """A database that is away is told once: until it is back nothing that is kept is used."""
        was_blind, self._is_blind = self._is_blind, True
        try:
            await self.look()
        except CertctlError as error:
            if not was_blind:
                log.warning("revocations_not_seen", error=error)
        else:
            self._is_blind = False

    def stop(self) -> None:
        """End `run`."""
        self._stopping = True
        self._wakeups.tell((REVOKED_CHANNEL,))


Key = TypeVar("Key")
Value = TypeVar("Value")


class Truths(Generic[Key, Value]):
    """Values that are true until the serial number that they speak of is revoked; the eldest make room."""

    def __init__(self, watch: RevocationWatch, most: Callable[[], int]) -> None:
        self._watch = watch
        self._most = most
        self._kept: dict[Key, tuple[str, Value]] = {}
        self._of_serial: dict[str, set[Key]] = {}
        watch.on_revoked(self._drop)

    def get(self, key: Key) -> Value | None:
        """What may be said again, or None when it must be read anew."""
        kept = self._kept.get(key)
        return kept[1] if kept is not None and self._watch.is_current else None

    def ticket(self) -> int:
        """To be drawn before what is to be kept is read."""
        return self._watch.looks

    def put(self, ticket: int, key: Key, serial_number: str, value: Value) -> None:
        """Keep a value, unless a revocation has become known since its ticket was drawn."""
        if ticket != self._watch.looks:
            return
        self._forget([key])
        while len(self._kept) >= self._most():
            self._forget([next(iter(self._kept))])
        self._kept[key] = (serial_number, value)
        self._of_serial.setdefault(serial_number, set()).add(key)

    def _drop(self, serials: frozenset[str] | None) -> None:
        if serials is None:
            self._kept.clear()
            self._of_serial.clear()
            return
        for serial in serials:
            self._forget(tuple(self._of_serial.get(serial, ())))

    def _forget(self, keys: Iterable[Key]) -> None:
        for key in keys:
            kept = self._kept.pop(key, None)
            if kept is None:
                continue
            others = self._of_serial[kept[0]]
            others.discard(key)
            if not others:
                del self._of_serial[kept[0]]


class Reply(Struct, frozen=True):
    """One HTTP answer; header names in lowercase."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Kept(Struct, frozen=True):
    """One signed answer with all that its next use needs; `serial_number` in hex, as the log names it."""

    serial_number: str
    until: datetime
    reply: Reply
    labels: tuple[str, ...]


class KeptAnswers:
    """Signed answers by (CA's name, request)."""

    def __init__(self, watch: RevocationWatch) -> None:
        self._truths: Truths[tuple[str, bytes], Kept] = Truths(watch, lambda: MOST_KEPT)
        self.ticket = self._truths.ticket

    def get(self, name: str, request_der: bytes, now: datetime) -> Kept | None:
        """The answer to give again, or None when it must be made."""
        kept = self._truths.get((name, request_der))
        return None if kept is None or now >= kept.until else kept

    def put(self, ticket: int, name: str, request_der: bytes, kept: Kept) -> None:
        """Keep an answer, unless a revocation has become known since its ticket was drawn."""
        self._truths.put(ticket, (name, request_der), kept.serial_number, kept)


class KeptStatuses:
    """What is known of each serial number of a CA generation, for answers that are signed anew."""

    def __init__(self, watch: RevocationWatch) -> None:
        self._truths: Truths[tuple[str, int], SerialStatus] = Truths(watch, lambda: MOST_STATUSES)

    async def read(
        self, ca_id: str, serials: list[int], source: Callable[[list[int]], Awaitable[Mapping[int, SerialStatus]]]
    ) -> dict[int, SerialStatus]:
        """Of all `serials` that are known; `source` is asked for those that are not kept.

        A serial number that was never issued is not kept: nobody would hear when it is.
        """
        known = {one: found for one in serials if (found := self._truths.get((ca_id, one))) is not None}
        missing = [one for one in serials if one not in known]
        if missing:
            ticket = self._truths.ticket()
            for serial, status in (await source(missing)).items():
                known[serial] = status
                self._truths.put(ticket, (ca_id, serial), serial_hex(serial), status)
        return known
