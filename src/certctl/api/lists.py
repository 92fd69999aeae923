"""How a route answers with a list: `opt=needs("team.read") | listed(TEAMS)`, and `return await answer_list(...)`.

The declaration gives the query parameters, here and in the OpenAPI document. Lists that the reference product answers
in one piece, under a word of their own, stay so until pages are asked for: `in_one_piece(KEYS)`, `answer_whole(...)`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from litestar.handlers.base import BaseRouteHandler
from msgspec import Struct

from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.page import Paged, PageOf
from certctl.core.scope import Scope
from certctl.doors.paging import MOST_IN_ONE, PAGE_WORDS, ListQuery, read_list_query, read_query
from certctl.store.lists import FilterKind, Found, Listing, Remembers, read_list
from certctl.store.tx import Tx

ViewT = TypeVar("ViewT", bound=Struct)
RecordT = TypeVar("RecordT", bound=Struct)
WholeT = TypeVar("WholeT", bound=Paged)
Show = Callable[[RecordT], ViewT]
# what a page of rows needs beside the rows themselves, read at once
ShowAll = Callable[[Tx, Scope, Sequence[RecordT]], Awaitable[list[ViewT]]]

_LISTING = "listing"
_IN_ONE_PIECE = "in_one_piece"


def listed(listing: Listing[Any]) -> dict[str, Any]:
    """What a list's handler says in its `opt`."""
    return {_LISTING: listing}


def in_one_piece(listing: Listing[Any]) -> dict[str, Any]:
    """`listed`, for a list that is answered whole unless pages are asked for."""
    return listed(listing) | {_IN_ONE_PIECE: True}


def listing_of(handler: BaseRouteHandler) -> Listing[Any] | None:
    """The list that a route answers with, if it is one."""
    found: Listing[Any] | None = handler.opt.get(_LISTING)
    return found


async def answer_list(
    request: ApiRequest,
    view: type[ViewT],
    *,
    show: Show[Any, ViewT] | None = None,
    show_all: ShowAll[Any, ViewT] | None = None,
    fixed: Mapping[str, str] | None = None,
    listing: Listing[Any] | None = None,
    seen: Scope | None = None,
) -> PageOf[ViewT]:
    """The page asked for of the list that the route declares.

    Rows are shown one by one (`show`, else the fields of the same name), or all at once with what the database tells
    more of them (`show_all`). `fixed` narrows by columns that the path names; `listing` is the declared one as this
    caller sees it; `seen` is another scope than that of the route's permission.
    """
    asked = _read(request, view, fixed=fixed, listing=listing)
    found, rows = await _rows(request, asked, view, show=show, show_all=show_all, listing=listing, seen=seen)
    return PageOf(data=rows, **_told(request, found, asked))


async def answer_whole(
    request: ApiRequest,
    answer: type[WholeT],
    view: type[ViewT],
    *,
    show: Show[Any, ViewT] | None = None,
    show_all: ShowAll[Any, ViewT] | None = None,
    fixed: Mapping[str, str] | None = None,
    listing: Listing[Any] | None = None,
    besides: Iterable[str] = (),
) -> WholeT:
    """The same under the one word that `answer` has for its rows; `besides` are parameters that the route reads."""
    asked = _read(request, view, fixed=fixed, listing=listing, besides=besides)
    found, rows = await _rows(request, asked, view, show=show, show_all=show_all, listing=listing)
    (word,) = set(answer.__struct_fields__) - set(Paged.__struct_fields__)
    return answer(**_told(request, found, asked) | {word: rows})


def _read(
    request: ApiRequest,
    view: type[Struct],
    *,
    fixed: Mapping[str, str] | None = None,
    listing: Listing[Any] | None = None,
    besides: Iterable[str] = (),
) -> ListQuery:
    return read_list_query(
        listing or _declared(request),
        read_query(request.scope.get("query_string", b"")),
        request.door.cursors,
        tenant_id=request.visible.tenant_id,
        fields=view.__struct_encode_fields__,
        fixed=fixed,
        besides=besides,
        whole=_IN_ONE_PIECE in request.route_handler.opt,
    )


def _declared(request: ApiRequest) -> Listing[Any]:
    declared = listing_of(request.route_handler)
    if declared is None:
        raise TypeError("this route declares no list")
    return declared


async def _rows(
    request: ApiRequest,
    asked: ListQuery,
    view: type[ViewT],
    *,
    show: Show[Any, ViewT] | None,
    show_all: ShowAll[Any, ViewT] | None,
    listing: Listing[Any] | None,
    seen: Scope | None = None,
) -> tuple[Found[Any], list[Any]]:
    scope = request.visible if seen is None else seen
    declared = listing or _declared(request)

    async def read(tx: Tx, totals: Remembers | None) -> tuple[Found[Any], list[Any]]:
        found = await read_list(tx, scope, declared, asked.asked, totals)
        if show_all is not None:
            return found, await show_all(tx, scope, found.data)
        return found, [show(record) if show else shown(view, record) for record in found.data]

    if declared.long:
        found, rows = await request.door.reads.ask(request.known, read)
    else:
        async with request.ctx.database.read() as tx:
            found, rows = await read(tx, request.door.totals)
    if asked.fields:
        rows = [{name: getattr(row, name) for name in asked.fields} for row in rows]
    return found, rows


def _told(request: ApiRequest, found: Found[Any], asked: ListQuery) -> dict[str, Any]:
    paging = asked.paging
    return {
        "total": found.total,
        "total_is_estimate": found.estimated,
        "total_as_of": found.as_of,
        "page": paging.page if paging else 0,
        "per_page": paging.per_page if paging else 0,
        "page_size": 0 if paging else asked.asked.limit,
        "next_cursor": request.door.cursors.write(found.last, asked.bound_to) if found.last else "",
    }


def list_parameters(handler: BaseRouteHandler) -> list[dict[str, Any]]:
    """The query parameters of a list for the OpenAPI document."""
    listing = listing_of(handler)
    if listing is None:
        return []
    whole = _IN_ONE_PIECE in handler.opt
    page = {"type": "integer", "minimum": 1}
    orders = [f"{sign}{name}" for name in listing.sorts for sign in ("", "-")]
    schemas: dict[str, dict[str, Any]] = {
        "page": page | {"default": 1},
        "per_page": page | {"maximum": 500} | ({} if whole else {"default": 50}),
        "cursor": {"type": "string"},
        "page_size": page | {"maximum": 500},
        "sort": {"type": "string", "enum": orders, "default": listing.default},
        "sort_desc": {"type": "boolean"},
        "fields": {"type": "string"},
    }
    told = [_parameter(name, schemas[name], text) for name, text in PAGE_WORDS.items()]
    if whole:
        in_one = f"up to {MOST_IN_ONE} rows in one piece unless page, per_page or page_size is given"
        told = [each | ({"description": in_one} if each["name"] == "per_page" else {}) for each in told]
    if listing.q is not None:
        told.append(_parameter("q", {"type": "string", "maxLength": 512}, listing.q_description))
    for name, each in listing.filters.items():
        schema: dict[str, Any] = {
            FilterKind.TEXT: {"type": "string"},
            FilterKind.WORD: {"type": "string"},
            FilterKind.MOMENT: {"type": "string", "format": "date-time"},
            FilterKind.FLAG: {"type": "boolean"},
        }[each.kind]
        text = [each.description] if each.description else []
        if each.words:
            text.append(f"in any case, of {', '.join(each.words)}")
        if each.several:
            text.append("several separated by commas")
        if each.otherwise:
            text.append(f"absent: {', '.join(str(value).lower() for value in each.otherwise)}")
        told.append(_parameter(name, schema, "; ".join(text)))
    return told


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "in": "query", "required": False, "schema": schema}
    return told | ({"description": description} if description else {})
