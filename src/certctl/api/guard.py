"""Default deny: a route says which permission it needs, or that it is public, or it answers nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from litestar.routes import HTTPRoute

from certctl.api.asked import PERMISSION, asked_by
from certctl.api.lists import listing_of
from certctl.core.errors import Malformed, NotAllowed, NotFound, Violation
from certctl.core.permissions import PERMISSIONS
from certctl.doors.cookies import check_csrf
from certctl.doors.edge import HttpScope, headers_of, knock_of, note_caller
from certctl.doors.entry import Visit, admit
from certctl.doors.identity import authorise
from certctl.doors.paging import check_names, query_names, read_query
from certctl.doors.state import AppState

_PUBLIC = "public"
_SIGNED_IN = "signed in"
_REFUSALS = "refusals"
_IF_MATCH = "if_match"
_FEATURE = "feature"

PUBLIC: dict[str, Any] = {PERMISSION: _PUBLIC}
SIGNED_IN: dict[str, Any] = {PERMISSION: _SIGNED_IN}
# a route that is not there unless the feature is switched on
BREAKGLASS: dict[str, Any] = {_FEATURE: "breakglass"}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# asked by whatever keeps the process alive: never refused for their number
_UNCOUNTED = frozenset({"/health", "/ready"})


def needs(permission: str) -> dict[str, Any]:
    """What a handler's `opt` says; a permission outside the catalogue is a mistake found at import."""
    if permission not in PERMISSIONS:
        raise ValueError(f"{permission} is no permission")
    return {PERMISSION: permission}


def refuses(*statuses: int) -> dict[str, tuple[int, ...]]:
    """Further statuses of problem documents, added to a route's `opt` where its form does not tell them."""
    return {_REFUSALS: statuses}


def refused_by(opt: Mapping[str, Any]) -> tuple[int, ...]:
    """The statuses that a route's `opt` names."""
    return tuple(opt.get(_REFUSALS, ()))


def may_be_absent(opt: Mapping[str, Any]) -> bool:
    """Whether a route is there only while a feature is switched on."""
    return _FEATURE in opt


def edits(permission: str) -> dict[str, Any]:
    """`needs`, for a route that changes or deletes one row and judges `If-Match` (`request.expected`) in doing so."""
    return needs(permission) | {_IF_MATCH: True}


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Know the caller, then judge the route's permission. Runs before the body is read."""
    asked = asked_by(handler.opt)
    scope = cast("HttpScope", connection.scope)
    state: AppState = connection.app.state.door
    if _FEATURE in handler.opt and not state.rules.breakglass.enabled:
        raise NotFound(f"there is nothing at {scope['path'][:200]}")
    knock = knock_of(scope)
    if asked == _PUBLIC:
        if scope["path"] not in _UNCOUNTED:
            await Visit(state, knock.address).count()
        return
    caller = await admit(state, knock, browsers=True)
    note_caller(scope, caller)
    check_csrf(caller.csrf_hash, knock.method, knock.headers)
    if not asked:
        raise NotAllowed("this route declares no permission and answers nobody")
    if asked != _SIGNED_IN:
        if caller.agent is not None:
            # a stolen host credential must not read the inventory: what an agent needs comes with its work
            raise NotAllowed("an agent's credential opens the agents' own routes alone")
        authorise(caller, asked)
    _check_query(connection)
    if scope["method"] not in _SAFE and _IF_MATCH not in handler.opt:
        _refuse_if_match(headers_of(scope))


def known_queries(app: Litestar) -> dict[tuple[str, str], frozenset[str]]:
    """The query parameters of every route, by method and path: those of its signature and of its list."""
    known: dict[tuple[str, str], frozenset[str]] = {}
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, model) in route.route_handler_map.items():
                listing = listing_of(handler)
                names = query_names(listing) if listing is not None else frozenset()
                known[method, route.path_format] = names | {each.field_alias for each in model.expected_query_params}
    return known


def _refuse_if_match(headers: dict[str, str]) -> None:
    """A condition that is not judged is refused: who sends one relies on it."""
    if "if-match" in headers:
        message = "If-Match is not supported here"
        raise Malformed(message, violations=(Violation("if_match_not_supported", message, "If-Match"),))


def honours_if_match(handler: BaseRouteHandler) -> bool:
    """Whether a route judges `If-Match`."""
    return _IF_MATCH in handler.opt


def _check_query(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """A parameter that the route does not know is refused, not ignored: a filter with a typing error shows too much."""
    raw = connection.scope.get("query_string", b"")
    if raw:
        scope = cast("HttpScope", connection.scope)
        asked = (scope["method"], scope["path_template"])
        check_names(read_query(raw), connection.app.state.queries[asked])
