"""Ticks: each takes a lease in the database, so that N replicas run one of each."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from certctl.core.scope import Scope
from certctl.store.schema import ticks
from certctl.store.tx import Tx


async def take(tx: Tx, scope: Scope, name: str, owner: str, every: timedelta, now: datetime) -> bool:
    """Take the tick called `name` if it is due; the next one is due `every` later. True when it is ours to run."""
    await tx.execute(
        tx.insert(ticks).values(tenant_id=scope.tenant_id, name=name, next_run_at=now).on_conflict_do_nothing()
    )
    taken = await tx.execute(
        sa.update(ticks)
        .where(ticks.c.tenant_id == scope.tenant_id, ticks.c.name == name, ticks.c.next_run_at <= now)
        .values(lease_owner=owner, last_run_at=now, next_run_at=now + every, fence=ticks.c.fence + 1)
    )
    return taken.rowcount == 1
