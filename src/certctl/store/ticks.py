"""Ticks: each is taken in the database, so that N replicas run one of each a period.

A tick of a long period carries a lease while it runs: when its taker dies or fails, another takes it once the lease has
lapsed, instead of a period later. One of a period shorter than a lease needs none.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from certctl.core.scope import Scope
from certctl.store.schema import ticks
from certctl.store.statements import Statement, insert, valued
from certctl.store.tx import Tx

_C = ticks.c
_DUE = sa.or_(_C.next_run_at <= sa.bindparam("now"), _C.lease_until <= sa.bindparam("now"))
_AT_REST = Statement(
    sa.select(_C.name).where(
        _C.tenant_id == sa.bindparam("tenant_id"),
        _C.next_run_at > sa.bindparam("now"),
        sa.or_(_C.lease_until.is_(None), _C.lease_until > sa.bindparam("now")),
    )
)
_TAKEN = ("lease_owner", "lease_until", "last_run_at", "next_run_at")
_NEW = insert(ticks).values(valued("tenant_id", "name", *_TAKEN) | {"fence": 1})
_TAKE = Statement(
    _NEW.on_conflict_do_update(
        index_elements=["tenant_id", "name"],
        set_={name: _NEW.excluded[name] for name in _TAKEN} | {"fence": _C.fence + 1},
        where=_DUE,
    ).returning(_C.fence)
)


async def at_rest(tx: Tx, scope: Scope, now: datetime) -> set[str]:
    """The names of the ticks that need nobody: not due, and whoever runs one holds its lease. A look that locks
    nothing; what it leaves out is due, or has never run.
    """
    return set((await tx.execute(_AT_REST, tenant_id=scope.tenant_id, now=now)).scalars())


async def take(
    tx: Tx, scope: Scope, name: str, owner: str, every: timedelta, now: datetime, lease: timedelta | None = None
) -> int | None:
    """Take the tick called `name` if it is due, or if its last taker let its lease lapse; the next one is due `every`
    later. The fence when it is ours to run, else None.
    """
    fence = await tx.scalar(
        _TAKE,
        tenant_id=scope.tenant_id,
        name=name,
        now=now,
        lease_owner=owner,
        lease_until=now + lease if lease else None,
        last_run_at=now,
        next_run_at=now + every,
    )
    return None if fence is None else int(fence)


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
