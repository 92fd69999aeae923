"""Users of an identity provider: deactivated, they are out at once; nobody deactivates themselves."""

from __future__ import annotations

from certctl.control.changes import note
from certctl.core.actor import Actor, ActorType
from certctl.core.errors import Conflict, NotFound
from certctl.core.events import EventType
from certctl.lifecycle.context import Context
from certctl.store import identity, sessions


async def deactivate(ctx: Context, actor: Actor, user_id: str) -> None:
    """No new session for this user, and the present ones end. Twice is once; Conflict for oneself."""
    if actor.type == ActorType.USER and actor.id == user_id:
        raise Conflict("nobody deactivates themselves; ask another administrator")
    now = ctx.now()
    async with ctx.database.begin("user.change") as tx:
        user = await sessions.user(tx, ctx.scope, user_id)
        if user is None:
            raise NotFound(f"no user {user_id}")
        if user.deactivated_at is not None:
            return
        await sessions.set_deactivated(tx, ctx.scope, user_id, now, now)
        await sessions.end(tx, ctx.scope, now, "user deactivated", actor_id=user_id, actor_type=str(ActorType.USER))
        identity.changed(tx)
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "user", user_id, ("deactivated_at",))


async def reactivate(ctx: Context, actor: Actor, user_id: str) -> None:
    """The user may sign in again; sessions that ended stay ended."""
    async with ctx.database.begin("user.change") as tx:
        user = await sessions.user(tx, ctx.scope, user_id)
        if user is None:
            raise NotFound(f"no user {user_id}")
        if user.deactivated_at is None:
            return
        await sessions.set_deactivated(tx, ctx.scope, user_id, ctx.now(), None)
        identity.changed(tx)
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "user", user_id, ("deactivated_at",))
