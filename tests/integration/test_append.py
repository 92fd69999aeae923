"""An event that is the whole of its transaction is one round trip to PostgreSQL; whatever comes with it is one commit with it."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import pytest
import sqlalchemy as sa

from certctl import ledger
from certctl.core.actor import SYSTEM
from certctl.core.events import Event, EventType
from certctl.core.scope import Scope
from certctl.store import audit, migrate
from certctl.store.tx import Database
from certctl.telemetry import metrics

SCOPE = Scope.whole("t-default")
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
async def database(database_url):
    made = Database(database_url)
    await migrate.migrate(made)
    async with made.begin("test") as tx:  # a first connection asks for more
        await tx.scalar(sa.select(1))
    yield made
    await made.close()


def event(name: str) -> Event:
    return Event(type=EventType.CALL_DENIED, subject_type="call", subject_id=name, actor=SYSTEM, details={"it": name})


async def names(database: Database) -> list[str]:
    async with database.read() as tx:
        return [row.subject_id for row in await audit.events_after(tx, SCOPE, (0, 0), 100)]


@pytest.fixture
def begun(monkeypatch):
    """How many transactions were begun by a round trip of its own."""
    told = []
    execute = asyncpg.Connection.execute

    async def counted(self, query, *values, **options):
        if query == "BEGIN":
            told.append(self)
        return await execute(self, query, *values, **options)

    monkeypatch.setattr(asyncpg.Connection, "execute", counted)
    return told


async def test_alone_it_needs_no_begin_and_is_there(database, begun):
    async with database.begin("test") as tx:
        await ledger.append(tx, SCOPE, NOW, event("a"))
        await ledger.append(tx, SCOPE, NOW, event("b"), event("c"))
    assert begun == []
    assert await names(database) == ["a", "b", "c"]


async def test_what_fails_leaves_nothing_whether_alone_or_not(database):
    async def fails(*, with_more: bool) -> None:
        async with database.begin("test") as tx:
            await ledger.append(tx, SCOPE, NOW, event("a"), event("b"))
            if with_more:
                await tx.scalar(sa.select(1))
            await ledger.append(tx, SCOPE, NOW, event("c"))
            raise LookupError

    for with_more in (False, True):
        with pytest.raises(LookupError):
            await fails(with_more=with_more)
        assert await names(database) == []
    rows = [{"id": "same", "created_at": NOW} for _ in range(2)]
    said = {"type": "t", "subject_type": "s", "subject_id": "i", "actor": "a", "actor_type": "t", "details": {}}
    with pytest.raises(sa.exc.IntegrityError):
        async with database.begin("test") as tx:
            await audit.append_events(tx, SCOPE, [row | said | {"request_id": "", "address": ""} for row in rows])
    assert await names(database) == [], "two rows are there together, or neither is"


async def test_many_go_by_copy_in_order_and_all_or_none(database):
    many = [str(number) for number in range(300)]
    async with database.begin("test") as tx:
        await ledger.append(tx, SCOPE, NOW, event("first"))
        await ledger.append(tx, SCOPE, NOW, *map(event, many))
        await ledger.append(tx, SCOPE, NOW, event("last"))
    async with database.read() as tx:
        rows = await audit.events_after(tx, SCOPE, (0, 0), 1000)
    assert [row.subject_id for row in rows] == ["first", *many, "last"]
    assert [row.details for row in rows] == [{"it": row.subject_id} for row in rows]
    assert len({row.transaction_id for row in rows}) == 1
    with pytest.raises(LookupError):
        async with database.begin("test") as tx:
            await ledger.append(tx, SCOPE, NOW, *map(event, many))
            raise LookupError
    async with database.read() as tx:
        assert len(await audit.events_after(tx, SCOPE, (0, 0), 1000)) == 302


async def test_what_comes_after_it_sees_it_and_is_one_commit_with_it(database, begun):
    async with database.begin("test") as tx:
        await ledger.append(tx, SCOPE, NOW, event("a"))
        assert await tx.scalar(sa.text("SELECT count(*) FROM audit_events")) == 1
        assert [tuple(row) for row in await tx.rows("SELECT count(*) FROM audit_events")] == [(1,)]
        await ledger.append(tx, SCOPE, NOW, event("b"))
        assert await names(database) == []
    assert len(begun) == (1 if database.dialect == "postgresql" else 0)
    assert await names(database) == ["a", "b"]


async def test_counts_and_wakes_go_with_it(database):
    async with database.begin("test") as tx:
        await ledger.append(tx, SCOPE, NOW, event("a"))
        tx.wake("somebody")
        tx.count(SCOPE.tenant_id, metrics.AUDIT_VERIFY_TOTAL)
    assert await names(database) == ["a"]
    async with database.read() as tx:
        assert await tx.scalar(sa.text("SELECT count(*) FROM counter_deltas")) == 1
