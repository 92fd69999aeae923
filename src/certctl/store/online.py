"""Indexes over large tables, built while others read and write, before the migration that asks for them.

CREATE INDEX holds every writer back for as long as it takes: a minute over millions of rows. CREATE INDEX CONCURRENTLY
holds nobody back, but runs in no transaction, and one that was interrupted leaves an index that nobody uses. So a
migration names its large indexes (`ONLINE`), one process builds them beforehand, and the migration finds them there.
Must never touch what is not named: everything works without these indexes, only slower.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

import asyncpg

from certctl.core.errors import Temporary
from certctl.store.postgres import Connector
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

_ADVISORY_LOCK = 0x636F6E63  # "conc"
_LOOK_AGAIN_SECONDS = 1.0
_VALID = """
SELECT i.indisvalid FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
WHERE c.relname = $1 AND c.relnamespace = current_schema()::regnamespace
"""


class OnlineIndex(NamedTuple):
    """An index of columns, of all rows or of those `where` something holds. Names are those of our own migrations, and
    quoted.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    where: str = ""


async def build(connector: Connector, indexes: Iterable[OnlineIndex]) -> None:
    """Build those that are not there; one process does, others wait until they are. Raises Temporary."""
    wanted = list(indexes)
    if not wanted:
        return
    connection = await connector.connect_patiently()
    try:
        # asked for again and again: a statement that waits is a transaction that the builder would wait for
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _ADVISORY_LOCK):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        for index in wanted:
            await _build(connection, index)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise Temporary(f"an index could not be built: {error}") from error
    finally:
        await connection.close(timeout=5)


async def _build(connection: Any, index: OnlineIndex) -> None:
    valid = await connection.fetchval(_VALID, index.name)
    if valid:
        return
    if valid is False:
        # whoever built it was interrupted: it has the rows of nobody and costs every writer
        await connection.execute(f'DROP INDEX CONCURRENTLY "{index.name}"')
    columns = ", ".join(f'"{column}"' for column in index.columns)
    part = f" WHERE {index.where}" if index.where else ""
    log.info("index_built", index=index.name, table=index.table, state="begun")
    await connection.execute(f'CREATE INDEX CONCURRENTLY "{index.name}" ON "{index.table}" ({columns}){part}')
    log.info("index_built", index=index.name, table=index.table, state="done")
