"""Counters of the whole fleet: added up from what every transaction left, so that a restart or a replica loses none.

A transaction writes its share as rows of its own (`Tx.count`), which blocks nobody; `fold` moves them into the totals.
Totals and rows not yet folded are read in one statement, so that no count is seen twice or missed between the two.
"""

from __future__ import annotations

from collections import defaultdict

import sqlalchemy as sa

from certctl.core.scope import Scope
from certctl.store.schema import counter_deltas, counter_totals
from certctl.store.tx import Tx

FULL = 10_000

Totals = dict[str, dict[str, float]]


async def fold(tx: Tx, scope: Scope) -> int:
    """Move written shares into the totals; returns how many rows, a full batch meaning that there may be more."""
    deltas, totals = counter_deltas, counter_totals
    oldest = sa.select(deltas.c.seq).where(deltas.c.tenant_id == scope.tenant_id).order_by(deltas.c.seq).limit(FULL)
    taken = await tx.execute(
        sa.delete(deltas)
        .where(deltas.c.seq.in_(oldest.with_for_update(skip_locked=True)))
        .returning(deltas.c.name, deltas.c.labels, deltas.c.amount)
    )
    sums: dict[tuple[str, str], float] = defaultdict(float)
    rows = 0
    for row in taken:
        sums[row.name, row.labels] += row.amount
        rows += 1
    for (name, labels), amount in sorted(sums.items()):
        statement = tx.insert(totals).values(tenant_id=scope.tenant_id, name=name, labels=labels, amount=amount)
        await tx.execute(
            statement.on_conflict_do_update(
                index_elements=["tenant_id", "name", "labels"],
                set_={"amount": totals.c.amount + statement.excluded.amount},
            )
        )
    return rows


async def totals(tx: Tx, scope: Scope) -> Totals:
    """Every line's total by metric name and labels (a JSON object with sorted names)."""
    parts = [
        sa.select(table.c.name, table.c.labels, table.c.amount).where(table.c.tenant_id == scope.tenant_id)
        for table in (counter_totals, counter_deltas)
    ]
    both = sa.union_all(*parts).subquery()
    rows = await tx.execute(
        sa.select(both.c.name, both.c.labels, sa.func.sum(both.c.amount).label("amount")).group_by(
            both.c.name, both.c.labels
        )
    )
    found: Totals = defaultdict(dict)
    for row in rows:
        found[row.name][row.labels] = float(row.amount)
    return found
