"""The order of a list, and the ranges of indexes that a page of it is read from.

Rows with one value of a filter F, in order of K, are a range of an index (tenant, F, K, id). Of several values of F,
and where K may be NULL (the greatest value here, on SQLite the least), they are several ranges: each is read by itself,
no further than the page, and all are merged. So a page costs the same however many rows there are, at either end and
far in; as one condition (`F IN (...)`, `K < x OR K IS NULL`) every row would be sorted, or walked from the beginning.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

# ranges of one page: beyond these all that is asked for is sorted
MOST = 16


class Position(msgspec.Struct, frozen=True):
    """The last row that was shown: its value in the sorted column (of several columns a list), its id, and the total
    told with the first page.
    """

    value: Any
    id: str | int
    total: int
    estimated: bool


class Order(msgspec.Struct, frozen=True):
    """By these columns, of which the last tells rows apart: all turn the same way, so that one index serves both ways.
    Only the first may be NULL, the greatest value.
    """

    columns: tuple[sa.Column[Any], ...]
    descending: bool = False

    @property
    def has_nulls(self) -> bool:
        """Whether the sorted column may be NULL. What a statement computes is no column of a table, and never is."""
        return len(self.columns) > 1 and bool(getattr(self.columns[0], "nullable", False))

    def by(self, among: sa.FromClause | None = None, *, of_one_range: bool = False) -> list[sa.ColumnElement[Any]]:
        """For ORDER BY; `among`: a subquery with columns of the same names, to order by those. `of_one_range`: NULL and
        values do not meet there.
        """
        columns = self.columns if among is None else [among.c[column.key] for column in self.columns]
        turned: list[sa.ColumnElement[Any]] = [each.desc() if self.descending else each.asc() for each in columns]
        if self.has_nulls and not of_one_range:
            first = columns[0].desc().nulls_first() if self.descending else columns[0].asc().nulls_last()
            turned[0] = first
        return turned

    def position(self, row: Any, total: int, *, estimated: bool) -> Position:
        """Where the next page begins."""
        *values, tie = (getattr(row, column.key) for column in self.columns)
        value = values[0] if len(values) == 1 else values or tie
        return Position(value, tie, total, estimated)

    def ranges(self, after: Position | None) -> list[sa.ColumnElement[bool]]:
        """The conditions of the ranges that, one behind the other, hold every row beyond `after`."""
        column, tie = self.columns[0], self.columns[-1]
        if not self.has_nulls:
            return [sa.true() if after is None else self._beyond(after)]
        is_set, is_null = column.is_not(None), column.is_(None)
        if after is None:
            return [is_set, is_null]
        if after.value is not None:
            valued = sa.and_(is_set, self._beyond(after))
            return [valued] if self.descending else [valued, is_null]
        rest = sa.and_(is_null, tie < after.id if self.descending else tie > after.id)
        return [rest, is_set] if self.descending else [rest]

    def _beyond(self, after: Position) -> sa.ColumnElement[bool]:
        values = after.value if len(self.columns) > 2 else [after.value]
        there = [*values, after.id] if len(self.columns) > 1 else [after.id]
        given = [sa.literal(value, column.type) for value, column in zip(there, self.columns, strict=True)]
        if len(given) == 1:
            return self.columns[0] < given[0] if self.descending else self.columns[0] > given[0]
        here, beyond = sa.tuple_(*self.columns), sa.tuple_(*given)
        return here < beyond if self.descending else here > beyond


@functools.lru_cache(maxsize=512)
def is_led(*columns: sa.Column[Any]) -> bool:
    """Whether an index of their table begins with its tenant and these columns, in this order. What a statement
    computes has none.
    """
    indexes: Iterable[sa.Index] = getattr(columns[0].table, "indexes", ())
    names = ["tenant_id", *dict.fromkeys(column.name for column in columns)]
    return any([each.name for each in index.columns][: len(names)] == names for index in indexes)


def merged(
    parts: Sequence[sa.Select[Any]], order: Order, most: int, offset: int, columns: Iterable[sa.ColumnElement[Any]]
) -> sa.Select[Any]:
    """Rows `offset` to `offset` + `most` of what the parts hold together, each of which is one range."""
    names = [column.key for column in columns if column.key is not None]
    read = [part.order_by(*order.by(of_one_range=True)).limit(most + offset).subquery() for part in parts]
    together = sa.union_all(*(sa.select(each) for each in read)).subquery("ranges")
    page = sa.select(*(together.c[name] for name in names)).order_by(*order.by(together))
    return page.limit(most).offset(offset or None)
