"""The query of a list, read by its declaration: page or cursor, filters, search, order, fields.

`page` and `per_page` are the reference product's words, `cursor` and `page_size` too. What is wrong is refused with
every fault at once, what is unknown with the nearest known name; nothing is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from certctl.core.errors import Malformed, Violation
from certctl.doors.body import nearest
from certctl.doors.cursors import Cursors, binding
from certctl.store.lists import Asked, Filter, FilterKind, Listing

DEFAULT_PER_PAGE = 50
MOST_PER_PAGE = 500
# of a list that the reference product answers in one piece
MOST_IN_ONE = 10_000
# keeps the offset well within what both databases count in
MOST_PAGES = 10_000_000
_LONGEST_TEXT = 512
_MOST_VALUES = 200
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
PAGE_WORDS = {
    "page": f"from 1 to {MOST_PAGES}",
    "per_page": f"1 to {MOST_PER_PAGE}",
    "cursor": "the next_cursor of the last answer; empty to begin with",
    "page_size": f"1 to {MOST_PER_PAGE}; asks for pages by cursor",
    "sort": "a leading - descends",
    "sort_desc": "true descends",
    "fields": "only these, separated by commas",
}


class Paging(Struct, frozen=True):
    """Which page, and how long pages are."""

    page: int = 1
    per_page: int = DEFAULT_PER_PAGE


class ListQuery(Struct, frozen=True, kw_only=True):
    """What was asked of a list. `paging` is None for pages by cursor; `fields` is empty for whole rows."""

    asked: Asked
    paging: Paging | None
    fields: tuple[str, ...]
    bound_to: str


def query_names(listing: Listing[Any]) -> frozenset[str]:
    """Every query parameter that a list knows."""
    return frozenset({*PAGE_WORDS, *listing.filters, *(("q",) if listing.q is not None else ())})


def read_query(raw: bytes) -> dict[str, list[str]]:
    """The parameters of a query string; Malformed when it is no UTF-8 or has far too many."""
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_VALUES)
    except (UnicodeError, ValueError) as error:
        raise Malformed(f"the query is no UTF-8, or has more than {_MOST_VALUES} parameters") from error
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def check_names(query: Iterable[str], known: Iterable[str]) -> None:
    """Refuse parameters that a route does not know: a filter with a typing error must not show everything."""
    names = sorted(known)
    _refuse(
        [
            Violation("unknown_parameter", f"{name[:64]!r} is no parameter here{nearest(name, names)}", name[:64])
            for name in query
            if name not in names
        ]
    )


def read_list_query(
    listing: Listing[Any],
    query: Mapping[str, Sequence[str]],
    cursors: Cursors,
    *,
    tenant_id: str,
    fields: Sequence[str],
    fixed: Mapping[str, str] | None = None,
    besides: Iterable[str] = (),
    whole: bool = False,
) -> ListQuery:
    """Read what is asked of a list whose rows show `fields`. Malformed tells every fault at once.

    `besides` are parameters that the route itself reads. A `whole` list is answered in one piece unless pages are
    asked for.
    """
    check_names(query, query_names(listing) | frozenset(besides))
    reader = _Reader(query)
    in_one = whole and not {"page", "per_page", "page_size"} & set(query)
    by_cursor = in_one or "cursor" in query or "page_size" in query
    otherwise = MOST_IN_ONE if in_one else DEFAULT_PER_PAGE
    size = reader.number("page_size" if "page_size" in query else "per_page", otherwise, MOST_PER_PAGE)
    page = reader.number("page", 1, MOST_PAGES)
    if by_cursor and "page" in query:
        reader.fault("two_ways_of_paging", "give page and per_page, or cursor and page_size, not both", "page")
    sort, descending = reader.order(listing)
    chosen = reader.chosen(fields)
    filters = reader.filters(listing)
    q = reader.text("q").strip()
    cursor = reader.text("cursor", longest=4096)
    reader.finish()
    asked = Asked(
        filters=filters,
        fixed=fixed or {},
        q=q,
        sort=sort,
        descending=descending,
        limit=size,
        offset=0 if by_cursor else (page - 1) * size,
    )
    bound_to = binding(listing, tenant_id, asked)
    if cursor:
        asked = msgspec.structs.replace(asked, after=cursors.read(cursor, bound_to))
    return ListQuery(asked=asked, paging=None if by_cursor else Paging(page, size), fields=chosen, bound_to=bound_to)


class _Reader:
    """Reads parameters and gathers what is wrong with them."""

    def __init__(self, query: Mapping[str, Sequence[str]]) -> None:
        self._query = query
        self._violations: list[Violation] = []

    def fault(self, rule: str, message: str, field: str) -> None:
        self._violations.append(Violation(rule, message, field))

    def finish(self) -> None:
        _refuse(self._violations)

    def text(self, name: str, *, longest: int = _LONGEST_TEXT) -> str:
        """One value, or empty."""
        values = self._query.get(name, ())
        if len(values) > 1:
            self.fault("given_twice", f"{name} is given {len(values)} times", name)
        value = values[0] if values else ""
        if len(value) > longest:
            self.fault("too_long", f"{name} has more than {longest} characters", name)
        return value

    def number(self, name: str, otherwise: int, most: int) -> int:
        text = self.text(name)
        if name not in self._query:
            return otherwise
        if not _NUMBER.fullmatch(text):
            self.fault("wrong_value", f"{name} must be a whole number of 1 to {most}", name)
            return otherwise
        if not 1 <= int(text) <= most:
            self.fault(f"{name}_out_of_range", f"{name} must be 1 to {most}, not {text}", name)
            return otherwise
        return int(text)

    def order(self, listing: Listing[Any]) -> tuple[str, bool]:
        given = self.text("sort") or listing.default
        known = {_folded(name): name for name in listing.sorts}
        name = known.get(_folded(given.removeprefix("-")))
        if name is None:
            message = f"sort must be one of {', '.join(listing.sorts)}{nearest(given, list(listing.sorts), only=True)}"
            self.fault("unknown_sort", message, "sort")
            name = listing.default.removeprefix("-")
        descends = self.text("sort_desc")
        return name, given.startswith("-") or bool(descends and self._flag("sort_desc", descends))

    def chosen(self, fields: Sequence[str]) -> tuple[str, ...]:
        names = [name.strip() for name in self.text("fields", longest=4096).split(",") if name.strip()]
        for name in names:
            if name not in fields:
                message = f"{name[:64]!r} is no field of this list{nearest(name, list(fields))}"
                self.fault("unknown_field", message, "fields")
        return tuple(dict.fromkeys(names))

    def filters(self, listing: Listing[Any]) -> dict[str, tuple[Any, ...]]:
        found = {}
        for name, filter_ in listing.filters.items():
            texts = [text for text in self._query.get(name, ()) if text]
            if texts:
                found[name] = self._values(name, filter_, texts)
            elif filter_.otherwise:
                found[name] = filter_.otherwise
        return found

    def _values(self, name: str, filter_: Filter, texts: list[str]) -> tuple[Any, ...]:
        if filter_.several:
            texts = [part.strip() for text in texts for part in text.split(",") if part.strip()]
        elif len(texts) > 1:
            self.fault("given_twice", f"{name} takes one value", name)
        if len(texts) > _MOST_VALUES or any(len(text) > _LONGEST_TEXT for text in texts):
            self.fault("too_long", f"{name} takes {_MOST_VALUES} values of {_LONGEST_TEXT} characters at most", name)
            return ()
        values = (self._value(name, filter_, text) for text in texts)
        return tuple(sorted(dict.fromkeys(values), key=str))

    def _value(self, name: str, filter_: Filter, text: str) -> Any:
        if filter_.kind is FilterKind.FLAG:
            return self._flag(name, text)
        if filter_.kind is FilterKind.MOMENT:
            return self._moment(name, text)
        if filter_.kind is FilterKind.WORD:
            known = {word.lower(): word for word in filter_.words}
            if text.lower() not in known:
                message = f"{name} is one of {', '.join(filter_.words)}, not {text[:64]!r}"
                self.fault("unknown_word", message, name)
            return known.get(text.lower(), "")
        return text

    def _flag(self, name: str, text: str) -> bool:
        if text.lower() not in _FLAGS:
            self.fault("wrong_value", f"{name} is true or false", name)
        return _FLAGS.get(text.lower(), False)

    def _moment(self, name: str, text: str) -> datetime | None:
        try:
            # a plus that was not escaped arrives as a space
            moment = msgspec.convert(text.replace(" ", "+"), datetime)
        except msgspec.ValidationError:
            self.fault("wrong_value", f"{name} is a time such as 2026-01-31T00:00:00Z", name)
            return None
        if moment.tzinfo is None:
            self.fault("time_without_zone", f"{name} needs a time zone (2026-01-31T00:00:00Z)", name)
        return moment


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


def _refuse(violations: list[Violation]) -> None:
    if violations:
        raise Malformed("; ".join(each.message for each in violations), violations=tuple(violations))
