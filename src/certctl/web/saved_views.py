"""/views: filters of lists that somebody keeps under names of their own: kept, renamed, taken away."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from litestar import Response, get, post
from litestar.params import FromPath
from msgspec import Struct

from certctl.control import saved_views as control
from certctl.core.errors import CallerError, Malformed, NotAllowed, NotFound
from certctl.core.saved_view import SavedView
from certctl.store import saved_views as store
from certctl.web.acts import act, going
from certctl.web.guard import SIGNED_IN
from certctl.web.pages import render
from certctl.web.request import Fields, WebRequest
from certctl.web.saved import lists

PATH = "/views"
_AT = f"{PATH}/{{view_id:str}}"


class Line(Struct, frozen=True, kw_only=True):
    """One view as its line tells it."""

    view: SavedView
    href: str
    of: str
    filters: list[tuple[str, str]]


@get(PATH, opt=SIGNED_IN)
async def show_all(request: WebRequest) -> Response[str]:
    """One's own, by list and name; `path` and `query` fill in the form that keeps another."""
    asked = request.query_params
    return await _page(request, path=asked.get("path", ""), query=asked.get("query", "")[:2000])


async def _page(request: WebRequest, *, path: str, query: str, name: str = "", fault: str = "") -> Response[str]:
    async with request.ctx.database.read() as tx:
        kept = await store.of_actor(tx, request.ctx.scope, request.actor.id)
    known = lists()
    lines = [
        Line(
            view=view,
            href=f"{view.path}?{view.query}" if view.query else view.path,
            of=known[view.path][0],
            filters=parse_qsl(view.query),
        )
        for view in kept
        if view.path in known and request.may(known[view.path][1])
    ]
    return await render(
        request,
        "views.html",
        status=409 if fault else 200,
        lines=lines,
        wanted=(path, query, known[path][0]) if path in known and request.may(known[path][1]) else None,
        filters=parse_qsl(query),
        name=name,
        fault=fault,
    )


@post(PATH, opt=SIGNED_IN)
async def keep(request: WebRequest) -> Response[str]:
    """Keep the filter of a list under a name, and go there."""
    said = await request.checked()
    path, query = said.get("path"), said.get("query")
    known = lists()
    if path not in known or not request.may(known[path][1]):
        raise Malformed("a view is kept of one of the lists")

    async def doing(fields: Fields) -> str:
        view = await control.keep(request.ctx, request.actor, path, fields.get("name"), query)
        return f"{view.path}?{view.query}" if view.query else view.path

    return await _told(request, doing, path=path, query=query, name=said.get("name"))


@post(_AT, opt=SIGNED_IN)
async def rename(request: WebRequest, view_id: FromPath[str]) -> Response[str]:
    """Another name for one's own."""

    async def doing(fields: Fields) -> str:
        await control.rename(request.ctx, request.actor, view_id, fields.get("name"))
        return going(PATH, "saved")

    return await _told(request, doing)


@post(f"{_AT}/remove", opt=SIGNED_IN)
async def remove(request: WebRequest, view_id: FromPath[str]) -> Response[str]:
    """Forget one's own; the list stays as it is."""

    async def doing(_fields: Fields) -> str:
        await control.forget(request.ctx, request.actor, view_id)
        return going(PATH, "view-gone")

    return await _told(request, doing)


async def _told(request: WebRequest, doing: Any, *, path: str = "", query: str = "", name: str = "") -> Response[str]:
    try:
        return await act(request, doing)
    except (NotAllowed, NotFound):
        raise
    except CallerError as error:
        fault = error.message[:1].upper() + error.message[1:]
        return await _page(request, path=path, query=query, name=name, fault=fault)


HANDLERS = (show_all, keep, rename, remove)
