"""Push: audit events go to receivers off the box, in the order of their commits, each from its own cursor.

The cursor moves when the receiver has the batch, so nothing is lost while one is down; what was sent and not confirmed
is sent again. One receiver that fails holds up no other. The newest signed head over what was sent goes with it, behind
the events that it covers: whoever rewrites the log afterwards is convicted by what the receiver has.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import structlog

from certctl.client.models.audit import AuditEventView
from certctl.connectors.base.receiver import Line, Receiver
from certctl.core.actor import SYSTEM
from certctl.core.audit import HEAD, category_of
from certctl.core.errors import ConnectorError, StaleFence
from certctl.ledger import EventRow, follow
from certctl.lifecycle.context import Context
from certctl.pki.checkpoint import read_checkpoint
from certctl.store import audit_receivers, audit_tree
from certctl.store.audit_receivers import Cursor
from certctl.store.audit_tree import Head

log = structlog.get_logger(__name__)

BATCH = 500
_MOST_BYTES = 1024 * 1024
_FIRST_WAIT = timedelta(seconds=2)
_LONGEST_WAIT = timedelta(minutes=5)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One receiver: where it is, and how it stands. `waits` is the age of the first event that it does not have."""

    address: str
    cursor: Cursor
    behind: int
    waits: timedelta = timedelta()


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


def head_view(head: Head, last_event: str) -> AuditEventView:
    """A signed head as it is pushed: an entry like all others, but none of the log. `last_event` is the last of its."""
    told = read_checkpoint(head.note)
    return AuditEventView(
        id=f"head-{told.size}-{told.root.hex()[:16]}",
        timestamp=told.at,
        actor=SYSTEM.id,
        actor_type=SYSTEM.type,
        action=HEAD,
        resource_type="audit",
        resource_id="log",
        details={"checkpoint": head.note, "last_event": last_event, "size": told.size},
        event_category=category_of(HEAD),
        request_id="",
        address="",
    )


async def push_all(ctx: Context, receivers: Sequence[Receiver]) -> int:
    """Send whatever waits to whoever is to be tried; returns how many entries arrived."""
    arrived = 0
    for receiver in receivers:
        while sent := await push(ctx, receiver):
            arrived += sent
    return arrived


async def push(ctx: Context, receiver: Receiver) -> int:
    """Send one batch to one receiver; returns how many entries arrived, 0 when none waits or it is not to be tried."""
    cursor = await _cursor(ctx, receiver.name)
    if cursor.next_try_at is not None and cursor.next_try_at > ctx.now():
        return 0
    async with ctx.database.read() as tx:
        rows = await follow(tx, ctx.scope, cursor.place, BATCH)
        lines = _fitting([_line(view(row)) for row in rows])
        last = rows[len(lines) - 1] if lines else None
        place = (last.transaction_id, last.seq) if last else cursor.place
        head = await audit_tree.head_within(tx, ctx.scope, place, cursor.head_size)
    number, head_size = len(lines), cursor.head_size
    if head is not None:
        lines.append(_line(head_view(*head)))
        head_size = head[0].size
    if not lines:
        return 0
    try:
        await receiver.send(lines)
    except ConnectorError as error:
        await _failed(ctx, receiver, cursor, error)
        return 0
    try:
        async with ctx.database.begin("audit.push") as tx:
            await audit_receivers.advance(tx, ctx.scope, cursor, place, head_size, number, ctx.now())
    except StaleFence:
        return 0
    if cursor.failures:
        log.info("audit_push_is_well_again", receiver=receiver.name, address=receiver.address)
    return len(lines)


async def standings(ctx: Context, receivers: Sequence[Receiver], most: int | None = None) -> list[Standing]:
    """How each configured receiver stands; at most `most` events that wait are counted."""
    found = []
    for receiver in receivers:
        cursor = await _cursor(ctx, receiver.name)
        async with ctx.database.read() as tx:
            behind = await audit_receivers.behind(tx, ctx.scope, cursor.place, most)
            since = await audit_receivers.waits_since(tx, ctx.scope, cursor.place) if behind else None
        waits = max(ctx.now() - since, timedelta()) if since else timedelta()
        found.append(Standing(address=receiver.address, cursor=cursor, behind=behind, waits=waits))
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


def _line(entry: AuditEventView) -> Line:
    return Line(entry.id, entry.action, entry.timestamp, msgspec.json.encode(entry))


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
