"""Token buckets that all replicas count together. A bucket that nobody asks for is full again, and may be swept."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from certctl.core.rules import Rate
from certctl.core.scope import Scope
from certctl.store.schema import rate_buckets
from certctl.store.tx import Tx


async def take(tx: Tx, scope: Scope, name: str, rate: Rate, wanted: int, now: datetime) -> tuple[int, float]:
    """At most `wanted` whole tokens out of a bucket: how many there were, and the seconds until there is one more.

    `now` is the replica's own clock: a bucket goes by the fastest of them and never gives a token twice.
    """
    table = rate_buckets
    mine = sa.and_(table.c.tenant_id == scope.tenant_id, table.c.name == name)
    full = {"tenant_id": scope.tenant_id, "name": name, "tokens": float(rate.burst), "updated_at": now}
    await tx.execute(tx.insert(table).values(full).on_conflict_do_nothing())
    row = (await tx.execute(sa.select(table.c.tokens, table.c.updated_at).where(mine).with_for_update())).one()
    elapsed = max(0.0, (now - row.updated_at).total_seconds())
    tokens = min(float(rate.burst), row.tokens + elapsed * rate.per_second)
    taken = min(wanted, int(tokens))
    left = tokens - taken
    await tx.execute(sa.update(table).where(mine).values(tokens=left, updated_at=max(now, row.updated_at)))
    return taken, max(0.0, 1.0 - left) / rate.per_second


async def sweep(tx: Tx, scope: Scope, before: datetime) -> int:
    """Delete buckets that nobody asked for since then; returns how many."""
    table = rate_buckets
    swept = await tx.execute(sa.delete(table).where(table.c.tenant_id == scope.tenant_id, table.c.updated_at < before))
    return swept.rowcount
