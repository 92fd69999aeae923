"""Attempts that were refused (401, 403, 422) go into the event log: who, what, why, never a secret.

Unknown callers are noted a few times a minute and address, so that nobody fills the log from outside.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from certctl.core.actor import Actor, ActorType
from certctl.core.errors import CertctlError
from certctl.core.events import Event, EventType
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

RECORDED = frozenset({401, 403, 422})
_MOST_A_MINUTE = 10
_MOST_ADDRESSES = 4096


class Denial(Struct, frozen=True, kw_only=True):
    """One refused call. `caller` is None when nobody knows who it was."""

    status: int
    code: str
    message: str
    method: str
    path: str
    request_id: str
    address: str
    caller: Actor | None


class Denials:
    """Writes denials, one a call; remembers the last minute of unknown callers in bounded memory."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._minute: datetime | None = None
        self._seen: dict[str, int] = {}

    async def record(self, denial: Denial) -> None:
        """Write one denial. A database that cannot take it is told to the log: the caller has its answer already."""
        if denial.caller is None and not self._has_room(denial.address):
            return
        actor = denial.caller or Actor(
            id="anonymous", type=ActorType.ANONYMOUS, request_id=denial.request_id, address=denial.address
        )
        details = {
            "method": denial.method,
            "path": denial.path,
            "status": denial.status,
            "code": denial.code,
            "message": denial.message[:500],
        }
        event = Event(
            type=EventType.CALL_DENIED, subject_type="api", subject_id=denial.path[:128], actor=actor, details=details
        )
        try:
            async with self._ctx.database.begin("denied") as tx:
                await append(tx, self._ctx.scope, self._ctx.now(), event)
        except CertctlError as error:
            log.warning("denial_not_recorded", request_id=denial.request_id, error=error)

    def _has_room(self, address: str) -> bool:
        now = self._ctx.now()
        if self._minute is None or now - self._minute >= timedelta(minutes=1):
            self._minute, self._seen = now, {}
        if address not in self._seen and len(self._seen) >= _MOST_ADDRESSES:
            return False
        self._seen[address] = self._seen.get(address, 0) + 1
        return self._seen[address] <= _MOST_A_MINUTE
