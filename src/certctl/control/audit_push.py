"""Push: audit events go to receivers off the box, in the order of their commits, each from its own cursor.

The cursor moves when the receiver has the batch, so nothing is lost while one is down; what was sent and not confirmed
is sent again. One receiver that fails holds up no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import structlog

from certctl.client.models.audit import AuditEventView
from certctl.connectors.base.receiver import Line, Receiver
from certctl.core.audit import category_of
from certctl.core.errors import ConnectorError, StaleFence
from certctl.ledger import EventRow, follow
from certctl.lifecycle.context import Context
from certctl.store import audit_receivers
from certctl.store.audit_receivers import Cursor

log = structlog.get_logger(__name__)

BATCH = 500
_MOST_BYTES = 1024 * 1024
_FIRST_WAIT = timedelta(seconds=2)
_LONGEST_WAIT = timedelta(minutes=5)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One receiver: where it is, and how it stands."""

    address: str
    cursor: Cursor
    behind: int


def view(event: EventRow) -> AuditEventView:
    """An event as it is shown, exported and pushed."""
    return AuditEventView(
        id=event.id,
        timestamp=event.created_at,
        actor=event.actor,
        actor_type=event.actor_type,
        action=event.type,
        resource_type=event.subject_type,
        resource_id=event.subject_id,
        details=event.details,
        event_category=category_of(event.type),
        request_id=event.request_id,
        address=event.address,
    )


async def push_all(ctx: Context, receivers: Sequence[Receiver]) -> int:
    """Send whatever waits to whoever is to be tried; returns how many events arrived."""
    arrived = 0
    for receiver in receivers:
        while sent := await push(ctx, receiver):
            arrived += sent
    return arrived


async def push(ctx: Context, receiver: Receiver) -> int:
    """Send one batch to one receiver; returns how many events arrived, 0 when none waits or it is not to be tried."""
    cursor = await _cursor(ctx, receiver.name)
    if cursor.next_try_at is not None and cursor.next_try_at > ctx.now():
        return 0
    async with ctx.database.read() as tx:
        rows = await follow(tx, ctx.scope, cursor.place, BATCH)
    lines = _fitting([Line(row.id, row.type, row.created_at, msgspec.json.encode(view(row))) for row in rows])
    if not lines:
        return 0
    try:
        await receiver.send(lines)
    except ConnectorError as error:
        await _failed(ctx, receiver, cursor, error)
        return 0
    last = rows[len(lines) - 1]
    try:
        async with ctx.database.begin("audit.push") as tx:
            place = (last.transaction_id, last.seq)
            await audit_receivers.advance(tx, ctx.scope, cursor, place, len(lines), ctx.now())
    except StaleFence:
        return 0
    if cursor.failures:
        log.info("audit_push_is_well_again", receiver=receiver.name, address=receiver.address)
    return len(lines)


async def standings(ctx: Context, receivers: Sequence[Receiver]) -> list[Standing]:
    """How each configured receiver stands."""
    found = []
    for receiver in receivers:
        cursor = await _cursor(ctx, receiver.name)
        async with ctx.database.read() as tx:
            behind = await audit_receivers.behind(tx, ctx.scope, cursor.place)
        found.append(Standing(address=receiver.address, cursor=cursor, behind=behind))
    return found


async def _cursor(ctx: Context, name: str) -> Cursor:
    async with ctx.database.read() as tx:
        found = await audit_receivers.read(tx, ctx.scope, name)
    if found is not None:
        return found
    async with ctx.database.begin("audit.push") as tx:
        await audit_receivers.begin(tx, ctx.scope, name, ctx.now())
        made = await audit_receivers.read(tx, ctx.scope, name)
    if made is None:
        raise AssertionError("a cursor that was just written is there")
    return made


def _fitting(lines: list[Line]) -> list[Line]:
    """As many as a batch may hold; one that is larger by itself goes alone."""
    size = 0
    for number, line in enumerate(lines):
        size += len(line.json)
        if number and size > _MOST_BYTES:
            return lines[:number]
    return lines


async def _failed(ctx: Context, receiver: Receiver, cursor: Cursor, error: ConnectorError) -> None:
    again_at: datetime = ctx.now() + min(_FIRST_WAIT * (1 << min(cursor.failures, 10)), _LONGEST_WAIT)
    # once, when it begins to fail: a receiver that is down for a day fills no log
    if not cursor.failures:
        log.warning("audit_push_failed", receiver=receiver.name, address=receiver.address, error=error.message)
    async with ctx.database.begin("audit.push") as tx:
        await audit_receivers.fail(tx, ctx.scope, cursor, error.message, again_at)
