"""The outbox and the channels it goes to: claimed under a token, settled by whoever still holds it.

A claim moves `next_retry_at` to the end of its lease: a row whose holder died comes up again by itself, and what a
holder says after that is refused, for the row has another token by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certctl.core.notification import RESOLVE, Channel, Notification, NotificationStatus
from certctl.core.scope import Scope
from certctl.store import schema
from certctl.store.among import any_of
from certctl.store.schema import notifications
from certctl.store.tx import Tx, chosen_once

WAITING = (NotificationStatus.PENDING, NotificationStatus.FAILED)
_C = notifications.c


def _due(scope: Scope, now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(_C.tenant_id == scope.tenant_id, _C.status.in_(WAITING), _C.next_retry_at <= now)


async def has_due(tx: Tx, scope: Scope, now: datetime) -> bool:
    """Whether anything waits to be routed or sent; takes no lock."""
    return await tx.scalar(sa.select(_C.id).where(_due(scope, now)).limit(1)) is not None


async def claim(
    tx: Tx, scope: Scope, token: str, now: datetime, until: datetime, limit: int, ids: Sequence[str] = ()
) -> list[Notification]:
    """Take up to `limit` that are due (of `ids`, when given), the longest due first; nobody else gets them before
    `until`.
    """
    due = sa.select(_C.id).where(_due(scope, now))
    if ids:
        due = due.where(_C.id.in_(tuple(ids)))
    due = due.order_by(_C.next_retry_at, _C.id).limit(limit).with_for_update(skip_locked=True)
    taken = (
        sa.update(notifications)
        .where(_C.tenant_id == scope.tenant_id, _C.id.in_(chosen_once(due)))
        .values(lease_owner=token, next_retry_at=until)
        .returning(*_C)
    )
    return sorted(await tx.all(Notification, taken), key=lambda row: row.id)


async def keep(tx: Tx, scope: Scope, token: str, until: datetime) -> None:
    """Push the end of the lease on everything that this token still holds."""
    held = sa.and_(_C.tenant_id == scope.tenant_id, _C.lease_owner == token, _C.status.in_(WAITING))
    await tx.execute(sa.update(notifications).where(held).values(next_retry_at=until))


async def settle(tx: Tx, scope: Scope, notification_id: str, token: str, **values: Any) -> bool:
    """Write what became of one, and let it go; False when another has it by now."""
    settled = await tx.execute(
        sa.update(notifications)
        .where(
            _C.tenant_id == scope.tenant_id,
            _C.id == notification_id,
            _C.lease_owner == token,
            _C.status.in_(WAITING),
        )
        .values(lease_owner="", **values)
    )
    return settled.rowcount == 1


async def settle_alike(tx: Tx, scope: Scope, ids: Sequence[str], token: str, **values: Any) -> set[str]:
    """`settle` for many of which the same became, in one statement; the ids of those that the token still held."""
    settled = await tx.execute(
        sa.update(notifications)
        .where(
            _C.tenant_id == scope.tenant_id,
            _C.id.in_(tuple(ids)),
            _C.lease_owner == token,
            _C.status.in_(WAITING),
        )
        .values(lease_owner="", **values)
        .returning(_C.id)
    )
    return {row.id for row in settled}


async def add(tx: Tx, scope: Scope, rows: Sequence[Notification]) -> None:
    """Further ways of what has been routed; each once by its dedup key."""
    made = [
        {name: getattr(row, name) for name in row.__struct_fields__} | {"tenant_id": scope.tenant_id} for row in rows
    ]
    if made:
        await tx.execute(tx.insert(notifications).on_conflict_do_nothing(), made)


async def told_of(tx: Tx, scope: Scope, incident: str) -> list[Notification]:
    """What went, or is to go, to channels about an incident, oldest first."""
    return await tx.all(
        Notification,
        sa.select(notifications)
        .where(
            _C.tenant_id == scope.tenant_id,
            _C.incident == incident,
            _C.action != RESOLVE,
            _C.channel_id != "",
        )
        .order_by(_C.created_at, _C.id),
    )


async def was_told(tx: Tx, scope: Scope, incident: str) -> bool:
    """Whether anything was put in the outbox about this."""
    found = sa.select(_C.id).where(_C.tenant_id == scope.tenant_id, _C.incident == incident, _C.action != RESOLVE)
    return await tx.scalar(found.limit(1)) is not None


async def by_key(tx: Tx, scope: Scope, key: str) -> list[Notification]:
    """A notice and the further ways that it went."""
    mine = sa.or_(_C.dedup_key == key, _C.dedup_key.startswith(f"{key}#", autoescape=True))
    return await tx.all(Notification, sa.select(notifications).where(_C.tenant_id == scope.tenant_id, mine))


async def open_incidents(tx: Tx, scope: Scope, certificate_id: str) -> set[str]:
    """What was told of a certificate and was not said to be over since."""
    rows = await tx.execute(
        sa.select(_C.incident, _C.action, sa.func.max(_C.created_at).label("last"))
        .where(_C.tenant_id == scope.tenant_id, _C.certificate_id == certificate_id, _C.incident != "")
        .group_by(_C.incident, _C.action)
    )
    told = {(row.incident, row.action): row.last for row in rows}
    return {
        name
        for (name, action), last in told.items()
        if action != RESOLVE and ((name, RESOLVE) not in told or told[name, RESOLVE] < last)
    }


async def told_about(tx: Tx, scope: Scope, certificate_ids: Sequence[str]) -> set[str]:
    """Those of these certificates of which somebody was told that something has begun, whether it is over or not."""
    found = await tx.execute(
        sa.select(_C.certificate_id)
        .where(_C.tenant_id == scope.tenant_id, any_of(_C.certificate_id, certificate_ids), _C.incident != "")
        .distinct()
    )
    return set(found.scalars())


async def withdraw(tx: Tx, scope: Scope, notification_id: str, reason: str) -> bool:
    """What waits and is in nobody's hands goes nowhere; False when it is being sent, or was."""
    withdrawn = await tx.execute(
        sa.update(notifications)
        .where(
            _C.tenant_id == scope.tenant_id,
            _C.id == notification_id,
            _C.lease_owner == "",
            _C.status.in_(WAITING),
        )
        .values(status=NotificationStatus.SKIPPED, next_retry_at=None, last_error=reason)
    )
    return withdrawn.rowcount == 1


async def withdraw_unrouted(tx: Tx, scope: Scope, incident: str, reason: str) -> None:
    """The same for what nobody has routed yet."""
    await tx.execute(
        sa.update(notifications)
        .where(
            _C.tenant_id == scope.tenant_id,
            _C.incident == incident,
            _C.action != RESOLVE,
            _C.channel_id == "",
            _C.lease_owner == "",
            _C.status.in_(WAITING),
        )
        .values(status=NotificationStatus.SKIPPED, next_retry_at=None, last_error=reason)
    )


async def one(tx: Tx, scope: Scope, notification_id: str) -> Notification | None:
    """One notification, if it is there and the scope may see it."""
    return await tx.one(Notification, sa.select(notifications).where(visible(scope), _C.id == notification_id))


def visible(scope: Scope) -> sa.ColumnElement[bool]:
    """All or nothing: a message names what no limit of a scope can be held against."""
    return _C.tenant_id == scope.tenant_id if scope.is_whole else sa.false()


async def mark_read(tx: Tx, scope: Scope, notification_id: str, now: datetime) -> None:
    """Somebody has read it. What was sent reads `read` from now on; what was not keeps its own word."""
    mine = sa.and_(visible(scope), _C.id == notification_id)
    await tx.execute(
        sa.update(notifications)
        .where(mine, _C.status == NotificationStatus.SENT)
        .values(status=NotificationStatus.READ)
    )
    await tx.execute(sa.update(notifications).where(mine, _C.read_at.is_(None)).values(read_at=now))


async def requeue(tx: Tx, scope: Scope, notification_id: str, now: datetime) -> bool:
    """Try again from the beginning what was given up, skipped, or waits for its next try; False for what was sent."""
    again = (*WAITING, NotificationStatus.DEAD, NotificationStatus.SKIPPED)
    requeued = await tx.execute(
        sa.update(notifications)
        .where(visible(scope), _C.id == notification_id, _C.status.in_(again), _C.lease_owner == "")
        .values(
            status=NotificationStatus.PENDING,
            retry_count=0,
            next_retry_at=now,
            queued_at=now,
            read_at=None,
            last_error="",
        )
    )
    return requeued.rowcount == 1


async def channels(tx: Tx, scope: Scope) -> list[Channel]:
    """Every channel, by name."""
    table = schema.notification_channels
    return await tx.all(
        Channel, sa.select(table).where(table.c.tenant_id == scope.tenant_id).order_by(table.c.name, table.c.id)
    )


async def oldest_due(tx: Tx, scope: Scope, now: datetime) -> datetime | None:
    """When the oldest that still waits was put in the outbox; None when nothing waits."""
    found: datetime | None = await tx.scalar(
        sa.select(sa.func.min(_C.created_at)).where(
            _C.tenant_id == scope.tenant_id, _C.status.in_(WAITING), _C.created_at <= now
        )
    )
    return found


async def newest_of_type(tx: Tx, scope: Scope, kind: str, since: datetime) -> Notification | None:
    """The last one of a type that was put in the outbox since then."""
    return await tx.one(
        Notification,
        sa.select(notifications)
        .where(_C.tenant_id == scope.tenant_id, _C.type == kind, _C.created_at > since)
        .order_by(_C.created_at.desc())
        .limit(1),
    )


async def put_channel(tx: Tx, scope: Scope, channel: Channel) -> None:
    """Write a channel, new or not; what operators may set of it themselves is kept."""
    table = schema.notification_channels
    values = {name: getattr(channel, name) for name in channel.__struct_fields__} | {"tenant_id": scope.tenant_id}
    kept = ("tenant_id", "id", "min_severity", "created_at", "row_version")
    changed = {name: value for name, value in values.items() if name not in kept}
    await tx.execute(
        tx.insert(table)
        .values(values)
        .on_conflict_do_update(
            index_elements=["tenant_id", "id"], set_=changed | {"row_version": table.c.row_version + 1}
        )
    )


async def remove_channel(tx: Tx, scope: Scope, channel_id: str) -> None:
    """It is gone; what waits for it is skipped when it comes up."""
    table = schema.notification_channels
    await tx.execute(sa.delete(table).where(table.c.tenant_id == scope.tenant_id, table.c.id == channel_id))
