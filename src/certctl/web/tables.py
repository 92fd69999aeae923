"""How a page shows a list: the same listing, filters and cursors as the API, read from the page's own address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from certctl.core.scope import Scope
from certctl.doors.paging import read_list_query, read_query
from certctl.store.lists import Found, Listing, read_list
from certctl.store.tx import Tx
from certctl.web.request import WebRequest
from certctl.web.words import gettext as _
from certctl.web.words import number

RecordT = TypeVar("RecordT", bound=Struct)
SIZE = 50
# parameters of pages, which no list knows
_OWN = frozenset({"done"})


class Pager(Struct, frozen=True, kw_only=True):
    """What stands below a list."""

    told: str
    first: str
    next: str


class Table(msgspec.Struct, Generic[RecordT], frozen=True, kw_only=True):
    """A page of a list with what was asked of it."""

    path: str
    given: Mapping[str, Sequence[str]]
    rows: list[RecordT]
    total: str
    pager: Pager

    def chosen(self, name: str) -> str:
        """The value of a filter, or empty."""
        return next(iter(self.given.get(name, ())), "")

    def to(self, **changes: str) -> str:
        """The address with some filters changed, from the list's beginning; an empty value takes one away."""
        kept = {name: list(values) for name, values in self.given.items() if name not in {"cursor", *changes}}
        kept |= {name: [value] for name, value in changes.items() if value}
        return f"{self.path}?{urlencode(kept, doseq=True)}" if kept else self.path


async def read(
    request: WebRequest,
    tx: Tx,
    listing: Listing[RecordT],
    scope: Scope,
    *,
    unless_said: Mapping[str, str] | None = None,
    more_own: Sequence[str] = (),
) -> Table[RecordT]:
    """The part of a list that the address asks for; `unless_said` are filters and order where it says nothing."""
    own = _OWN | set(more_own)
    query: Mapping[str, Sequence[str]] = read_query(request.scope.get("query_string", b""))
    given = {name: values for name, values in query.items() if name not in own and any(values)}
    usual = {"page_size": str(SIZE)} | dict(unless_said or {})
    completed: dict[str, Sequence[str]] = {name: [value] for name, value in usual.items()} | given
    asked: Any = read_list_query(listing, completed, request.door.cursors, tenant_id=scope.tenant_id, fields=[])
    found: Found[RecordT] = await read_list(tx, scope, listing, asked.asked, request.door.totals)
    path = request.scope["path"]
    total = number(found.total) + ("+" if found.estimated else "")
    rest = {name: list(values) for name, values in given.items() if name != "cursor"}
    following = ""
    if found.last is not None:
        cursor = request.door.cursors.write(found.last, asked.bound_to)
        following = f"{path}?{urlencode(rest | {'cursor': [cursor]}, doseq=True)}"
    first = (f"{path}?{urlencode(rest, doseq=True)}" if rest else path) if "cursor" in given else ""
    told = _("{shown} of {total}").format(shown=len(found.data), total=total)
    return Table(
        path=path, given=given, rows=found.data, total=total, pager=Pager(told=told, first=first, next=following)
    )
