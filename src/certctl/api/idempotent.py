"""A POST with an `Idempotency-Key`: asked before its handler runs, once the caller is known and allowed.

Routes that are public have no caller whose keys could be told apart: there the header does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from litestar import Litestar, Request, Response
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from certctl.core.errors import AnswerLost, NotFound
from certctl.doors.edge import HttpScope, caller_of
from certctl.doors.idempotency import HEADER, REPLAYED, Answer, read_key, slot_of

# headers that belong to one answer on one connection
_OWN = frozenset({"content-length", "content-type", "set-cookie"})


async def replay(request: Request[Any, Any, Any]) -> Response[Any] | None:
    """The answer that was given to this key before, or None: then the handler runs, and its answer is kept."""
    scope = cast("HttpScope", request.scope)
    slot, caller = slot_of(scope), caller_of(scope)
    if slot is None or caller is None:
        return None
    key = read_key(request.headers[HEADER])
    asked = (scope["method"], scope["path"], scope.get("query_string", b""), await request.body())
    try:
        answer = await slot.claim(caller, key, asked)
    except AnswerLost as lost:
        return await _shown_again(request, lost)
    return None if answer is None else _answer(answer)


def _answer(answer: Answer) -> Response[bytes]:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
    kept = {name: value for name, value in headers.items() if name not in _OWN}
    return Response(
        answer.body,
        status_code=answer.status,
        headers=kept | {REPLAYED: "true"},
        media_type=headers.get("content-type"),
    )


async def _shown_again(request: Request[Any, Any, Any], lost: AnswerLost) -> Response[Any]:
    """What a create made before its answer was lost, as it is now, where a GET answers with the very same type."""
    show = request.app.state.creations.get(request.scope["path_template"])
    if show is None or not lost.subject_id:
        raise lost
    told, parameter = show
    try:
        view = await told(request=request, **{parameter: lost.subject_id})
    except NotFound as error:
        raise lost from error
    return Response(view, status_code=request.route_handler.status_code, headers={REPLAYED: "rebuilt"})


def creations(app: Litestar) -> dict[str, tuple[Callable[..., Any], str]]:
    """For each path whose POST answers with the type of the GET of one thing below it: that GET, its parameter."""
    by_path: dict[str, dict[str, HTTPRouteHandler]] = {}
    parameters: dict[str, list[str]] = {}
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            by_path[route.path_format] = {method: pair[0] for method, pair in route.route_handler_map.items()}
            parameters[route.path_format] = list(route.path_parameters)
    found = {}
    for path, methods in by_path.items():
        create = methods.get("POST")
        for below, names in parameters.items():
            show = by_path[below].get("GET")
            is_below = len(names) == 1 and below == f"{path}/{{{names[0]}}}"
            if create is not None and show is not None and is_below and _answers_with(create) is _answers_with(show):
                found[path] = (show.fn, names[0])
    return found


def _answers_with(handler: HTTPRouteHandler) -> Any:
    return handler.parsed_fn_signature.return_type.annotation
