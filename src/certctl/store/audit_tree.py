"""The sealed tree over the event log: leaves, stored subtrees, signed heads, and how far all was verified."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.scope import Scope
from certctl.store import audit, copied
from certctl.store.audit import EventRow
from certctl.store.schema import audit_heads, audit_leaves, audit_nodes, audit_tree, events
from certctl.store.tx import Tx, as_struct

FANOUT = 256


class Tree(Struct, frozen=True, kw_only=True):
    """How far the log is sealed, and how far the seal was verified; `broken_at` is the first leaf that did not hold."""

    key_ref: str
    origin: str
    size: int
    transaction_id: int
    seq: int
    verified_size: int
    verified_at: datetime | None
    walked_at: datetime | None
    broken_at: int | None
    broken: str
    pruned_size: int


class Head(Struct, frozen=True):
    """A signed tree head."""

    size: int
    root: bytes
    note: str


class Leaf(Struct, frozen=True):
    """A leaf beside the event that it seals; `event` is None when that row is gone."""

    leaf_index: int
    hash: bytes
    event: EventRow | None


async def tree(tx: Tx, scope: Scope, *, lock: bool = False) -> Tree | None:
    """The tree; with `lock` nobody else moves it until the commit."""
    statement = sa.select(audit_tree).where(audit_tree.c.tenant_id == scope.tenant_id)
    if lock and tx.dialect == "postgresql":
        statement = statement.with_for_update()
    return await tx.one(Tree, statement)


async def begin_tree(tx: Tx, scope: Scope, key_ref: str, origin: str, now: datetime) -> bool:
    """An empty tree; False when there is one already."""
    row = {"tenant_id": scope.tenant_id, "key_ref": key_ref, "origin": origin, "created_at": now}
    inserted = await tx.execute(tx.insert(audit_tree).values(row).on_conflict_do_nothing())
    return inserted.rowcount == 1


async def move(tx: Tx, scope: Scope, **changes: Any) -> None:
    """Change the tree's row."""
    await tx.execute(sa.update(audit_tree).where(audit_tree.c.tenant_id == scope.tenant_id).values(changes))


async def unsealed(tx: Tx, scope: Scope, after: tuple[int, int], limit: int) -> tuple[list[EventRow], tuple[int, int]]:
    """Events behind `after`, in the order of their commits, that no leaf seals; and how far was looked. Of a restored
    log, which is looked through from its beginning, many are sealed.
    """
    while found := await audit.events_after(tx, scope, after, limit):
        known = await tx.execute(
            sa.select(audit_leaves.c.seq).where(
                audit_leaves.c.tenant_id == scope.tenant_id, audit_leaves.c.seq.in_([event.seq for event in found])
            )
        )
        sealed = {row.seq for row in known}
        after = (found[-1].transaction_id, found[-1].seq)
        if len(sealed) < len(found):
            return [event for event in found if event.seq not in sealed], after
    return [], after


async def count_unsealed(tx: Tx, scope: Scope) -> int:
    """How many events wait for their seal, at most 10,000."""
    found = await tree(tx, scope)
    after = (found.transaction_id, found.seq) if found else (0, 0)
    waiting = sa.select(events.c.seq).where(events.c.tenant_id == scope.tenant_id)
    if tx.dialect == "postgresql":
        place = sa.tuple_(events.c.transaction_id, events.c.seq)
        waiting = waiting.where(place > sa.tuple_(*map(sa.literal, after)))
    else:
        waiting = waiting.where(events.c.seq > after[1])
    return int(await tx.scalar(sa.select(sa.func.count()).select_from(waiting.limit(10_000).subquery())))


async def slipped_in(tx: Tx, scope: Scope, found: Tree) -> EventRow | None:
    """An event that stands before the sealed place in the log and that no leaf seals: nobody's commit put it there."""
    place = sa.tuple_(events.c.transaction_id, events.c.seq) if tx.dialect == "postgresql" else sa.tuple_(events.c.seq)
    until = (found.transaction_id, found.seq) if tx.dialect == "postgresql" else (found.seq,)
    leaf = sa.and_(audit_leaves.c.tenant_id == events.c.tenant_id, audit_leaves.c.seq == events.c.seq)
    statement = (
        sa.select(events)
        .outerjoin(audit_leaves, leaf)
        .where(events.c.tenant_id == scope.tenant_id, audit_leaves.c.seq.is_(None))
        .where(place <= sa.tuple_(*map(sa.literal, until)))
        .order_by(events.c.seq)
    )
    return await tx.one(EventRow, statement.limit(1))


async def append_leaves(tx: Tx, scope: Scope, start: int, leaves: Iterable[tuple[int, bytes]]) -> None:
    """Write (event's seq, hash) as leaves from `start` on. A second writer fails on the key, and nothing is doubled."""
    columns = ("tenant_id", "leaf_index", "seq", "hash")
    rows = [(scope.tenant_id, start + offset, seq, hashed) for offset, (seq, hashed) in enumerate(leaves)]
    if copied.is_worth_it(tx, len(rows)):
        await copied.insert(tx, audit_leaves, columns, rows)
    else:
        await tx.execute(sa.insert(audit_leaves), [dict(zip(columns, row, strict=True)) for row in rows])


async def append_nodes(tx: Tx, scope: Scope, level: int, start: int, hashes: Sequence[bytes]) -> None:
    """Write the roots of complete subtrees of `FANOUT ** level` leaves."""
    rows = [
        {"tenant_id": scope.tenant_id, "level": level, "position": start + offset, "hash": hashed}
        for offset, hashed in enumerate(hashes)
    ]
    await tx.execute(sa.insert(audit_nodes), rows)


async def hashes(tx: Tx, scope: Scope, level: int, start: int, end: int) -> list[bytes]:
    """Stored hashes of one level, those that are there: leaves are level 0."""
    if level == 0:
        c: Any = audit_leaves.c
        statement = sa.select(c.hash).where(c.tenant_id == scope.tenant_id, c.leaf_index >= start, c.leaf_index < end)
        statement = statement.order_by(c.leaf_index)
    else:
        c = audit_nodes.c
        statement = sa.select(c.hash).where(c.tenant_id == scope.tenant_id, c.level == level)
        statement = statement.where(c.position >= start, c.position < end).order_by(c.position)
    return [bytes(row.hash) for row in await tx.execute(statement)]


async def insert_head(tx: Tx, scope: Scope, head: Head, now: datetime) -> None:
    """Keep a head."""
    row = {"tenant_id": scope.tenant_id, "size": head.size, "root": head.root, "note": head.note, "created_at": now}
    await tx.execute(sa.insert(audit_heads).values(row))


async def newest_head(tx: Tx, scope: Scope) -> Head | None:
    """The head of the whole sealed log."""
    c = audit_heads.c
    mine = sa.select(audit_heads).where(c.tenant_id == scope.tenant_id)
    return await tx.one(Head, mine.order_by(c.size.desc()).limit(1))


async def heads(tx: Tx, scope: Scope, above: int, limit: int, *, until: int | None = None) -> list[Head]:
    """Heads of more than `above` leaves, and of at most `until`, smallest first."""
    c = audit_heads.c
    chosen = sa.select(audit_heads).where(c.tenant_id == scope.tenant_id, c.size > above)
    if until is not None:
        chosen = chosen.where(c.size <= until)
    return await tx.all(Head, chosen.order_by(c.size).limit(limit))


async def head_within(tx: Tx, scope: Scope, place: tuple[int, int], above: int) -> tuple[Head, str] | None:
    """The newest head over more than `above` events that all lie up to `place` in the log, and the id of the last of
    these events; None when there is none.
    """
    found = await tree(tx, scope)
    if found is None:
        return None
    size = found.size
    if (found.transaction_id, found.seq) > place:  # more is sealed than that: up to which leaf does it reach?
        index = await leaf_of(tx, scope, place[1])
        size = 0 if index is None else index + 1
    c = audit_heads.c
    newest = sa.select(audit_heads).where(c.tenant_id == scope.tenant_id, c.size <= size, c.size > above)
    head = await tx.one(Head, newest.order_by(c.size.desc()).limit(1))
    last = [] if head is None else await leaves(tx, scope, head.size - 1, head.size)
    if head is None or not last or last[0].event is None:
        return None
    return head, last[0].event.id


async def leaf_of(tx: Tx, scope: Scope, seq: int) -> int | None:
    """The leaf that seals an event; None when it is not sealed yet."""
    c = audit_leaves.c
    found = await tx.scalar(sa.select(c.leaf_index).where(c.tenant_id == scope.tenant_id, c.seq == seq))
    return None if found is None else int(found)


async def leaves(tx: Tx, scope: Scope, start: int, end: int) -> list[Leaf]:
    """Leaves with their events, in order, those that are there."""
    mine = sa.and_(events.c.tenant_id == audit_leaves.c.tenant_id, events.c.seq == audit_leaves.c.seq)
    statement = (
        sa.select(audit_leaves.c.leaf_index, audit_leaves.c.hash, *events.c)
        .outerjoin(events, mine)
        .where(audit_leaves.c.tenant_id == scope.tenant_id)
        .where(audit_leaves.c.leaf_index >= start, audit_leaves.c.leaf_index < end)
        .order_by(audit_leaves.c.leaf_index)
    )
    rows = (await tx.execute(statement)).mappings()
    return [
        Leaf(row["leaf_index"], bytes(row["hash"]), None if row["id"] is None else as_struct(EventRow, row))
        for row in rows
    ]


_SEALED = "e.type, e.actor, e.actor_type, e.address, {}, e.id, e.request_id, e.subject_id, e.subject_type, {}"
# the events of leaves that lie together lie together, too: told so, PostgreSQL reads this part of the log by its index,
# and not the whole of it for each part
_LEAVES = (
    "WITH l AS MATERIALIZED (SELECT tenant_id, leaf_index, seq, hash FROM audit_leaves "
    "WHERE tenant_id = {1} AND leaf_index >= {2} AND leaf_index < {3}) "
    "SELECT l.leaf_index, l.hash, {0} FROM l LEFT JOIN audit_events e ON e.tenant_id = l.tenant_id AND e.seq = l.seq "
    "AND e.seq BETWEEN (SELECT min(seq) FROM l) AND (SELECT max(seq) FROM l) ORDER BY l.leaf_index"
)
# to_char writes years before the first as those after it
_POSTGRESQL_TIME = (
    "CASE WHEN e.created_at >= '0001-01-01' AND e.created_at < '10000-01-01' "
    """THEN to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') ELSE '' END"""
)
_SQLITE_TIME = (
    "CASE WHEN substr(e.created_at, 11, 1) = ' ' "
    "THEN substr(e.created_at, 1, 10) || 'T' || substr(e.created_at, 12) || 'Z' ELSE '' END"
)
_RAW_LEAVES = {
    "postgresql": _LEAVES.format(_SEALED.format("e.details::text", _POSTGRESQL_TIME), "$1", "$2", "$3"),
    "sqlite": _LEAVES.format(_SEALED.format("e.details", _SQLITE_TIME), "?", "?", "?"),
}


async def raw_leaves(tx: Tx, scope: Scope, start: int, end: int) -> Sequence[Sequence[Any]]:
    """Leaves with their events, in order, for whoever reads millions: leaf index, hash, then what is sealed of the
    event in the order of `core.audit.SEALED_FIELDS`, details as JSON text and the time as it is sealed; None for all of
    it when the event is gone.
    """
    return await tx.rows(_RAW_LEAVES[tx.dialect], scope.tenant_id, start, end)


async def range_between(tx: Tx, scope: Scope, since: datetime | None, until: datetime | None) -> tuple[int, int]:
    """From the first leaf whose event was at `since` or later, to behind the last before `until`."""
    mine = sa.and_(events.c.tenant_id == audit_leaves.c.tenant_id, events.c.seq == audit_leaves.c.seq)
    index = audit_leaves.c.leaf_index
    statement = (
        sa.select(sa.func.min(index).label("first"), sa.func.max(index).label("last"))
        .select_from(audit_leaves)
        .join(events, mine)
        .where(audit_leaves.c.tenant_id == scope.tenant_id)
    )
    if since is not None:
        statement = statement.where(events.c.created_at >= since)
    if until is not None:
        statement = statement.where(events.c.created_at < until)
    found = (await tx.execute(statement)).mappings().one()
    return (0, 0) if found["first"] is None else (int(found["first"]), int(found["last"]) + 1)
