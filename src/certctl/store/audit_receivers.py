"""How far each receiver of the audit log has come, and how its last batch went."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.errors import StaleFence
from certctl.core.scope import Scope
from certctl.store.schema import audit_receivers as receivers
from certctl.store.schema import events
from certctl.store.tx import Tx


class Cursor(Struct, frozen=True, kw_only=True):
    """One receiver: all up to (transaction_id, seq) is there, and the head of `head_size` events; `sent` counts events,
    those sent again too.
    """

    tenant_id: str
    name: str
    transaction_id: int
    seq: int
    sent: int
    head_size: int
    sent_at: datetime | None
    failures: int
    error: str
    next_try_at: datetime | None
    created_at: datetime

    @property
    def place(self) -> tuple[int, int]:
        """The last event that is there, as `ledger.follow` takes it."""
        return (self.transaction_id, self.seq)


async def read(tx: Tx, scope: Scope, name: str) -> Cursor | None:
    """One receiver's cursor, if anything was ever to be sent to it."""
    return await tx.one(Cursor, sa.select(receivers).where(*_one(scope, name)))


async def every(tx: Tx, scope: Scope) -> list[Cursor]:
    """All cursors, by name."""
    mine = sa.select(receivers).where(receivers.c.tenant_id == scope.tenant_id)
    return await tx.all(Cursor, mine.order_by(receivers.c.name))


async def begin(tx: Tx, scope: Scope, name: str, now: datetime) -> None:
    """A receiver that is new hears of all there is."""
    row = {"tenant_id": scope.tenant_id, "name": name, "created_at": now}
    await tx.execute(tx.insert(receivers).values(row).on_conflict_do_nothing())


async def advance(
    tx: Tx, scope: Scope, before: Cursor, place: tuple[int, int], head_size: int, number: int, now: datetime
) -> None:
    """Move on behind a batch of `number` events that has arrived, and the head with it. StaleFence when another process
    moved it meanwhile.
    """
    moved = await tx.execute(
        sa.update(receivers)
        .where(*_as_read(scope, before))
        .values(
            transaction_id=place[0],
            seq=place[1],
            head_size=head_size,
            sent=receivers.c.sent + number,
            sent_at=now,
            failures=0,
            error="",
            next_try_at=None,
        )
    )
    if moved.rowcount != 1:
        raise StaleFence(f"another process sends to {before.name}")


async def fail(tx: Tx, scope: Scope, before: Cursor, error: str, again_at: datetime) -> None:
    """A batch did not arrive: the cursor stays."""
    await tx.execute(
        sa.update(receivers)
        .where(*_as_read(scope, before))
        .values(failures=receivers.c.failures + 1, error=error, next_try_at=again_at)
    )


async def start_over(tx: Tx, scope: Scope) -> None:
    """The places of the log have changed (a restored dump): everything is sent again, rather than something not."""
    await tx.execute(
        sa.update(receivers)
        .where(receivers.c.tenant_id == scope.tenant_id)
        .values(transaction_id=0, seq=0, head_size=0, next_try_at=None)
    )


async def behind(tx: Tx, scope: Scope, place: tuple[int, int], most: int | None = None) -> int:
    """How many events lie behind a place; at most `most` are counted."""
    waiting = sa.select(events.c.seq).where(*_behind(tx, scope, place)).limit(most)
    return int(await tx.scalar(sa.select(sa.func.count()).select_from(waiting.subquery())))


async def waits_since(tx: Tx, scope: Scope, place: tuple[int, int]) -> datetime | None:
    """When the first event behind a place happened; None when there is none."""
    c = events.c
    order = (c.transaction_id, c.seq) if tx.dialect == "postgresql" else (c.seq,)
    first = sa.select(c.created_at).where(*_behind(tx, scope, place)).order_by(*order).limit(1)
    found: datetime | None = await tx.scalar(first)
    return found


def _behind(tx: Tx, scope: Scope, place: tuple[int, int]) -> list[sa.ColumnElement[bool]]:
    c = events.c
    if tx.dialect != "postgresql":
        return [c.tenant_id == scope.tenant_id, c.seq > place[1]]
    return [c.tenant_id == scope.tenant_id, sa.tuple_(c.transaction_id, c.seq) > sa.tuple_(*map(sa.literal, place))]


def _one(scope: Scope, name: str) -> list[sa.ColumnElement[bool]]:
    return [receivers.c.tenant_id == scope.tenant_id, receivers.c.name == name]


def _as_read(scope: Scope, before: Cursor) -> list[sa.ColumnElement[bool]]:
    return [
        *_one(scope, before.name),
        receivers.c.transaction_id == before.transaction_id,
        receivers.c.seq == before.seq,
        receivers.c.head_size == before.head_size,
    ]
