"""Runs batches as those who asked for them: before each turn it is asked again who they are and what they may.

A key that was revoked, has expired or lost the permission stops its batch; a key whose limits have narrowed goes on
within both. Turns are short, so that a long batch never makes a short one wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import msgspec

from certctl.control import access, batches
from certctl.core.batch import Batch
from certctl.core.catalogue import ApiKey
from certctl.core.errors import NotAllowed
from certctl.core.scope import Scope
from certctl.lifecycle.context import Context
from certctl.store import catalogue

TURN = timedelta(seconds=2)


def _never() -> bool:
    return False


async def take_turn(ctx: Context, stopping: Callable[[], bool] = _never) -> bool:
    """Give the batch that has waited longest one turn; False when none waits."""
    batch = await batches.claim(ctx)
    if batch is None:
        return False
    await run(ctx, batch, TURN, stopping)
    return True


async def run(ctx: Context, batch: Batch, budget: timedelta, stopping: Callable[[], bool] = _never) -> None:
    """Run a leased batch until it ends, the budget is spent or the process stops."""
    try:
        scope = await scope_now(ctx, batch)
    except NotAllowed as refused:
        await batches.halt(ctx, batch, refused.message)
        return
    clock = asyncio.get_running_loop()
    deadline = clock.time() + budget.total_seconds()
    await batches.work(ctx, batch, scope, lambda: clock.time() < deadline and not stopping())


async def scope_now(ctx: Context, batch: Batch) -> Scope:
    """What the asker could see when they asked and still may act upon; NotAllowed when that is nothing any more."""
    async with ctx.database.read() as tx:
        key = await catalogue.find(tx, ctx.scope, ApiKey, id=batch.key_id)
        held = await access.of_key(tx, ctx.scope, key, ctx.now()) if key is not None else None
    if held is None or key is None or key.revoked_at is not None:
        raise NotAllowed(f"the API key of {batch.requested_by} was revoked")
    if key.expires_at is not None and key.expires_at <= ctx.now():
        raise NotAllowed(f"the API key of {batch.requested_by} has expired")
    present = held.permissions.get(batch.permission)
    if present is None:
        raise NotAllowed(f"{batch.requested_by} no longer has the permission {batch.permission}")
    return msgspec.convert(batch.scope, Scope).narrowed(present)
