"""Rows into a table: on PostgreSQL one statement over arrays, however many rows there are, in the driver's own words.

It waits for what else its transaction writes (`Tx.write`) and goes with that in one round trip. Put together once for
each table and set of columns; SQLite, which is asked within the process, gets the rows as they are.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from certctl.store.schema.columns import UtcTime
from certctl.store.tx import Tx

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


async def insert(
    tx: Tx,
    table: sa.Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    once: bool = False,
    computed: tuple[tuple[str, str], ...] = (),
) -> None:
    """Write rows that all have the same columns, in order; with `once` those that stand already stay.

    `computed` are columns that PostgreSQL itself fills, each with its expression. What breaks a rule of the table is
    raised as the transaction goes on (`Tx.send`), at its commit at the latest.
    """
    if not rows:
        return
    if tx.dialect != "postgresql":
        statement = tx.insert(table)
        await tx.execute(statement.on_conflict_do_nothing() if once else statement, [dict(row) for row in rows])
        return
    names = tuple(rows[0])
    columns = [read(row[name] for row in rows) for name, read in zip(names, _readers(table, names), strict=True)]
    await tx.write(_statement(table, names, once, computed), columns, grows=True)


@functools.cache
def _statement(table: sa.Table, names: tuple[str, ...], once: bool, computed: tuple[tuple[str, str], ...]) -> str:
    kinds = [_kind(table.c[name]) for name in names]
    arrays = ", ".join(f"${place}::{kind[0]}[]" for place, kind in enumerate(kinds, 1))
    values = [f"r.{name}{cast}" for name, (_, cast) in zip(names, kinds, strict=True)]
    into = ", ".join((*names, *(name for name, _ in computed)))
    chosen = ", ".join((*values, *(expression for _, expression in computed)))
    on_conflict = " ON CONFLICT DO NOTHING" if once else ""
    return (
        f"INSERT INTO {table.name} ({into}) SELECT {chosen} FROM unnest({arrays}) AS r({', '.join(names)}){on_conflict}"
    )


def _kind(column: sa.Column[Any]) -> tuple[str, str]:
    """What its array is of, and how an element becomes the column's. A cast to VARCHAR(n) would cut what is longer."""
    if isinstance(column.type, sa.JSON):
        return "text", "::jsonb"
    if isinstance(column.type, sa.String):
        return "text", ""
    return column.type.compile(dialect=_DIALECT), ""


@functools.cache
def _readers(table: sa.Table, names: tuple[str, ...]) -> tuple[Callable[[Any], list[Any]], ...]:
    return tuple(_reader(table.c[name].type) for name in names)


def _reader(kind: Any) -> Callable[[Any], list[Any]]:
    if isinstance(kind, sa.JSON):
        return lambda values: [None if value is None else json.dumps(value) for value in values]
    return _times if isinstance(kind, UtcTime) else list


def _times(values: Any) -> list[datetime | None]:
    found = list(values)
    if any(value is not None and value.tzinfo is None for value in found):
        raise ValueError("a naive datetime reached the store")
    return found
