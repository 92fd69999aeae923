"""The database and its transactions: short, explicit, one commit each; wake-ups leave only after the commit.

PostgreSQL through asyncpg, SQLite in WAL mode through aiosqlite. A writer on SQLite takes BEGIN IMMEDIATE, so that two
writers queue instead of failing. Every commit passes a named fault point.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from certctl.core.errors import Misconfigured, Temporary
from certctl.telemetry import points

StructT = TypeVar("StructT", bound=msgspec.Struct)

WAKE_CHANNEL = "certctl_wake"


class Tx:
    """One open transaction. Rows come out as the core's structs, never as ORM objects."""

    def __init__(self, connection: AsyncConnection, dialect: str) -> None:
        self.connection = connection
        self.dialect = dialect
        self.wakes: set[str] = set()

    async def execute(self, statement: sa.Executable, rows: list[dict[str, Any]] | None = None) -> sa.CursorResult[Any]:
        """Run one statement, or one statement over many rows."""
        if rows is None:
            return await self.connection.execute(statement)
        return await self.connection.execute(statement, rows)

    async def one(self, kind: type[StructT], statement: sa.Executable) -> StructT | None:
        """The first row as a struct, or None."""
        row = (await self.connection.execute(statement)).mappings().first()
        return None if row is None else as_struct(kind, row)

    async def all(self, kind: type[StructT], statement: sa.Executable) -> list[StructT]:
        """All rows as structs."""
        return [as_struct(kind, row) for row in (await self.connection.execute(statement)).mappings()]

    async def scalar(self, statement: sa.Executable) -> Any:
        """The first column of the first row, or None."""
        return (await self.connection.execute(statement)).scalar()

    def insert(self, table: sa.Table) -> Any:
        """The dialect's own insert, for `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return postgresql.insert(table) if self.dialect == "postgresql" else sqlite.insert(table)

    def wake(self, channel: str) -> None:
        """After the commit, hint to whoever waits on `channel` (a step kind's workers, one agent) that there is
        work.
        """
        self.wakes.add(channel)


_FIELDS: dict[type[msgspec.Struct], tuple[str, ...]] = {}


def as_struct(kind: type[StructT], row: Mapping[Any, Any]) -> StructT:
    """Build a struct from the columns it names."""
    fields = _FIELDS.get(kind)
    if fields is None:
        fields = _FIELDS[kind] = tuple(field.name for field in msgspec.structs.fields(kind))
    return kind(**{name: row[name] for name in fields})


class Database:
    """An engine, its dialect, and who to tell after a commit."""

    def __init__(self, url: str, *, max_connections: int = 20) -> None:
        self.url = sa.make_url(_driver_url(url))
        self.dialect = "sqlite" if self.url.get_backend_name() == "sqlite" else "postgresql"
        self.engine = _engine(self.url, self.dialect, max_connections)
        self.on_wake: Callable[[frozenset[str]], None] = lambda _channels: None
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
                tx = Tx(connection, self.dialect)
                try:
                    yield tx
                    if tx.wakes and self.dialect == "postgresql":
                        await _notify(connection, tx.wakes)
                    points.reach(f"commit.{name}.before")
                    await connection.commit()
                except BaseException:
                    await connection.rollback()
                    raise
        points.reach(f"commit.{name}.after")
        if tx.wakes:
            self.on_wake(frozenset(tx.wakes))

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        """A reading block: each statement sees what is committed; nothing may be written."""
        with database_errors():
            async with self.engine.connect() as connection:
                reader = await connection.execution_options(isolation_level="AUTOCOMMIT")
                yield Tx(reader, self.dialect)

    async def close(self) -> None:
        """Give every connection back."""
        await self.engine.dispose()


async def _notify(connection: AsyncConnection, channels: set[str]) -> None:
    for channel in sorted(channels):
        await connection.execute(sa.select(sa.func.pg_notify(WAKE_CHANNEL, channel)))


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
        raise
    except (ConnectionError, TimeoutError) as error:
        raise Temporary("the database cannot be reached", detail=str(error)) from error


def _driver_url(url: str) -> str:
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+asyncpg://" + url.removeprefix(prefix)
    if url.startswith("sqlite:"):
        return "sqlite+aiosqlite:" + url.removeprefix("sqlite:")
    raise Misconfigured("CERTCTL_DATABASE_URL must begin with postgres:// or sqlite:///", detail=url.partition(":")[0])


def _engine(url: sa.URL, dialect: str, max_connections: int) -> AsyncEngine:
    if dialect == "postgresql":
        query = dict(url.query)
        ssl_mode = query.pop("sslmode", None)
        options: dict[str, Any] = {} if ssl_mode is None else {"ssl": ssl_mode}
        return create_async_engine(
            url.set(query=query),
            pool_size=max_connections,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args={"timeout": 10, "command_timeout": 60, **options},
        )
    engine = create_async_engine(url, pool_size=max_connections, max_overflow=0)
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
