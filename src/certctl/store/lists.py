"""How every list is read: filters, search, order, pages by number or by keyset, and an honest total.

A `Listing` declares one list as data (see `store.listings`); `read_list` runs it. Keysets compare whole rows
(`(column, id) > (value, id)`), so that rows inserted meanwhile are neither skipped nor shown twice. Which ranges of
indexes a page is read from: `store.orders`.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec
import sqlalchemy as sa

from certctl.core.scope import Scope
from certctl.store import names, orders, searches
from certctl.store.orders import Order, Position
from certctl.store.tx import Tx

RecordT = TypeVar("RecordT", bound=msgspec.Struct)

# up to here a narrowed list is counted to the end, beyond it the total says that it is an estimate
MOST_COUNTED = 10_000


class Slice(msgspec.Struct, frozen=True):
    """Which part of a list: rows from `offset`, at most `limit`."""

    limit: int = 50
    offset: int = 0


class Page(msgspec.Struct, Generic[RecordT], frozen=True):
    """One page of a list, with how many there are in all."""

    data: list[RecordT]
    total: int


class FilterKind(StrEnum):
    """How the text of a filter is read."""

    TEXT = "text"
    WORD = "word"
    MOMENT = "moment"
    FLAG = "flag"


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """One way to narrow a list. `condition` takes the values asked for (one, unless `several`).

    `otherwise` stands where nothing is asked: violations that were cured are shown to who asks for them. `column` is
    the one that holds just the value asked for. `finds_few`: what it finds is gathered, whatever the list's order.
    """

    kind: FilterKind
    condition: Callable[[Sequence[Any]], sa.ColumnElement[bool]]
    words: tuple[str, ...] = ()
    several: bool = False
    description: str = ""
    otherwise: tuple[Any, ...] = ()
    column: sa.Column[Any] | None = None
    finds_few: bool = False


class Listing(msgspec.Struct, Generic[RecordT], frozen=True, kw_only=True):
    """One list as data. `kind` names the columns that are read, but for `blank`, which it gets as they stand there.

    `sorts` are names of columns for callers; `default` is one of them, with `-` in front when it descends. Rows alike
    there are ordered by the column that `then` names, if it names one, and by `key`, which tells all rows apart. `q`
    tells where a search looks. `always` is what every row of this list fulfils.
    """

    name: str
    kind: type[RecordT]
    table: sa.FromClause
    in_scope: Callable[[Scope], sa.ColumnElement[bool]]
    filters: Mapping[str, Filter]
    sorts: Mapping[str, sa.Column[Any]]
    default: str
    then: Mapping[str, sa.Column[Any]] = {}
    q: Callable[[Scope, str], sa.ColumnElement[bool]] | None = None
    q_description: str = ""
    # rows are certificates, and `q` finds them by their names: see `store.searches`
    finds_by_names: bool = False
    always: sa.ColumnElement[bool] | None = None
    blank: Mapping[str, Any] = {}
    key: str = "id"
    # grows without end: what it has in all may be told as it was a moment ago
    long: bool = False

    def __deepcopy__(self, _memo: dict[int, Any]) -> Listing[RecordT]:
        """Itself: a copied table would be another table to SQLAlchemy, and the web framework copies what routes say."""
        return self


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asked of a list. `fixed` holds filters that the path says; `after` makes it a keyset page."""

    filters: Mapping[str, Sequence[Any]] = {}
    fixed: Mapping[str, str] = {}
    q: str = ""
    sort: str = ""
    descending: bool = False
    limit: int = 50
    offset: int = 0
    after: Position | None = None

    @property
    def narrowed(self) -> bool:
        """Whether this asks for less than the whole list."""
        return bool(self.filters or self.fixed or self.q)


class Found(msgspec.Struct, Generic[RecordT], frozen=True):
    """A part of a list; `last` is where the next one begins, None when this is the end. `as_of` is when the total was
    counted, None when that was just now.
    """

    data: list[RecordT]
    total: int
    estimated: bool = False
    last: Position | None = None
    as_of: datetime | None = None


class Total(msgspec.Struct, frozen=True):
    """How many rows there are, at least so many when `estimated`; as they were at `as_of`, None for just now."""

    number: int
    estimated: bool = False
    as_of: datetime | None = None


Count = Callable[[], Awaitable[Total]]


class Remembers(Protocol):
    """Whoever remembers totals: tells what it knows of a question, or counts."""

    async def of(self, scope: Scope, listing: Listing[Any], asked: Asked, count: Count) -> Total:
        """The total."""
        ...


async def read_list(
    tx: Tx, scope: Scope, listing: Listing[RecordT], asked: Asked, totals: Remembers | None = None
) -> Found[RecordT]:
    """The rows asked for, in order, and what follows them. `totals` may remember what a long list has in all."""
    rows = await _rows(tx, scope, listing, asked)
    shown = rows[: asked.limit]
    if len(rows) == len(shown) and not asked.offset and asked.after is None:
        return Found(_records(listing, shown), len(shown))  # all there is: nothing to count
    total = await _total(tx, scope, listing, asked, totals if listing.long else None)
    last = None
    if len(rows) > len(shown) and shown:
        last = _order(listing, asked).position(shown[-1], total.number, estimated=total.estimated)
    return Found(_records(listing, shown), total.number, total.estimated, last, total.as_of)


async def _rows(tx: Tx, scope: Scope, listing: Listing[Any], asked: Asked) -> Sequence[Sequence[Any]]:
    statement = rows_wanted(scope, listing, asked)
    if not (asked.q and listing.finds_by_names) or asked.offset:
        return (await tx.execute(statement)).all()

    def walk(most: int) -> searches.Walk:
        without = msgspec.structs.replace(asked, q="", limit=most - 1)
        order, tie = _order(listing, asked), _tie(listing)
        rows = rows_wanted(scope, listing, without, order.columns).subquery("walked")

        def whole(chosen: sa.Subquery) -> sa.Select[Any]:
            found = sa.select(*_columns(listing)).join_from(listing.table, chosen, tie == chosen.c[tie.key])
            return found.where(listing.in_scope(scope)).order_by(*order.by())

        return searches.Walk(rows, rows.c[listing.key], order.by(rows), whole)

    return await searches.first(tx, scope, asked.q, walk, statement, asked.limit + 1)


def _records(listing: Listing[RecordT], rows: Sequence[Sequence[Any]]) -> list[RecordT]:
    """Rows as records: columns stand in the order of `_columns`, so that no name is looked up a row."""
    names = _names(listing)
    return [listing.kind(**dict(zip(names, row, strict=False)), **listing.blank) for row in rows]


def rows_wanted(
    scope: Scope, listing: Listing[Any], asked: Asked, columns: Iterable[sa.ColumnElement[Any]] | None = None
) -> sa.Select[Any]:
    """The one query of a page: its rows, and one more to tell whether there is another page; all columns of a record,
    unless some are named.
    """
    order, columns = _order(listing, asked), list(columns or _columns(listing))
    split, is_ranged = _ranges(listing, asked, order)
    left = {name: values for name, values in asked.filters.items() if name != split}
    here = narrow(scope, listing, msgspec.structs.replace(asked, filters=left))
    ranges = [sa.and_(here, each) for each in order.ranges(asked.after)]
    if split:
        condition = listing.filters[split].condition
        ranges = [sa.and_(condition((value,)), each) for value in asked.filters[split] for each in ranges]
    if is_ranged:
        parts = [sa.select(*columns).where(each) for each in ranges]
        return orders.merged(parts, order, asked.limit + 1, asked.offset, columns)
    beyond = sa.true() if asked.after is None else sa.or_(*order.ranges(asked.after))
    statement = sa.select(*columns).where(here, beyond).order_by(*order.by())
    return statement.limit(asked.limit + 1).offset(asked.offset or None)


def _ranges(listing: Listing[Any], asked: Asked, order: Order) -> tuple[str, bool]:
    """The filter whose values are ranges of an index each, if there is one, and whether the page is read by ranges."""
    if asked.q or any(listing.filters[name].finds_few for name in asked.filters):
        return "", False
    first, of_each = order.columns[0], 2 if order.has_nulls else 1
    ways: list[tuple[sa.Column[Any], ...]] = [(first,)]
    for name, values in asked.filters.items():
        column = listing.filters[name].column
        if column is None:
            continue
        if len(values) == 1:
            ways.append((column, first))
        elif 0 < len(values) * of_each <= orders.MOST and orders.is_led(column, first):
            return name, True
    return "", order.has_nulls and any(orders.is_led(*columns) for columns in ways)


def narrow(scope: Scope, listing: Listing[Any], asked: Asked) -> sa.ColumnElement[bool]:
    """The condition that the rows asked for fulfil."""
    conditions = [listing.in_scope(scope)]
    if listing.always is not None:
        conditions.append(listing.always)
    conditions += [listing.filters[name].condition(values) for name, values in asked.filters.items()]
    conditions += [listing.table.c[name] == value for name, value in asked.fixed.items()]
    if asked.q and listing.q is not None:
        conditions.append(listing.q(scope, asked.q))
    return sa.and_(*conditions)


def _tie(listing: Listing[Any]) -> sa.Column[Any]:
    return cast("sa.Column[Any]", listing.table.c[listing.key])


def _columns(listing: Listing[Any]) -> list[sa.ColumnElement[Any]]:
    names = _names(listing)
    sorted_by = [column for column in (*listing.sorts.values(), _tie(listing)) if column.key not in names]
    return [listing.table.c[name] for name in names] + list(dict.fromkeys(sorted_by))


def _names(listing: Listing[Any]) -> list[str]:
    return [name for name in listing.kind.__struct_fields__ if name not in listing.blank]


def _order(listing: Listing[Any], asked: Asked) -> Order:
    then = listing.then.get(asked.sort)
    columns = [listing.sorts[asked.sort], *(() if then is None else (then,)), _tie(listing)]
    return Order(tuple(dict.fromkeys(columns)), asked.descending)


async def _total(tx: Tx, scope: Scope, listing: Listing[Any], asked: Asked, totals: Remembers | None) -> Total:
    if asked.after is not None:
        return Total(asked.after.total, asked.after.estimated)
    count = functools.partial(_count, tx, scope, listing, asked)
    return await count() if totals is None else await totals.of(scope, listing, asked, count)


async def _count(tx: Tx, scope: Scope, listing: Listing[Any], asked: Asked) -> Total:
    where = narrow(scope, listing, asked)
    if scope == Scope.whole(scope.tenant_id) and not asked.narrowed:
        return Total(int(await tx.scalar(sa.select(sa.func.count()).select_from(listing.table).where(where))))
    if asked.q and listing.finds_by_names:
        return await _count_found(tx, scope, listing, asked)
    some = sa.select(_tie(listing)).where(where).limit(MOST_COUNTED + 1).subquery()
    counted = int(await tx.scalar(sa.select(sa.func.count()).select_from(some)))
    return Total(MOST_COUNTED, estimated=True) if counted > MOST_COUNTED else Total(counted)


async def _count_found(tx: Tx, scope: Scope, listing: Listing[Any], asked: Asked) -> Total:
    """As `_count`, of a search: among `searches.SORTED` names. Of more there are at least those, and at least the
    page that has another behind it.
    """
    sight = await searches.seen(tx, scope, asked.q)
    if scope == Scope.whole(scope.tenant_id) and not asked.filters and not asked.fixed:
        counted = sight.certificates
    else:
        found = names.first_found(scope, asked.q, searches.SORTED)
        where = narrow(scope, listing, msgspec.structs.replace(asked, q=""))
        some = sa.select(_tie(listing)).where(where, _tie(listing).in_(sa.select(found.c.certificate_id)))
        counted = int(await tx.scalar(sa.select(sa.func.count()).select_from(some.subquery())))
    least = max(counted, asked.limit + 1) if sight.more and not asked.offset else counted
    return Total(min(least, MOST_COUNTED), estimated=sight.more or counted > MOST_COUNTED)


def equals(column: sa.Column[Any], description: str = "") -> Filter:
    """Rows whose column is this text, or one of several."""
    return Filter(kind=FilterKind.TEXT, condition=column.in_, several=True, description=description, column=column)


def is_text(column: sa.Column[Any], description: str = "") -> Filter:
    """Rows whose column is this text, commas and all."""
    return Filter(
        kind=FilterKind.TEXT, condition=lambda values: column == values[0], description=description, column=column
    )


def one_of(column: sa.Column[Any], words: type[StrEnum], description: str = "") -> Filter:
    """Rows whose column is one of these words, asked for in any case."""
    known = tuple(str(word) for word in words)
    return Filter(
        kind=FilterKind.WORD, condition=column.in_, words=known, several=True, description=description, column=column
    )


def before(column: sa.Column[datetime]) -> Filter:
    """Rows whose moment lies before this one."""
    return Filter(kind=FilterKind.MOMENT, condition=lambda values: column < values[0])


def after(column: sa.Column[datetime]) -> Filter:
    """Rows whose moment lies after this one."""
    return Filter(kind=FilterKind.MOMENT, condition=lambda values: column > values[0])


def is_set(column: sa.Column[Any], description: str = "", otherwise: tuple[bool, ...] = ()) -> Filter:
    """Rows whose column has a value, or has none."""
    return Filter(
        kind=FilterKind.FLAG,
        condition=lambda values: column.is_not(None) if values[0] else column.is_(None),
        description=description,
        otherwise=otherwise,
    )


def flag(column: sa.Column[bool], description: str = "") -> Filter:
    """Rows whose column is true, or false."""
    return Filter(kind=FilterKind.FLAG, condition=lambda values: column.is_(values[0]), description=description)


def begins_with(*columns: sa.Column[str]) -> Callable[[Scope, str], sa.ColumnElement[bool]]:
    """A search for a text that one of these columns begins with, in any case: for short tables."""

    def condition(_scope: Scope, q: str) -> sa.ColumnElement[bool]:
        wanted = q.lower()
        return sa.or_(*(sa.func.lower(column).startswith(wanted, autoescape=True) for column in columns))

    return condition
