"""Answers to challenges that stand somewhere for an order at another CA: kept before they are put, until taken away."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.acme import DRY_RUN
from certctl.core.scope import Scope
from certctl.core.status import LIVE_JOB, OrderStatus
from certctl.store.schema import ca_proofs, jobs, orders
from certctl.store.tx import Tx


class ProofRecord(Struct, frozen=True, kw_only=True):
    """One answer."""

    tenant_id: str
    order_id: str
    token: str
    issuer_id: str
    name: str
    key_authorization: str
    job_id: str
    agent_id: str
    created_at: datetime


async def keep(tx: Tx, scope: Scope, records: Sequence[ProofRecord]) -> None:
    """Write what is about to be put; what is there already stays."""
    rows = [
        {name: getattr(record, name) for name in record.__struct_fields__} | {"tenant_id": scope.tenant_id}
        for record in records
    ]
    await tx.execute(tx.insert(ca_proofs).values(rows).on_conflict_do_nothing())


async def of_order(tx: Tx, scope: Scope, order_id: str) -> list[ProofRecord]:
    """What stands for an order."""
    c = ca_proofs.c
    mine = sa.and_(c.tenant_id == scope.tenant_id, c.order_id == order_id)
    return await tx.all(ProofRecord, sa.select(ca_proofs).where(mine).order_by(c.token))


async def drop(tx: Tx, scope: Scope, order_id: str) -> None:
    """It was taken away."""
    c = ca_proofs.c
    await tx.execute(sa.delete(ca_proofs).where(c.tenant_id == scope.tenant_id, c.order_id == order_id))


async def left(tx: Tx, scope: Scope, limit: int, began_before: datetime) -> list[ProofRecord]:
    """What stands for orders that have ended, or whose job has, and for dry runs that began so long ago that none is
    under way: the oldest first.
    """
    c, ended = ca_proofs.c, (OrderStatus.RECORDED, OrderStatus.REJECTED)
    alive = (
        sa.exists()
        .where(orders.c.tenant_id == scope.tenant_id, orders.c.id == c.order_id, orders.c.status.not_in(ended))
        .where(jobs.c.tenant_id == scope.tenant_id, jobs.c.id == orders.c.job_id, jobs.c.status.in_(tuple(LIVE_JOB)))
    )
    playing = sa.and_(c.order_id.startswith(f"{DRY_RUN}-"), c.created_at >= began_before)
    chosen = sa.select(ca_proofs).where(c.tenant_id == scope.tenant_id, ~alive, ~playing)
    return await tx.all(ProofRecord, chosen.order_by(c.created_at, c.token).limit(limit))
