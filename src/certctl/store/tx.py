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
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

import asyncpg
import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from certctl.core.errors import Misconfigured, Temporary
from certctl.store.postgres import SCHEMES, Connector, is_quiet
from certctl.store.schema import counter_deltas
from certctl.telemetry import points
from certctl.telemetry.metrics import Metric, Series, series_of

StructT = TypeVar("StructT", bound=msgspec.Struct)

WAKE_CHANNEL = "certctl_wake"
_ASYNCPG = "postgresql+asyncpg://"  # the dialect alone: `Connector` knows where
_SILENCE = timedelta(seconds=15)
# SQLSTATE classes and codes that pass by themselves: connection, resources, restart or failover, deadlock, lock or
# transaction time-out, a standby that took our place
_PASSING = ("08", "53", "57", "40", "55P03", "25P03", "25006")
_READ_ONLY = "25006"
_USED_AT = "certctl.used_at"
_TRUSTED_SECONDS = 1.0


class Tx:
    """One open transaction. Rows come out as the core's structs, never as ORM objects."""

    def __init__(self, connection: AsyncConnection, dialect: str, *, may_wait: bool = False) -> None:
        self.connection = connection
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

    async def execute(self, statement: sa.Executable, rows: list[dict[str, Any]] | None = None) -> sa.CursorResult[Any]:
        """Run one statement, or one statement over many rows."""
        await self.send()
        if rows is None:
            return await self.connection.execute(statement)
        return await self.connection.execute(statement, rows)

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

    async def ask(self, sql: str, values: Sequence[Any]) -> sa.CursorResult[Any]:
        """Run one statement in PostgreSQL's own words ($1, $2, ...) behind all that waits; what comes back."""
        await self.send()
        return await self.connection.exec_driver_sql(sql, tuple(values))

    async def commit(self) -> None:
        """End it. Only `Database.begin` calls this."""
        if self._waiting and not self.connection.in_transaction():
            await self.send(await self.connection.execution_options(isolation_level="AUTOCOMMIT"))
            return
        await self.send()
        await self.connection.commit()

    async def send(self, connection: AsyncConnection | None = None) -> None:
        """What waits goes now; what is wrong with it is raised here."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        sql = _as_one(tuple(part for part, _ in waiting), tuple(len(values) for _, values in waiting))
        values = tuple(value for _, values in waiting for value in values)
        await (connection or self.connection).exec_driver_sql(sql, values)

    async def one(self, kind: type[StructT], statement: sa.Executable) -> StructT | None:
        """The first row as a struct, or None."""
        row = (await self.execute(statement)).mappings().first()
        return None if row is None else as_struct(kind, row)

    async def all(self, kind: type[StructT], statement: sa.Executable) -> list[StructT]:
        """All rows as structs; columns are found once for all of them, not by name in each row."""
        found = await self.execute(statement)
        names = tuple(found.keys())
        if len(set(names)) != len(names):
            raise ValueError(f"two columns of one name: {names}")
        places = [(name, names.index(name)) for name in kind.__struct_fields__]
        return [kind(**{name: row[place] for name, place in places}) for row in found.all()]

    async def rows(self, sql: str, *values: Any) -> Sequence[Sequence[Any]]:
        """All rows of the dialect's own SQL as the driver gives them: for whoever reads millions."""
        await self.send()
        raw: Any = (await self.connection.get_raw_connection()).driver_connection
        try:
            if self.dialect == "postgresql":
                return await raw.fetch(sql, *values)  # type: ignore[no-any-return]
            return await raw.execute_fetchall(sql, values)  # type: ignore[no-any-return]
        except (asyncpg.PostgresError, asyncpg.InterfaceError, sqlite3.Error) as error:
            raise Temporary("the database cannot be used right now", detail=str(error)) from error

    async def scalar(self, statement: sa.Executable) -> Any:
        """The first column of the first row, or None."""
        return (await self.execute(statement)).scalar()

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
        self.on_wake: Callable[[frozenset[str]], None] = lambda _channels: None
        # who tells other processes after a commit (`wake.listening`); where nobody does, the commit itself tells them
        self.tell_others: Callable[[frozenset[str]], None] | None = None
        # SQLite has one writer: queue for it here, fairly, instead of spinning on its busy handler
        self._writer = asyncio.Lock() if self.dialect == "sqlite" else None

    @contextlib.asynccontextmanager
    async def begin(self, name: str) -> AsyncIterator[Tx]:
        """A writing transaction called `name`; commits at the end of the block, rolls back on any exception."""
        async with contextlib.AsyncExitStack() as stack:
            if self._writer is not None:
                await stack.enter_async_context(self._writer)
            with database_errors():
                connection = await stack.enter_async_context(self.engine.connect())
                tx = Tx(connection, self.dialect, may_wait=self.dialect == "postgresql")
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
                    await connection.rollback()
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
        with database_errors():
            async with self.engine.connect() as connection:
                by_itself = await connection.execution_options(isolation_level="AUTOCOMMIT")
                points.reach(f"commit.{name}.before")
                yield Tx(by_itself, self.dialect)
        points.reach(f"commit.{name}.after")

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        """A reading block: each statement sees what is committed; nothing may be written."""
        with database_errors():
            async with self.engine.connect() as connection:
                reader = await connection.execution_options(isolation_level="AUTOCOMMIT")
                yield Tx(reader, self.dialect)

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
        pool = self.engine.pool
        return pool.checkedout() if isinstance(pool, sa.QueuePool) else 0

    async def close(self) -> None:
        """Give every connection back."""
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


def _state(error: BaseException | None) -> str:
    return str(getattr(error, "sqlstate", "") or "")


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
        if _state(error.orig).startswith(_PASSING) or _PLAN_OUT_OF_DATE in str(error.orig):
            raise Temporary("the database cannot do this right now", detail=str(error)) from error
        raise
    except (ConnectionError, TimeoutError) as error:
        raise Temporary("the database cannot be reached", detail=str(error)) from error
    except PoolTimeoutError as error:
        # whoever holds the connections waits for a database that says nothing, or there are too few
        raise Temporary("every connection to the database is in use", detail=str(error)) from error


def _engine(url: str, connector: Connector | None, max_connections: int) -> AsyncEngine:
    if connector is not None:
        engine = create_async_engine(
            _ASYNCPG,
            async_creator=connector.connect,
            pool_size=max_connections,
            max_overflow=0,
            json_deserializer=msgspec.json.decode,
            pool_use_lifo=True,  # the one used last: it has its statements prepared, and needs no look
        )
        sa.event.listen(engine.sync_engine, "checkin", _note_use)
        sa.event.listen(engine.sync_engine, "checkout", _look_at)
        sa.event.listen(engine.sync_engine, "handle_error", _leave_a_standby)
        return engine
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


def _note_use(_connection: Any, record: Any) -> None:
    record.info[_USED_AT] = time.monotonic()


def _look_at(connection: Any, record: Any, _fairy: Any) -> None:
    """A connection that broke while nobody used it is replaced, and all that are older with it.

    Asking the server each time (SQLAlchemy's `pool_pre_ping`: three round trips) was half of what a page cost. One that
    was used a moment ago, with nothing to read on its socket, is not asked.
    """
    used_at = record.info.get(_USED_AT)
    if used_at is None:  # opened just now
        return
    opened = connection.driver_connection
    if not opened.is_closed():
        if time.monotonic() - used_at < _TRUSTED_SECONDS and is_quiet(opened):
            return
        with contextlib.suppress(connection.dbapi.Error):
            connection.ping()
            return
    raise InvalidatePoolError


def _leave_a_standby(context: sa.engine.ExceptionContext) -> None:
    """A server that takes no writes any more is none of ours: connect anew, to the one that does."""
    if _state(context.original_exception) == _READ_ONLY:
        context.is_disconnect = True


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
