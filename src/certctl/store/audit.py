"""The event log and the outbox: what only the ledger may write.

On PostgreSQL each event carries its transaction's id; followers read below the oldest running transaction, so that an
event that commits late is never skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.scope import Scope
from certctl.store import arrays, copied
from certctl.store.schema import events, notifications
from certctl.store.statements import Statement
from certctl.store.tx import Tx

_NOT_BEGUN = "pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
_RUNNING = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_HORIZON = f"audit_events.transaction_id < {_RUNNING}"


class EventRow(Struct, frozen=True, kw_only=True):
    """One event as it lies in the log."""

    tenant_id: str
    seq: int
    transaction_id: int
    id: str
    type: str
    subject_type: str
    subject_id: str
    actor: str
    actor_type: str
    request_id: str
    address: str
    details: dict[str, Any]
    created_at: datetime


# its transaction's id, by which followers know what may still be overtaken
_COMPUTED = (("transaction_id", "pg_current_xact_id()::text::bigint"),)
_TRANSACTION_ID = Statement(sa.select(sa.literal_column(_COMPUTED[0][1])))
# what tells of more than a bulk revocation is several statements anyway (`Tx.write`): COPY costs less then
_MANY = 250


async def append_events(tx: Tx, scope: Scope, told: Sequence[dict[str, Any]]) -> None:
    """Write events, all with the same columns, in the caller's transaction, in order."""
    owned = [row | {"tenant_id": scope.tenant_id} for row in told]
    if tx.dialect != "postgresql" or len(owned) <= _MANY:
        await arrays.insert(tx, events, owned, computed=_COMPUTED)
        return
    transaction_id = await tx.scalar(_TRANSACTION_ID)
    columns = (*owned[0], "transaction_id")
    await copied.insert(tx, events, columns, [(*row.values(), transaction_id) for row in owned])


async def events_after(tx: Tx, scope: Scope, after: tuple[int, int], limit: int) -> list[EventRow]:
    """Events in commit order behind the cursor `(transaction_id, seq)`, never one that could still be overtaken."""
    statement = sa.select(events).where(events.c.tenant_id == scope.tenant_id)
    if tx.dialect == "postgresql":
        statement = statement.where(
            sa.text(_HORIZON), sa.tuple_(events.c.transaction_id, events.c.seq) > sa.tuple_(*map(sa.literal, after))
        ).order_by(events.c.transaction_id, events.c.seq)
    else:
        statement = statement.where(events.c.seq > after[1]).order_by(events.c.seq)
    return await tx.all(EventRow, statement.limit(limit))


async def newest_events(
    tx: Tx, scope: Scope, limit: int, *, subject_id: str = "", before: int | None = None
) -> list[EventRow]:
    """The newest events, newest first; those of one subject when it is named, those before a sequence number."""
    statement = sa.select(events).where(events.c.tenant_id == scope.tenant_id)
    if subject_id:
        statement = statement.where(events.c.subject_id == subject_id)
    if before is not None:
        statement = statement.where(events.c.seq < before)
    return await tx.all(EventRow, statement.order_by(events.c.seq.desc()).limit(limit))


async def events_of(tx: Tx, scope: Scope, subject_type: str, subject_id: str, kind: str) -> list[EventRow]:
    """Every event of one kind about one thing, in order."""
    c = events.c
    about = (c.tenant_id == scope.tenant_id, c.subject_id == subject_id, c.subject_type == subject_type, c.type == kind)
    return await tx.all(EventRow, sa.select(events).where(*about).order_by(c.seq))


async def newest_position(tx: Tx, scope: Scope) -> tuple[int, int]:
    """The cursor behind the newest event that nothing can overtake any more; (0, 0) in an empty log."""
    c = events.c
    statement = sa.select(c.transaction_id, c.seq).where(c.tenant_id == scope.tenant_id)
    if tx.dialect == "postgresql":
        statement = statement.where(sa.text(_HORIZON)).order_by(c.transaction_id.desc(), c.seq.desc())
    else:
        statement = statement.order_by(c.seq.desc())
    row = (await tx.execute(statement.limit(1))).first()
    return (0, 0) if row is None else (int(row.transaction_id), int(row.seq))


async def adopt_restored(tx: Tx, scope: Scope) -> int:
    """Put events of another cluster before all of this one; returns how many there were.

    A dump restored elsewhere brings transaction ids that this cluster has yet to reach: what happens here would lie
    before them, and no follower would hear of it.
    """
    if tx.dialect != "postgresql":
        return 0
    adopted = await tx.execute(
        sa.update(events)
        .where(events.c.tenant_id == scope.tenant_id, sa.text(f"audit_events.transaction_id >= {_NOT_BEGUN}"))
        .values(transaction_id=0)
    )
    return int(adopted.rowcount)


async def details_since(
    tx: Tx, scope: Scope, event_types: Sequence[str], horizon: int | None
) -> tuple[int, list[dict[str, Any]]]:
    """Every event of these types that could not be seen yet at `horizon`, and the horizon of this look; None: no event.

    For who asks again and again and must miss nothing, nor wait for the oldest running transaction as a follower does:
    what runs longer is told once more at each look.
    """
    c = events.c
    wanted = [c.tenant_id == scope.tenant_id, c.type.in_(event_types)]
    if tx.dialect == "postgresql":
        now = sa.select(sa.literal_column(_RUNNING).label("horizon")).subquery("now")
        wanted.append(c.transaction_id >= horizon if horizon is not None else sa.false())
        # one statement, so one snapshot: the horizon and what is seen beneath it belong together
        found = await tx.execute(
            sa.select(now.c.horizon, c.details).select_from(now.outerjoin(events, sa.and_(*wanted)))
        )
        rows = found.all()
        return int(rows[0].horizon), [row.details for row in rows if row.details is not None]
    end = int(await tx.scalar(sa.select(sa.func.max(c.seq)).where(c.tenant_id == scope.tenant_id)) or 0)
    if horizon is None or horizon == end:
        return end, []
    found = await tx.execute(sa.select(c.details).where(*wanted, c.seq > horizon))
    return end, [row.details for row in found]


async def is_of_this_cluster(tx: Tx, position: tuple[int, int]) -> bool:
    """Whether a cursor can have been given out here: its transaction has at least begun."""
    if tx.dialect != "postgresql":
        return True
    return bool(await tx.scalar(sa.select(sa.literal(position[0]) < sa.text(_NOT_BEGUN))))


async def insert_notices(tx: Tx, scope: Scope, notices: Sequence[dict[str, Any]]) -> None:
    """Write outbox rows, each once by its dedup key."""
    await arrays.insert(tx, notifications, [row | {"tenant_id": scope.tenant_id} for row in notices], once=True)


async def insert_notice(tx: Tx, scope: Scope, row: dict[str, Any]) -> bool:
    """Write an outbox row once by its dedup key; False when it was there."""
    inserted = await tx.execute(
        tx.insert(notifications).values(row | {"tenant_id": scope.tenant_id}).on_conflict_do_nothing()
    )
    return inserted.rowcount == 1
