"""Ticks: each is taken in the database, so that N replicas run one of each a period.

A tick of a long period carries a lease while it runs: when its taker dies or fails, another takes it once the lease has
lapsed, instead of a period later. One of a period shorter than a lease needs none.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from certctl.core.scope import Scope
from certctl.store.schema import ticks
from certctl.store.tx import Tx


async def take(
    tx: Tx, scope: Scope, name: str, owner: str, every: timedelta, now: datetime, lease: timedelta | None = None
) -> int | None:
    """Take the tick called `name` if it is due, or if its last taker let its lease lapse; the next one is due `every`
    later. The fence when it is ours to run, else None.
    """
    await tx.execute(
        tx.insert(ticks).values(tenant_id=scope.tenant_id, name=name, next_run_at=now).on_conflict_do_nothing()
    )
    due = sa.or_(ticks.c.next_run_at <= now, ticks.c.lease_until <= now)
    taken = await tx.execute(
        sa.update(ticks)
        .where(ticks.c.tenant_id == scope.tenant_id, ticks.c.name == name, due)
        .values(
            lease_owner=owner,
            lease_until=now + lease if lease else None,
            last_run_at=now,
            next_run_at=now + every,
            fence=ticks.c.fence + 1,
        )
        .returning(ticks.c.fence)
    )
    row = taken.first()
    return None if row is None else int(row[0])


async def keep(tx: Tx, scope: Scope, name: str, fence: int, until: datetime) -> None:
    """Push the end of the lease of a tick that still runs."""
    await tx.execute(sa.update(ticks).where(_held(scope, name, fence)).values(lease_until=until))


async def end(tx: Tx, scope: Scope, name: str, fence: int) -> None:
    """It has run: no lease is left to lapse."""
    await tx.execute(sa.update(ticks).where(_held(scope, name, fence)).values(lease_owner="", lease_until=None))


def _held(scope: Scope, name: str, fence: int) -> sa.ColumnElement[bool]:
    return sa.and_(
        ticks.c.tenant_id == scope.tenant_id,
        ticks.c.name == name,
        ticks.c.fence == fence,
        ticks.c.lease_until.is_not(None),
    )
