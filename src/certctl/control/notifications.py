"""What a person does with a notification: says that it was read, or has it tried again."""

from __future__ import annotations

from certctl.core.actor import Actor
from certctl.core.errors import Conflict, NotFound
from certctl.core.events import Event, EventType
from certctl.core.notification import Notification
from certctl.core.scope import Scope
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.store import outbox
from certctl.store.tx import Tx


async def get(tx: Tx, scope: Scope, notification_id: str) -> Notification:
    """One notification; NotFound when it is not there or not in sight."""
    found = await outbox.one(tx, scope, notification_id)
    if found is None:
        raise NotFound(f"no notification {notification_id}")
    return found


async def mark_read(ctx: Context, scope: Scope, notification_id: str) -> None:
    """Somebody has read it: what was sent reads `read`, what was not keeps its word; both tell since when."""
    async with ctx.database.begin("notify.read") as tx:
        await get(tx, scope, notification_id)
        await outbox.mark_read(tx, scope, notification_id, ctx.now())


async def requeue(ctx: Context, scope: Scope, actor: Actor, notification_id: str) -> None:
    """Try again from the beginning what did not arrive. Conflict for what was sent or is being sent."""
    async with ctx.database.begin("notify.requeue") as tx:
        found = await get(tx, scope, notification_id)
        if not await outbox.requeue(tx, scope, notification_id, ctx.now()):
            state = "is being sent this moment" if found.lease_owner else f"is {found.status}"
            raise Conflict(f"notification {notification_id} {state}: only what did not arrive is sent again")
        event = Event(
            type=EventType.NOTIFICATION_REQUEUED,
            subject_type="notification",
            subject_id=notification_id,
            actor=actor,
            details={"channel_id": found.channel_id, "was": found.status},
        )
        await append(tx, ctx.scope, ctx.now(), event)
