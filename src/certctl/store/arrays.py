"""Rows into a table: on PostgreSQL one statement over arrays, however many rows there are, in the driver's own words.

It waits for what else its transaction writes (`Tx.write`) and goes with that in one round trip, unless something comes
back. Put together once for each table and set of columns; SQLite, which is asked within the process, gets the rows as
they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from certctl.store.schema.columns import UtcTime
from certctl.store.tx import Tx

_KEY = {"tenant_id": "tenant_id", "id": "id"}
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


async def insert_once(tx: Tx, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Write rows that all have the same columns, those that stand already excepted; the ids of those written."""
    if not rows:
        return set()
    if tx.dialect != "postgresql":
        statement = tx.insert(table).on_conflict_do_nothing().returning(table.c.id)
        return set((await tx.execute(statement, [dict(row) for row in rows])).scalars())
    names = tuple(rows[0])
    columns = tuple(read(row[name] for row in rows) for name, read in zip(names, _readers(table, names), strict=True))
    return set((await tx.ask(f"{_statement(table, names, True, ())} RETURNING id", columns)).scalars())


async def update(
    tx: Tx,
    table: sa.Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    match: Mapping[str, str],
    alike: Mapping[str, Any],
    where: Mapping[str, Any],
    only: str = "",
    grows: tuple[str, ...] = (),
) -> int:
    """Change many rows, each in its own way; how many were changed.

    Each of `rows`, which all have the same names, holds the columns that it writes and, under the names of `match`, the
    values that the columns named there must have. `alike` is written to all of them; `where` holds for all of them, and
    so does `only`, words of ours about columns that no row holds. The columns `grows` become one more.
    """
    if not rows:
        return 0
    if tx.dialect == "postgresql":
        names = tuple(rows[0])
        readers = [_reader(_matched(table, match, name).type) for name in names]
        values = [read(row[name] for row in rows) for name, read in zip(names, readers, strict=True)]
        sql = _update(table, names, tuple(match.items()), tuple(alike), tuple(where), only, grows)
        return (await tx.ask(sql, (*values, *alike.values(), *where.values()))).rowcount
    more = {name: table.c[name] + 1 for name in grows}
    kept = [*(table.c[name] == value for name, value in where.items()), *([sa.text(only)] if only else ())]
    changed = 0
    for row in rows:
        mine = [table.c[column] == row[name] for name, column in match.items()]
        written = {name: value for name, value in row.items() if name not in match}
        statement = sa.update(table).where(*mine, *kept).values({**written, **alike, **more})
        changed += (await tx.execute(statement)).rowcount
    return changed


def _matched(table: sa.Table, match: Mapping[str, str], name: str) -> sa.Column[Any]:
    return table.c[match.get(name, name)]


@functools.cache
def _update(
    table: sa.Table,
    names: tuple[str, ...],
    match: tuple[tuple[str, str], ...],
    alike: tuple[str, ...],
    where: tuple[str, ...],
    only: str,
    grows: tuple[str, ...],
) -> str:
    columns = dict(match)
    kinds = {name: _kind(table.c[columns.get(name, name)]) for name in names}
    arrays = ", ".join(f"${place}::{kinds[name][0]}[]" for place, name in enumerate(names, 1))
    places = iter(range(len(names) + 1, len(names) + len(alike) + len(where) + 1))
    written = [f"{name} = r.{name}{kinds[name][1]}" for name in names if name not in columns]
    written += [f"{name} = ${next(places)}" for name in alike]
    written += [f"{name} = t.{name} + 1" for name in grows]
    kept = [f"t.{name} = ${next(places)}" for name in where]
    kept += [f"t.{column} = r.{name}{kinds[name][1]}" for name, column in match]
    kept += [only] if only else []
    return (
        f"UPDATE {table.name} t SET {', '.join(written)} FROM unnest({arrays}) AS r({', '.join(names)}) "
        f"WHERE {' AND '.join(kept)}"
    )


async def change(tx: Tx, table: sa.Table, rows: Sequence[Mapping[str, Any]], *, grows: tuple[str, ...] = ()) -> None:
    """Write other values into rows that are there, each found by its `tenant_id` and `id` and locked by the caller. It
    waits, as `insert` does, for what else is written; `update` is for who has to know how many were changed.
    """
    if not rows:
        return
    if tx.dialect != "postgresql":
        await update(tx, table, rows, match=_KEY, alike={}, where={}, grows=grows)
        return
    names = tuple(rows[0])
    columns = [read(row[name] for row in rows) for name, read in zip(names, _readers(table, names), strict=True)]
    await tx.write(_update(table, names, tuple(_KEY.items()), (), (), "", grows), columns, grows=True)


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
        return lambda values: [None if value is None else msgspec.json.encode(value).decode() for value in values]
    return _times if isinstance(kind, UtcTime) else list


def _times(values: Any) -> list[datetime | None]:
    found = list(values)
    if any(value is not None and value.tzinfo is None for value in found):
        raise ValueError("a naive datetime reached the store")
    return found
