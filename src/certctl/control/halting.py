"""What people say to a batch under way: halt it, and resume what was halted, by them or by itself."""

from __future__ import annotations

from typing import Any

from certctl.control.batches import event, scope_key, sums
from certctl.core.actor import Actor
from certctl.core.batch import Batch
from certctl.core.events import EventType
from certctl.core.scope import Scope
from certctl.core.status import BatchStatus
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.store import batches


async def halt(ctx: Context, scope: Scope, actor: Actor, batch_id: str) -> Batch:
    """No further item is begun until it is resumed. NotFound outside the scope, Conflict when it does not run."""
    now = ctx.now()
    async with ctx.database.begin("batch.halt") as tx:
        await batches.batch(tx, scope, batch_id, key=scope_key(scope), requested_by=actor.id)
        await batches.end(tx, ctx.scope, batch_id, BatchStatus.HALTED, now, reason=f"halted by {actor.id}")
        halted = await batches.batch(tx, ctx.scope, batch_id)
        await append(tx, ctx.scope, now, event(EventType.BATCH_HALTED, batch_id, actor, sums(halted)))
    return halted


async def resume(ctx: Context, scope: Scope, actor: Actor, batch_id: str, max_failures: int | None) -> Batch:
    """Go on behind the last item, until more than `max_failures` have failed, those of before among them; None: without
    such a bound. NotFound outside the scope, Conflict when it is not halted.
    """
    now = ctx.now()
    async with ctx.database.begin("batch.resume") as tx:
        await batches.batch(tx, scope, batch_id, key=scope_key(scope), requested_by=actor.id)
        await batches.resume(tx, ctx.scope, batch_id, max_failures, now)
        resumed = await batches.batch(tx, ctx.scope, batch_id)
        told: dict[str, Any] = sums(resumed) | {"max_failures": max_failures}
        await append(tx, ctx.scope, now, event(EventType.BATCH_RESUMED, batch_id, actor, told))
    return resumed
