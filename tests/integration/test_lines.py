"""What one statement and one transaction are (ADR 45): the same on both databases, and on PostgreSQL by the driver itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import asyncpg
import msgspec
import pytest
import sqlalchemy as sa

from certctl.core.errors import Temporary
from certctl.store import lines, migrate
from certctl.store.schema import api_keys, ticks
from certctl.store.statements import Statement, begins, put
from certctl.store.tx import Database

NOW = datetime(2026, 11, 27, 7, 0, tzinfo=UTC)
TICK = Statement(
    sa.select(ticks).where(
        ticks.c.tenant_id == sa.bindparam("tenant_id"), ticks.c.name == sa.bindparam("name"), ticks.c.fence >= 0
    )
)
SOME = Statement(
    sa.select(ticks).where(ticks.c.name.in_(sa.bindparam("names", expanding=True))).order_by(ticks.c.name.desc())
)
DUE = Statement(sa.select(sa.func.count()).where(ticks.c.next_run_at <= sa.bindparam("now")))
MOVE = Statement(
    sa.update(ticks)
    .where(ticks.c.name == sa.bindparam("which"))
    .values(next_run_at=sa.bindparam("until"), fence=ticks.c.fence + 1)
)
TOLD = Statement(MOVE.clause.returning(ticks.c.name, ticks.c.fence))


class Tick(msgspec.Struct, frozen=True):
    """Fewer columns than there are, in an order of its own."""

    name: str
    next_run_at: datetime
    tenant_id: str
    lease_until: datetime | None


@pytest.fixture
async def database(database_url):
    made = Database(database_url, max_connections=2)
    await migrate.migrate(made)
    async with made.begin("test") as tx:
        await tx.execute(sa.insert(ticks), [row(name) for name in ("a", "b", "c")])
    yield made
    await made.close()


@pytest.fixture
def sent(monkeypatch):
    """Each round trip to PostgreSQL, by what it says."""
    told: list[str] = []
    for name in ("execute", "fetch"):
        call = getattr(asyncpg.Connection, name)

        async def noted(self, query, *values, call=call, **options):
            if not query.startswith("SET"):  # a connection that is opened
                told.append(query.split()[0])
            return await call(self, query, *values, **options)

        monkeypatch.setattr(asyncpg.Connection, name, noted)
    return told


def row(name: str, **more: object) -> dict[str, object]:
    return {"tenant_id": "t-default", "name": name, "next_run_at": NOW, "fence": 3} | more


async def test_a_statement_and_its_values(database):
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))
    async with database.begin("test") as tx:
        found = await tx.one(Tick, TICK, tenant_id="t-default", name="b")
        assert found == Tick("b", NOW, "t-default", None)
        assert found.next_run_at.utcoffset() == timedelta(0)
        assert await tx.one(Tick, TICK, tenant_id="t-default", name="z") is None
        for names in (["a", "c"], ["b"], []):
            found = await tx.all(Tick, SOME, names=names)
            assert [one.name for one in found] == sorted(names, reverse=True)
        assert await tx.scalar(DUE, now=elsewhere) == 3
        assert (await tx.execute(MOVE, which="a", until=elsewhere + timedelta(hours=1))).rowcount == 1
        assert await tx.scalar(DUE, now=NOW) == 2
        told = (await tx.execute(TOLD, which="a", until=NOW)).one()
        assert (told.name, told.fence, told[1], told._mapping["fence"]) == ("a", 5, 5, 5)
        assert (await tx.execute(TOLD, which="z", until=NOW)).first() is None


async def test_what_is_wrong_with_its_values_is_told(database):
    async with database.read() as tx:
        for wrong in ({"name": "a"}, {"tenant_id": "t", "name": "a", "more": 1}):
            if database.dialect == "postgresql":
                with pytest.raises(TypeError, match="its values are"):
                    await tx.one(Tick, TICK, **wrong)
            else:
                with pytest.raises((sa.exc.StatementError, sa.exc.ArgumentError, TypeError)):
                    await tx.one(Tick, TICK, name="a")
        with pytest.raises((sa.exc.StatementError, ValueError), match="naive"):
            await tx.scalar(DUE, now=NOW.replace(tzinfo=None))
        with pytest.raises(TypeError, match="holds its values itself"):
            await tx.scalar(sa.select(sa.func.count()).select_from(ticks), now=NOW)
        assert await tx.scalar(DUE, now=NOW) == 3, "the connection goes on"


async def test_statements_that_are_built_each_time(database):
    """The words are kept, never the values; lists grow, rows go together, and every type comes back as it went in."""
    made = {"a": [1, None, "é"], "b": {}}
    async with database.begin("test") as tx:
        for number in range(3):
            found = await tx.one(Tick, sa.select(ticks).where(ticks.c.name == "abc"[number]))
            assert found.name == "abc"[number]
            listed = sa.select(ticks.c.name).where(ticks.c.name.in_(["a", "b", "c"][:number]), ticks.c.fence == 3)
            assert sorted((await tx.execute(listed)).scalars()) == ["a", "b", "c"][:number]
        more = tx.insert(ticks).on_conflict_do_nothing()
        assert (await tx.execute(more, [row("a")])).rowcount == 0
        told = await tx.execute(more.returning(ticks.c.name), [row("c"), row("d"), row("e")])
        assert sorted(told.scalars()) == ["d", "e"]
        assert await tx.scalar(sa.select(sa.cast(2.5, sa.Float))) == 2.5
        assert await tx.scalar(sa.select(sa.type_coerce(sa.literal(made, sa.JSON), sa.JSON))) == made
        mean = sa.select(sa.func.avg(ticks.c.fence, type_=sa.Float))
        assert isinstance(await tx.scalar(mean), float)
        both = (await tx.execute(sa.select(ticks.c.name, ticks.c.fence).order_by(ticks.c.name))).mappings().all()
        assert both[0] == {"name": "a", "fence": 3}


async def test_what_the_database_refuses_is_raised_as_ever(database):
    async with database.begin("test") as tx:
        await tx.execute(sa.insert(ticks).values(row("f")))
    with pytest.raises(sa.exc.IntegrityError) as caught:
        async with database.begin("test") as tx:
            await tx.execute(sa.insert(ticks).values(row("g")))
            await tx.execute(sa.insert(ticks).values(row("f")))
    if database.dialect == "postgresql":
        assert caught.value.orig.sqlstate == "23505"
        assert caught.value.orig.__cause__.constraint_name == "pk_ticks"
    with pytest.raises((sa.exc.DBAPIError, Temporary)):
        async with database.read() as tx:
            await tx.scalar(sa.text("SELECT nothing FROM nowhere"))
    async with database.read() as tx:
        names = await tx.execute(sa.select(ticks.c.name).order_by(ticks.c.name))
        assert "".join(names.scalars()) == "abcf", "what failed left nothing"


def test_which_statements_need_a_transaction():
    """Plain reading does not. A lock, a write within a query, a word to or about the transaction: they do."""
    locked = sa.select(ticks.c.name).with_for_update(skip_locked=True)
    written = sa.select(sa.update(ticks).values(fence=1).returning(ticks.c.name).cte("w"))
    asked = [
        sa.select(sa.func.pg_advisory_xact_lock(1)),
        sa.select(sa.func.pg_notify("a", "b")),
        sa.select(sa.func.now()),
    ]
    for statement in (
        locked,
        locked.with_for_update(read=True),
        written,
        *asked,
        sa.text("SET LOCAL lock_timeout = '1s'"),
    ):
        assert put(statement).words.begins, statement
    for statement in (sa.select(ticks), sa.select(api_keys.c.last_used_at, api_keys.c.id).limit(3)):
        assert not put(statement).words.begins, statement
    assert not TICK.words.begins
    assert MOVE.words.begins
    assert begins("WITH a AS (INSERT INTO b VALUES (1)) SELECT 1")
    assert begins(" LOCK TABLE ticks")


async def test_a_transaction_is_begun_by_what_writes_or_locks(database, sent):
    reads, writes = sa.select(ticks.c.fence).where(ticks.c.name == "a"), sa.update(ticks).where(ticks.c.name == "a")
    async with database.begin("test") as tx:
        assert await tx.scalar(reads) == 3
        assert await tx.scalar(reads) == 3
    alone = list(sent)
    sent.clear()
    async with database.begin("test") as tx:
        fence = await tx.scalar(reads.with_for_update())
        await tx.execute(writes.values(fence=fence + 1))
        assert await tx.scalar(reads) == 4
        async with database.read() as other:
            assert await other.scalar(reads) == 3, "nobody else sees it yet"
    begun = list(sent)
    with pytest.raises(LookupError):
        async with database.begin("test") as tx:
            await tx.execute(writes.values(fence=9))
            raise LookupError
    async with database.read() as tx:
        assert await tx.scalar(reads) == 4
    if database.dialect == "postgresql":
        assert alone == ["SELECT", "SELECT"]
        assert begun == ["BEGIN", "SELECT", "UPDATE", "SELECT", "SELECT", "COMMIT"]


async def test_a_failure_that_was_swallowed_is_not_committed(database):
    """PostgreSQL answers COMMIT with ROLLBACK then: it must not pass for done."""
    if database.dialect == "sqlite":
        return
    with pytest.raises(RuntimeError, match="failed"):
        async with database.begin("test") as tx:
            await tx.execute(sa.update(ticks).values(fence=7))
            with pytest.raises(sa.exc.IntegrityError):
                await tx.execute(sa.insert(ticks).values(row("a")))
    async with database.read() as tx:
        assert await tx.scalar(sa.select(sa.func.max(ticks.c.fence))) == 3


async def test_who_goes_away_in_the_middle_takes_their_line_with_them(database):
    """Nobody gets an answer that was another's, nothing of it is committed, and there are as many lines as before."""
    if database.dialect == "sqlite":
        return
    for _ in range(5):
        started = asyncio.Event()

        async def waits(started=started) -> None:
            async with database.begin("test") as tx:
                await tx.execute(sa.update(ticks).values(fence=99))
                started.set()
                await tx.scalar(sa.text("SELECT 5 FROM pg_sleep(30)"))

        task = asyncio.create_task(waits())
        await started.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with database.read() as one, database.read() as other:
            assert await one.scalar(sa.text("SELECT 1")) == 1
            assert await other.scalar(sa.text("SELECT 2")) == 2
    async with asyncio.timeout(60):
        async with database.begin("test") as tx:  # waits for the locks of whoever is still there
            await tx.execute(sa.update(ticks).where(ticks.c.fence == 3).values(fence=4))
    assert database.connections_in_use() == 0


async def test_a_schema_that_changes_beneath_an_open_line(database):
    """Alone, the statement is put again by itself; in a transaction it is a passing trouble."""
    if database.dialect == "sqlite":
        return
    every = Statement(sa.text("SELECT * FROM changing"))
    one = sa.select(sa.literal_column("*")).select_from(sa.table("changing"))
    async with database.begin("test") as tx:
        await tx.execute(sa.text("CREATE TABLE changing (a integer)"))
        await tx.execute(sa.text("INSERT INTO changing VALUES (1)"))
    async with database.begin("test") as tx:
        await tx.scalar(one)
    async with database.read() as first, database.read() as second:
        assert await first.scalar(one) == await second.scalar(one) == 1
        await second.execute(sa.text("ALTER TABLE changing ALTER a TYPE text"))
        assert await first.scalar(one) == "1"
        assert await first.scalar(every) == "1"
    async with database.begin("test") as tx:
        await tx.scalar(one)
        await tx.execute(sa.text("UPDATE changing SET a = '2'"))
        async with database.read() as other:
            assert await other.scalar(one) == "1"
    with pytest.raises(Temporary):
        async with database.begin("test") as tx:
            await tx.execute(sa.text("ALTER TABLE changing ALTER a TYPE varchar(9)"))
            await tx.scalar(one)
    async with database.begin("test") as tx:
        assert await tx.scalar(one) == "2"


async def test_a_line_that_is_lost_is_told_as_passing_and_replaced(database, postgres_server):
    if database.dialect == "sqlite":
        return
    for begun in (False, True):
        with pytest.raises(Temporary):
            async with database.begin("test") as tx:
                if begun:
                    await tx.execute(sa.update(ticks).values(fence=50))
                pid = await tx.scalar(sa.text("SELECT pg_backend_pid()"))
                assert postgres_server.sql(f"SELECT pg_terminate_backend({pid}, 10000)") == "t"
                await tx.scalar(sa.select(1))
        async with database.read() as tx:
            assert await tx.scalar(sa.select(sa.func.max(ticks.c.fence))) == 3
    assert database.connections_in_use() == 0


async def test_a_line_that_was_long_idle_is_asked_first_and_goes_on(database, sent, monkeypatch):
    if database.dialect == "sqlite":
        return
    monkeypatch.setattr("certctl.store.lines._TRUSTED_SECONDS", 0.0)
    pids = set()
    for _ in range(3):
        async with database.read() as tx:
            pids.add(await tx.scalar(sa.text("SELECT pg_backend_pid()")))
    assert len(pids) == 1
    assert sent == ["SELECT"] * 6, "one look each"


async def test_a_line_that_only_a_crowd_needed_is_closed_once_nobody_uses_it(database, monkeypatch):
    if database.lines is None:
        return  # SQLite has no server that keeps anything
    both = asyncio.Barrier(2)

    async def look() -> int:
        async with database.read() as tx:
            await both.wait()
            return await tx.scalar(sa.text("SELECT pg_backend_pid()"))

    async def alone() -> int:
        async with database.read() as tx:
            return await tx.scalar(sa.text("SELECT pg_backend_pid()"))

    pids = set(await asyncio.gather(look(), look()))
    assert len(pids) == 2
    used = await alone()
    monkeypatch.setattr(lines, "_UNUSED_SECONDS", 0.0)
    assert await alone() == used  # it gives its line back, and finds the other unused since
    monkeypatch.setattr(lines, "_UNUSED_SECONDS", 60.0)
    async with asyncio.timeout(10):
        while set(await backends(database)) & pids != {used}:
            await asyncio.sleep(0.02)


async def backends(database) -> list[int]:
    async with database.read() as tx:
        rows = await tx.rows("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    return [row[0] for row in rows]
