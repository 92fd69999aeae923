"""Many new rows into a table by COPY, where PostgreSQL takes them: half of what the same rows cost it as arrays
(`store.arrays`), and the driver looks at no element to see whether it is an array itself.

For rows that nobody else can have written: there is no ON CONFLICT. It is a round trip of its own for each table, in
the caller's transaction, so it is worth it for a hundred rows and more. SQLite gets its rows as before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from certctl.store.schema.columns import UtcTime
from certctl.store.tx import Tx

_WORTH_IT = 20


def is_worth_it(tx: Tx, count: int) -> bool:
    """Whether so many rows are better copied."""
    return tx.dialect == "postgresql" and count >= _WORTH_IT


async def insert(tx: Tx, table: sa.Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write rows, each with the values of `columns` in order. Raises IntegrityError where one breaks a unique key of
    the table: then nothing of the transaction stands.
    """
    await tx.copy(table.name, columns, map(_writer(table, tuple(columns)), rows))


@functools.cache
def _writer(table: sa.Table, columns: tuple[str, ...]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """What makes a row the driver's: JSON as text, and no naive time."""
    types = [table.c[name].type for name in columns]
    json = [place for place, kind in enumerate(types) if isinstance(kind, sa.JSON)]
    times = [place for place, kind in enumerate(types) if isinstance(kind, UtcTime)]

    def write(row: Sequence[Any]) -> Sequence[Any]:
        if any(row[place] is not None and row[place].tzinfo is None for place in times):
            raise ValueError("a naive datetime reached the store")
        if not json:
            return row
        changed = list(row)
        for place in json:
            if changed[place] is not None:
                changed[place] = msgspec.json.encode(changed[place]).decode()
        return changed

    return write
