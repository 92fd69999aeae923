"""How a route answers with a list: `opt=needs("team.read") | listed(TEAMS)`, and `return await answer_list(...)`.

The declaration gives the query parameters, here and in the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from litestar.handlers.base import BaseRouteHandler
from msgspec import Struct

from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.page import PageOf
from certctl.core.scope import Scope
from certctl.doors.paging import PAGE_WORDS, ListQuery, read_list_query, read_query
from certctl.store.lists import FilterKind, Found, Listing, read_list
from certctl.store.tx import Tx

ViewT = TypeVar("ViewT", bound=Struct)
RecordT = TypeVar("RecordT", bound=Struct)
Show = Callable[[RecordT], ViewT]
# what a page of rows needs beside the rows themselves, read at once
ShowAll = Callable[[Tx, Scope, Sequence[RecordT]], Awaitable[list[ViewT]]]

_LISTING = "listing"


def listed(listing: Listing[Any]) -> dict[str, Any]:
    """What a list's handler says in its `opt`."""
    return {_LISTING: listing}


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
) -> PageOf[ViewT]:
    """The page asked for of the list that the route declares.

    Rows are shown one by one (`show`, else the fields of the same name), or all at once with what the database tells
    more of them (`show_all`). `fixed` narrows by columns that the path names.
    """
    listing = listing_of(request.route_handler)
    if listing is None:
        raise TypeError("this route declares no list")
    asked = read_list_query(
        listing,
        read_query(request.scope.get("query_string", b"")),
        request.door.cursors,
        tenant_id=request.visible.tenant_id,
        fields=view.__struct_encode_fields__,
        fixed=fixed,
    )
    async with request.ctx.database.read() as tx:
        found = await read_list(tx, request.visible, listing, asked.asked)
        if show_all is not None:
            rows = await show_all(tx, request.visible, found.data)
        else:
            rows = [show(record) if show else shown(view, record) for record in found.data]
    return _page(request, found, asked, rows)


def _page(request: ApiRequest, found: Found[Any], asked: ListQuery, rows: list[ViewT]) -> PageOf[ViewT]:
    data: list[Any] = rows
    if asked.fields:
        data = [{name: getattr(row, name) for name in asked.fields} for row in rows]
    paging = asked.paging
    return PageOf(
        data=data,
        total=found.total,
        total_is_estimate=found.estimated,
        page=paging.page if paging else 0,
        per_page=paging.per_page if paging else 0,
        page_size=0 if paging else asked.asked.limit,
        next_cursor=request.door.cursors.write(found.last, asked.bound_to) if found.last else "",
    )


def list_parameters(handler: BaseRouteHandler) -> list[dict[str, Any]]:
    """The query parameters of a list for the OpenAPI document."""
    listing = listing_of(handler)
    if listing is None:
        return []
    page = {"type": "integer", "minimum": 1}
    orders = [f"{sign}{name}" for name in listing.sorts for sign in ("", "-")]
    schemas: dict[str, dict[str, Any]] = {
        "page": page | {"default": 1},
        "per_page": page | {"maximum": 500, "default": 50},
        "cursor": {"type": "string"},
        "page_size": page | {"maximum": 500},
        "sort": {"type": "string", "enum": orders, "default": listing.default},
        "sort_desc": {"type": "boolean"},
        "fields": {"type": "string"},
    }
    told = [_parameter(name, schemas[name], text) for name, text in PAGE_WORDS.items()]
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
        told.append(_parameter(name, schema, "; ".join(text)))
    return told


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "in": "query", "required": False, "schema": schema}
    return told | ({"description": description} if description else {})
