"""What remains of audit events that were pruned: the hashes of their leaves, packed by blocks of `FANOUT`.

Thirty-two bytes an event, and no event can be told from them; but every proof over the log, and every head that
anybody kept, holds on as if the events were there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certctl.core.events import EventType
from certctl.core.scope import Scope
from certctl.store.audit_tree import FANOUT
from certctl.store.schema import audit_blocks, audit_leaves, breakglass_setters, events
from certctl.store.tx import Tx

_HASH_BYTES = 32


async def blocks(tx: Tx, scope: Scope, start: int, end: int) -> list[bytes] | None:
    """The hashes of pruned leaves from `start` to `end` (multiples of `FANOUT`), in order; None when some are gone."""
    c = audit_blocks.c
    wanted = sa.select(c.position, c.hashes).where(c.tenant_id == scope.tenant_id)
    wanted = wanted.where(c.position >= start // FANOUT, c.position < end // FANOUT).order_by(c.position)
    packed = [bytes(row.hashes) for row in await tx.execute(wanted)]
    if len(packed) != (end - start) // FANOUT or any(len(each) != FANOUT * _HASH_BYTES for each in packed):
        return None
    return [each[at : at + _HASH_BYTES] for each in packed for at in range(0, len(each), _HASH_BYTES)]


async def pack(tx: Tx, scope: Scope, start: int, hashes: Sequence[bytes]) -> None:
    """Put hashes of whole blocks in the place of events and leaves: those are gone with the commit."""
    c, end = audit_leaves.c, start + len(hashes)
    rows = [
        {
            "tenant_id": scope.tenant_id,
            "position": (start + low) // FANOUT,
            "hashes": b"".join(hashes[low : low + FANOUT]),
        }
        for low in range(0, len(hashes), FANOUT)
    ]
    await tx.execute(sa.insert(audit_blocks), rows)
    mine = sa.and_(c.tenant_id == scope.tenant_id, c.leaf_index >= start, c.leaf_index < end)
    sealed = sa.select(c.seq).where(mine)
    await tx.execute(sa.delete(events).where(events.c.tenant_id == scope.tenant_id, events.c.seq.in_(sealed)))
    await tx.execute(sa.delete(audit_leaves).where(mine))


async def keep_setters(tx: Tx, scope: Scope, start: int, end: int, subject_type: str, field: str) -> None:
    """Of events that go: who set a break-glass password for whom, and when first. Approvals go by it for ever."""
    c = events.c
    leaf = sa.and_(audit_leaves.c.tenant_id == c.tenant_id, audit_leaves.c.seq == c.seq)
    going = (
        sa.select(c.subject_id, c.actor, c.created_at, c.details)
        .join(audit_leaves, leaf)
        .where(audit_leaves.c.tenant_id == scope.tenant_id, audit_leaves.c.leaf_index >= start)
        .where(audit_leaves.c.leaf_index < end, c.type == EventType.CONFIG_UPDATED, c.subject_type == subject_type)
        .order_by(c.created_at)
    )
    for row in (await tx.execute(going)).all():
        if field in row.details["fields"]:
            kept = {"tenant_id": scope.tenant_id, "name": row.subject_id, "setter": row.actor}
            written = tx.insert(breakglass_setters).values(kept | {"first_set_at": row.created_at})
            await tx.execute(written.on_conflict_do_nothing())


async def setters(tx: Tx, scope: Scope, name: str, at: datetime) -> set[str]:
    """Who had set a break-glass password for a name by then, of events that were pruned."""
    c = breakglass_setters.c
    mine = sa.select(c.setter).where(c.tenant_id == scope.tenant_id, c.name == name, c.first_set_at <= at)
    return {row.setter for row in await tx.execute(mine)}


async def has_all(tx: Tx, scope: Scope, place: tuple[int, int], start: int, end: int) -> bool:
    """Whether a follower at `place` has come past every event of the leaves from `start` to `end`."""
    leaf = sa.and_(audit_leaves.c.tenant_id == events.c.tenant_id, audit_leaves.c.seq == events.c.seq)
    behind: Any = events.c.seq > place[1]
    if tx.dialect == "postgresql":
        behind = sa.tuple_(events.c.transaction_id, events.c.seq) > sa.tuple_(*map(sa.literal, place))
    waiting = (
        sa.select(events.c.seq)
        .join(audit_leaves, leaf)
        .where(audit_leaves.c.tenant_id == scope.tenant_id)
        .where(audit_leaves.c.leaf_index >= start, audit_leaves.c.leaf_index < end, behind)
        .limit(1)
    )
    return (await tx.execute(waiting)).first() is None


async def newest_told(tx: Tx, scope: Scope) -> int:
    """How far the log itself says that it was pruned, in its newest event of that kind; 0 without one."""
    c = events.c
    told = sa.select(c.details).where(c.tenant_id == scope.tenant_id, c.type == EventType.AUDIT_PRUNED)
    row = (await tx.execute(told.order_by(c.seq.desc()).limit(1))).first()
    end = row.details.get("end") if row is not None and isinstance(row.details, dict) else None
    return end if isinstance(end, int) else 0
