"""append(event): audit and outbox rows in the caller's transaction, so that nothing happens unrecorded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from certctl.core.events import Event, EventType, Notice
from certctl.core.ids import new_id
from certctl.core.notification import RESOLVE, NotificationStatus
from certctl.core.scope import Scope
from certctl.core.secret import Secret
from certctl.store import audit, audit_receivers, audit_tree
from certctl.store.audit import EventRow as EventRow
from certctl.store.tx import Tx

_REVOKED = (EventType.CERTIFICATE_REVOKED, EventType.CA_REVOKED)


async def append(tx: Tx, scope: Scope, now: datetime, *events: Event) -> None:
    """Record what happened, in order, with the transaction it happened in."""
    if events:
        tx.subjects += [(event.subject_type, event.subject_id) for event in events]
        await audit.append_events(tx, scope, [_row(event, now) for event in events])


async def append_dated(tx: Tx, scope: Scope, dated: Sequence[tuple[datetime, Event]]) -> None:
    """Record what a sample tells of its past, each with its moment, in order; what is real goes through `append`."""
    if dated:
        await audit.append_events(tx, scope, [_row(event, moment) for moment, event in dated])


async def notify(tx: Tx, scope: Scope, now: datetime, notice: Notice) -> bool:
    """Put a notice in the outbox once by its dedup key; the worker routes it to channels (`lifecycle.notify`)."""
    return await audit.insert_notice(tx, scope, _outbox_row(notice, now))


async def notify_all(tx: Tx, scope: Scope, now: datetime, notices: Sequence[Notice]) -> None:
    """`notify` for many at once."""
    if notices:
        await audit.insert_notices(tx, scope, [_outbox_row(notice, now) for notice in notices])


def _outbox_row(notice: Notice, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id("notif"),
        "type": notice.type,
        "certificate_id": notice.certificate_id,
        "severity": notice.severity,
        "message": notice.message,
        "dedup_key": notice.dedup_key,
        "channel": "",
        "recipient": "",
        "subject": notice.subject,
        "html": notice.html,
        "incident": notice.incident,
        "action": RESOLVE if notice.resolves else "",
        "status": NotificationStatus.PENDING,
        "next_retry_at": now,
        "queued_at": now,
        "created_at": now,
    }


async def newest(tx: Tx, scope: Scope) -> tuple[int, int]:
    """Where a follower who wants to hear of nothing old begins: behind all that is settled."""
    return await audit.newest_position(tx, scope)


async def place(tx: Tx, scope: Scope, after: tuple[int, int]) -> tuple[int, int]:
    """Where a follower who comes back goes on; one whose place is of another cluster (a restored dump) begins anew."""
    return after if await audit.is_of_this_cluster(tx, after) else await newest(tx, scope)


async def adopt_restored(tx: Tx, scope: Scope) -> int:
    """At every start: events that a restored dump brought must not hide what happens now; returns how many."""
    adopted = await audit.adopt_restored(tx, scope)
    if adopted:  # their places in the log have changed: look for what is not sealed from its beginning
        await audit_tree.move(tx, scope, transaction_id=0, seq=0)
        await audit_receivers.start_over(tx, scope)
    return adopted


async def follow(tx: Tx, scope: Scope, after: tuple[int, int], limit: int) -> list[EventRow]:
    """What happened behind `after` (transaction id, sequence), in the order of commits: none is ever skipped."""
    return await audit.events_after(tx, scope, after, limit)


async def revoked_since(tx: Tx, scope: Scope, horizon: int | None) -> tuple[int, frozenset[str]]:
    """The serial numbers whose revocation was not committed yet at an earlier look's `horizon`, and the horizon of this
    look; none for None. Those of transactions that ran long may be told twice, none is left out.
    """
    at, details = await audit.details_since(tx, scope, _REVOKED, horizon)
    return at, frozenset(str(one["serial_number"]) for one in details)


async def recent(
    tx: Tx, scope: Scope, limit: int, *, subject_id: str = "", before: int | None = None
) -> list[EventRow]:
    """What happened last, newest first, of everything or of one subject; what may be shown of it the caller judges."""
    return await audit.newest_events(tx, scope, limit, subject_id=subject_id, before=before)


async def about(tx: Tx, scope: Scope, subject_type: str, subject_id: str, kind: EventType) -> list[EventRow]:
    """Everything of one kind that ever happened to one thing, in order."""
    return await audit.events_of(tx, scope, subject_type, subject_id, kind)


def _row(event: Event, now: datetime) -> dict[str, Any]:
    for name, value in event.details.items():
        if isinstance(value, Secret):
            raise TypeError(f"event detail {name} is a secret")
    return {
        "id": new_id("audit"),
        "type": str(event.type),
        "subject_type": event.subject_type,
        "subject_id": event.subject_id,
        "actor": event.actor.id,
        "actor_type": str(event.actor.type),
        "request_id": event.actor.request_id,
        "address": event.actor.address,
        "details": event.details,
        "created_at": now,
    }
