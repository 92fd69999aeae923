"""What PostgreSQL believes of tables that have just been filled.

Autovacuum looks once a minute at the earliest. Until then a table that was empty is believed to be so, each look by a
key reads all of a tenant, and what fills it takes the longer the more of it is done; plans that a connection has kept
stay as they were made. A table that is looked at has both made anew.
"""

from __future__ import annotations

import sqlalchemy as sa

from certctl.core.scope import Scope
from certctl.store.schema import metadata
from certctl.store.tx import Database

_TABLES = sorted(metadata.tables)
# documents and whole certificates cost the most to be looked at, and no plan goes by them
_LOOKED_AT = {
    table.name: ", ".join(c.name for c in table.columns if not isinstance(c.type, sa.JSON | sa.LargeBinary))
    for table in metadata.sorted_tables
}
# a table that is smaller is read whole as fast as by an index; one grown by less is planned well enough
_PAGES, _TIMES = 32, 4
_OUTGROWN = sa.text(
    "SELECT relname FROM pg_class WHERE oid = ANY(CAST(:tables AS regclass[])) "
    "AND pg_relation_size(oid) / current_setting('block_size')::int "
    f">= {_TIMES} * greatest(relpages, {_PAGES // _TIMES})"
)


async def keep_up(database: Database, scope: Scope) -> list[str]:
    """Have the tables looked at that have grown several times over since they were looked at last; returns which.
    Nobody waits for it: one that somebody else looks at is passed over.
    """
    del scope  # what the planner believes is nobody's in particular
    if database.dialect != "postgresql":
        return []
    async with database.read() as tx:
        outgrown = list((await tx.execute(_OUTGROWN.bindparams(tables=_TABLES))).scalars())
    for name in outgrown:
        look = sa.text(f"ANALYZE (SKIP_LOCKED) {name} ({_LOOKED_AT[name]})")
        await database.write_alone("statistics", lambda _tx, look=look: look)  # type: ignore[misc]
    return outgrown
