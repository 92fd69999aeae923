"""The database and its transactions: short, explicit, one commit each; wake-ups leave only after the commit (ADR 38).

PostgreSQL through asyncpg, SQLite in WAL mode through aiosqlite. A writer on SQLite takes BEGIN IMMEDIATE, so that two
writers queue instead of failing. Every commit passes a named fault point.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from certctl.core.errors import Misconfigured, Temporary
from certctl.store import statements
from certctl.store.lines import Line, Lines, state
from certctl.store.postgres import SCHEMES, Connector
from certctl.store.schema import counter_deltas
from certctl.store.statements import Answer, Asked, Statement
from certctl.telemetry import points
from certctl.telemetry.metrics import Metric, Series, series_of

StructT = TypeVar("StructT", bound=msgspec.Struct)

WAKE_CHANNEL = "certctl_wake"
_ASYNCPG = "postgresql+asyncpg://"  # the dialect alone: `Connector` knows where
_SILENCE = timedelta(seconds=15)
# SQLSTATE classes and codes that pass by themselves: connection, resources, restart or failover, deadlock, lock or
# transaction time-out, a standby that took our place
_PASSING = ("08", "53", "57", "40", "55P03", "25P03", "25006")


class Tx:
    """One open transaction. Rows come out as the core's structs, never as ORM objects."""

    def __init__(self, session: AsyncConnection | Line, dialect: str, *, may_wait: bool = False) -> None:
        self._session = session
        self.dialect = dialect
        # what only writes, and waits for what else there is to write (`write`): SQL and its values
        self._may_wait = may_wait
        self._waiting: list[tuple[str, list[Any]]] = []
        self.wakes: set[str] = set()
        # those of them that PostgreSQL itself is to tell with the commit
        self.wakes_within: set[str] = set()
        self.counts: dict[Series, float] = {}
        self.acts: list[Callable[[], object]] = []
        # what this transaction's events speak of, (type, id), in order
        self.subjects: list[tuple[str, str]] = []
        # what this transaction has read and goes by to its end (`catalogue.as_first_seen`)
        self.first_seen: dict[object, Any] = {}
        # what this transaction wrote of what operators configure: (kind, id) -> before, after (`catalogue`)
        self.images: dict[tuple[str, str], tuple[msgspec.Struct | None, msgspec.Struct | None]] = {}

    async def execute(
        self, statement: sa.Executable | Statement, rows: Sequence[Mapping[str, Any]] | None = None, **values: Any
    ) -> sa.CursorResult[Any] | Answer:
        """Run one statement, or one statement over many rows; a `Statement` with its values, by name."""
        if self._waiting:
            await self.send()
        session = self._session
        if not isinstance(session, Line):
            if isinstance(statement, Statement):
                return await session.execute(statement.clause, values)  # type: ignore[no-any-return]
            _refuse(values)
            return await session.execute(statement, rows)
        if rows is not None and len(rows) > 1:
            words, lists = statements.put_many(statement, rows)
            return words.answer(await session.ask_many(words, lists))
        asked = _asked(statement, values, rows[0] if rows else None)
        return asked.words.answer(await session.ask(asked))

    async def write(self, sql: str, values: Sequence[Any], *, grows: bool = False) -> None:
        """Run one INSERT or UPDATE in PostgreSQL's own words ($1, $2, ...); nothing comes back.

        It waits until something is asked, and goes with all that waits in one statement, so the parts must not need one
        another. When nothing is ever asked that statement is a transaction by itself: one round trip in place of three
        (BEGIN, itself, COMMIT). `grows`: the values are arrays of rows, and the same SQL again only makes them longer.
        """
        if grows:
            for waiting, columns in self._waiting:
                if waiting == sql:
                    for column, more in zip(columns, values, strict=True):
                        column.extend(more)
                    return
        self._waiting.append((sql, list(values)))
        if not self._may_wait:
            await self.send()

    async def ask(self, sql: str, values: Sequence[Any]) -> Answer:
        """Run one statement in PostgreSQL's own words ($1, $2, ...) behind all that waits; what comes back."""
        await self.send()
        if not isinstance(self._session, Line):
            raise TypeError("these are PostgreSQL's words")
        return statements.answered(await self._session.say(sql, values))

    async def commit(self) -> None:
        """End it. Only `Database.begin` calls this."""
        session = self._session
        if isinstance(session, Line) and not session.is_begun:
            session.by_itself = True
        await self.send()
        await session.commit()

    async def roll_back(self) -> None:
        """Undo it. Only `Database.begin` calls this."""
        if isinstance(self._session, Line):
            await self._session.roll_back()
        else:
            await self._session.rollback()

    async def send(self) -> None:
        """What waits goes now; what is wrong with it is raised here."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        sql = _as_one(tuple(part for part, _ in waiting), tuple(len(values) for _, values in waiting))
        values = tuple(value for _, values in waiting for value in values)
        if not isinstance(self._session, Line):
            raise TypeError("these are PostgreSQL's words")
        await self._session.write(sql, values)

    async def one(self, kind: type[StructT], statement: sa.Executable | Statement, **values: Any) -> StructT | None:
        """The first row as a struct, or None."""
        found = await self._structs(kind, statement, values, only_first=True)
        return found[0] if found else None

    async def all(self, kind: type[StructT], statement: sa.Executable | Statement, **values: Any) -> list[StructT]:
        """All rows as structs; columns are found once for all of them, not by name in each row."""
        return await self._structs(kind, statement, values)

    async def _structs(
        self,
        kind: type[StructT],
        statement: sa.Executable | Statement,
        values: dict[str, Any],
        *,
        only_first: bool = False,
    ) -> list[StructT]:
        if not isinstance(self._session, Line):
            found = await self.execute(statement, **values)
            read = statements.struct_reader(kind, tuple(found.keys()))
            return [read(row) for row in (found.fetchmany(1) if only_first else found.all())]
        if self._waiting:
            await self.send()
        asked = _asked(statement, values)
        rows = (await self._session.ask(asked)).rows
        if not rows:
            return []
        read = asked.words.struct(kind, rows[0])
        return [read(row) for row in (rows[:1] if only_first else rows)]

    async def rows(self, sql: str, *values: Any) -> Sequence[Sequence[Any]]:
        """All rows of the dialect's own SQL as the driver gives them: for whoever reads millions."""
        await self.send()
        try:
            if isinstance(self._session, Line):
                return await self._session.fetch(sql, values)
            raw: Any = (await self._session.get_raw_connection()).driver_connection
            return await raw.execute_fetchall(sql, values)  # type: ignore[no-any-return]
        except (DBAPIError, sqlite3.Error) as error:
            raise Temporary("the database cannot be used right now", detail=str(error)) from error

    async def copy(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """New rows by COPY, of values as the driver takes them (PostgreSQL; see `store.copied`)."""
        await self.send()
        if not isinstance(self._session, Line):
            raise TypeError("only PostgreSQL copies rows")
        await self._session.copy(table, columns, rows)

    async def scalar(self, statement: sa.Executable | Statement, **values: Any) -> Any:
        """The first column of the first row, or None."""
        if not isinstance(self._session, Line):
            return (await self.execute(statement, **values)).scalar()
        if self._waiting:
            await self.send()
        asked = _asked(statement, values)
        rows = (await self._session.ask(asked)).rows
        return asked.words.read(rows[0])[0] if rows else None

    def insert(self, table: sa.Table) -> Any:
        """The dialect's own insert, for `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return postgresql.insert(table) if self.dialect == "postgresql" else sqlite.insert(table)

    def wake(self, channel: str, *, within: bool = False) -> None:
        """After the commit, hint to whoever waits on `channel` (a step kind's workers, one agent) that there is work.

        With `within` other processes are told by the commit itself, before anybody is answered: for what is rare and
        urgent, since PostgreSQL lets such commits of a whole cluster pass one at a time.
        """
        self.wakes.add(channel)
        if within:
            self.wakes_within.add(channel)

    def after_commit(self, act: Callable[[], object]) -> None:
        """Once it is committed, and only then, call `act`: it must not fail."""
        self.acts.append(act)

    def count(self, tenant_id: str, metric: Metric, amount: float = 1, **labels: str) -> None:
        """With the commit, `amount` more of a fleet's counter, or one observation of `amount` in a histogram."""
        for series, more in series_of(tenant_id, metric, amount, labels):
            self.counts[series] = self.counts.get(series, 0) + more


def _asked(
    statement: sa.Executable | Statement, values: Mapping[str, Any], row: Mapping[str, Any] | None = None
) -> Asked:
    if isinstance(statement, Statement):
        return statement.words.ask(values if row is None else row)
    _refuse(values)
    return statements.put(statement, row)


def _refuse(values: Mapping[str, Any]) -> None:
    if values:
        raise TypeError("a statement that is built each time holds its values itself")


_PLACE = re.compile(r"\$(\d+)")


@functools.lru_cache(maxsize=1000)
def _as_one(parts: tuple[str, ...], counts: tuple[int, ...]) -> str:
    """Several statements that only write as one, which takes all their values one after the other."""
    numbered, before = [], 0
    for sql, count in zip(parts, counts, strict=True):
        numbered.append(_PLACE.sub(lambda found, before=before: f"${int(found[1]) + before}", sql))  # type: ignore[misc]
        before += count
    *firsts, last = numbered
    named = ", ".join(f"part{place} AS ({sql})" for place, sql in enumerate(firsts))
    return f"WITH {named} {last}" if named else last


def as_struct(kind: type[StructT], row: Mapping[Any, Any]) -> StructT:
    """Build a struct from the columns it names."""
    return kind(**{name: row[name] for name in kind.__struct_fields__})


# asked before each commit of what runs under it: a request's idempotency key is marked with the request's own writes
WITNESS: ContextVar[Callable[[Tx], Awaitable[None]] | None] = ContextVar("certctl_witness", default=None)


class Database:
    """An engine, its dialect, and who to tell after a commit."""

    def __init__(
        self, url: str, *, max_connections: int = 20, silence: timedelta = _SILENCE, takes_writes: bool = True
    ) -> None:
        """`silence`: how long PostgreSQL, or the way to it, may say nothing before a connection is given up.
        `takes_writes`: False for one that is only read from, which may be a standby.
        """
        self.dialect = "postgresql" if url.startswith(SCHEMES) else "sqlite"
        self.connector = Connector(url, silence, takes_writes=takes_writes) if self.dialect == "postgresql" else None
        self.engine = _engine(url, self.connector, max_connections)
        # on PostgreSQL everything but migrations goes this way
        self.lines = None if self.connector is None else Lines(self.connector, max_connections, self._said)
        self.on_wake: Callable[[frozenset[str]], None] = lambda _channels: None
        # who tells other processes after a commit (`wake.listening`); where nobody does, the commit itself tells them
        self.tell_others: Callable[[frozenset[str]], None] | None = None
        # SQLite has one writer: queue for it here, fairly, instead of spinning on its busy handler
        self._writer = asyncio.Lock() if self.dialect == "sqlite" else None

    @contextlib.asynccontextmanager
    async def begin(self, name: str) -> AsyncIterator[Tx]:
        """A writing transaction called `name`; commits at the end of the block, rolls back on any exception."""
        async with self._writer or contextlib.nullcontext(), self._session(by_itself=False) as tx:
            try:
                yield tx
                if tx.counts:
                    await _write_counts(tx)
                witness = WITNESS.get()
                if witness is not None:
                    await witness(tx)
                within = frozenset(tx.wakes if self.tell_others is None else tx.wakes_within)
                if within and self.dialect == "postgresql":
                    await _notify(tx, within)
                points.reach(f"commit.{name}.before")
                await tx.commit()
            except BaseException:
                await tx.roll_back()
                raise
        points.reach(f"commit.{name}.after")
        for act in tx.acts:
            act()
        if tx.wakes:
            self.on_wake(frozenset(tx.wakes))
        if self.tell_others is not None and tx.wakes > within:
            self.tell_others(frozenset(tx.wakes) - within)

    async def write_alone(self, name: str, statement: Callable[[Tx], sa.Executable]) -> int:
        """One statement that is a transaction called `name` by itself: nothing to begin, nothing to commit, two round
        trips fewer. For what needs no event and nobody is woken for. Returns how many rows it wrote.
        """
        if self._writer is not None:
            async with self.begin(name) as tx:
                return int((await tx.execute(statement(tx))).rowcount)
        async with self.alone(name) as tx:
            return int((await tx.execute(statement(tx))).rowcount)

    @contextlib.asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[Tx]:
        """A block for one statement that is a transaction called `name` by itself, where there are many writers
        (PostgreSQL).
        """
        async with self._session(by_itself=True) as tx:
            points.reach(f"commit.{name}.before")
            yield tx
        points.reach(f"commit.{name}.after")

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        """A reading block: each statement sees what is committed; nothing may be written."""
        async with self._session(by_itself=True) as tx:
            yield tx

    @contextlib.asynccontextmanager
    async def _session(self, *, by_itself: bool) -> AsyncIterator[Tx]:
        """A connection for the length of a block; with `by_itself` nothing is begun, each statement stands alone."""
        with database_errors():
            if self.lines is None:
                async with self.engine.connect() as connection:
                    if by_itself:
                        connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
                    yield Tx(connection, self.dialect)
                return
            line = await self.lines.take()
            line.by_itself = by_itself
            try:
                yield Tx(line, self.dialect, may_wait=not by_itself)
            finally:
                self.lines.give(line)

    def _said(self, sql: str, values: Sequence[Any], many: bool) -> None:
        """Who listens to the engine's statements hears those of the lines too."""
        for hear in self.engine.sync_engine.dispatch.before_cursor_execute:
            hear(None, None, sql, values, None, many)

    @contextlib.asynccontextmanager
    async def migrating(self) -> AsyncIterator[AsyncConnection]:
        """A transaction whose statements may take as long as they need, on a connection of its own."""
        if self.connector is None:
            async with self.engine.begin() as connection:
                yield connection
            return
        engine = create_async_engine(_ASYNCPG, async_creator=self.connector.connect_patiently, poolclass=sa.NullPool)
        try:
            async with engine.begin() as connection:
                yield connection
        finally:
            await engine.dispose()

    def connections_in_use(self) -> int:
        """How many of the pool's connections are checked out at this moment."""
        if self.lines is not None:
            return self.lines.in_use
        pool = self.engine.pool
        return pool.checkedout() if isinstance(pool, sa.QueuePool) else 0

    async def close(self) -> None:
        """Give every connection back."""
        if self.lines is not None:
            await self.lines.close()
        await self.engine.dispose()


_COUNT = (
    f"INSERT INTO {counter_deltas.name} (tenant_id, name, labels, amount) "
    "SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::float8[])"
)


async def _write_counts(tx: Tx) -> None:
    """One row a series, which no other transaction waits for; a tick adds them up (`store.counters`)."""
    counted = sorted(tx.counts.items())
    if tx.dialect == "postgresql":
        await tx.write(
            _COUNT, [list(column) for column in zip(*((*series, amount) for series, amount in counted), strict=True)]
        )
        return
    await tx.execute(sa.insert(counter_deltas), [{**series._asdict(), "amount": amount} for series, amount in counted])


async def _notify(tx: Tx, channels: frozenset[str]) -> None:
    await tx.execute(sa.select(*(sa.func.pg_notify(WAKE_CHANNEL, channel) for channel in sorted(channels))))


_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_PLAN_OUT_OF_DATE = "cached statement plan is invalid"  # the schema changed beneath us; asked again, it is planned anew


@contextlib.contextmanager
def database_errors() -> Any:
    """A database that cannot be reached or is full is Temporary; anything else stays a bug."""
    try:
        yield
    except OperationalError as error:
        raise Temporary("the database cannot be used right now", detail=str(error)) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Temporary("the connection to the database was lost", detail=str(error)) from error
        if getattr(error.orig, "sqlite_errorname", "") in _DAMAGED:
            raise Misconfigured(
                "the database file is damaged: stop the server and restore it from a backup", detail=str(error)
            ) from error
        if state(error.orig).startswith(_PASSING) or _PLAN_OUT_OF_DATE in str(error.orig):
            raise Temporary("the database cannot do this right now", detail=str(error)) from error
        raise
    except (ConnectionError, TimeoutError) as error:
        raise Temporary("the database cannot be reached", detail=str(error)) from error
    except PoolTimeoutError as error:
        # whoever holds the connections waits for a database that says nothing, or there are too few
        raise Temporary("every connection to the database is in use", detail=str(error)) from error


def _engine(url: str, connector: Connector | None, max_connections: int) -> AsyncEngine:
    if connector is not None:
        return create_async_engine(
            _ASYNCPG,
            async_creator=connector.connect,
            poolclass=sa.NullPool,  # for what is asked of the schema, and seldom
            json_deserializer=msgspec.json.decode,
        )
    if not url.startswith("sqlite:"):
        raise Misconfigured(
            "CERTCTL_DATABASE_URL must begin with postgres:// or sqlite:///", detail=url.partition(":")[0]
        )
    engine = create_async_engine(
        "sqlite+aiosqlite:" + url.removeprefix("sqlite:"), pool_size=max_connections, max_overflow=0
    )
    sa.event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    sa.event.listen(engine.sync_engine, "begin", _begin_immediate)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see _begin_immediate
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "busy_timeout=10000",
        "foreign_keys=ON",
        "temp_store=MEMORY",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: sa.Connection) -> None:
    # AUTOCOMMIT readers never write; everybody else takes the write lock at once instead of upgrading to it
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def chosen_once(due: sa.Select[tuple[str]]) -> sa.Select[tuple[str]]:
    """The ids that `due` chooses (with LIMIT, FOR UPDATE SKIP LOCKED), for the IN of the UPDATE that takes them.

    As a plain subquery PostgreSQL may ask it again for each row, and each time get the next ones: more than its limit.
    """
    chosen = due.cte("chosen").prefix_with("MATERIALIZED", dialect="postgresql")
    return sa.select(chosen.c.id)
