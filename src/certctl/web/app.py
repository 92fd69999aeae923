"""The dashboard as one ASGI app inside the same edge as the API; which paths are its own; how it shows refusals.

`create_web` is what the composition root serves beside the API. Without a session a page leads to the sign-in page and
back; a form that was sent without one is kept and may be sent again after signing in.
"""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import quote

from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from certctl.core.errors import CertctlError, Malformed, NotAuthenticated
from certctl.doors.edge import (
    AsgiApp,
    Edge,
    HttpScope,
    Message,
    Receive,
    Send,
    headers_of,
    note_refusal,
    refuse,
    request_id_of,
)
from certctl.doors.errors import Refusal, plain_refusal
from certctl.doors.state import AppState
from certctl.web import (
    agents,
    approvals,
    asking,
    audit,
    bulk,
    ca_revoking,
    certificate,
    certificate_edit,
    certificates,
    dry_run,
    external_keys,
    files,
    find,
    forecast,
    health_checks,
    hierarchy,
    issuer_account,
    jobs,
    keys,
    notifications,
    overview,
    roles,
    saved_views,
    settings,
    sign_in,
    turns,
    violations,
)
from certctl.web.acts import gone
from certctl.web.configure import pages as configure
from certctl.web.guard import guard
from certctl.web.refusals import page_of
from certctl.web.request import WebRequest

_PAGES = (
    agents,
    approvals,
    asking,
    audit,
    bulk,
    ca_revoking,
    certificate,
    certificate_edit,
    certificates,
    configure,
    dry_run,
    external_keys,
    files,
    find,
    forecast,
    health_checks,
    hierarchy,
    issuer_account,
    jobs,
    keys,
    notifications,
    overview,
    roles,
    saved_views,
    settings,
    sign_in,
    turns,
    violations,
)
# what belongs to others: never shown as a page, not even as one that is not there
_OTHERS = frozenset({"api", "auth", "health", "ready", "acme", "scep", "est", ".well-known", "metrics"})


def serves(scope: HttpScope) -> bool:
    """Whether a call is for a page: one of ours, or a browser that asks for what is nowhere."""
    first = scope["path"].split("/")[1]
    if first in _firsts():
        return True
    wants_a_page = "text/html" in headers_of(scope).get("accept", "")
    return first not in _OTHERS and scope["method"] == "GET" and wants_a_page


def _firsts() -> frozenset[str]:
    """The first words of our paths."""
    if not _FIRSTS:
        paths = (path for page in _PAGES for handler in page.HANDLERS for path in handler.paths)
        _FIRSTS.update(path.strip("/").split("/")[0] for path in paths)
    return frozenset(_FIRSTS)


_FIRSTS: set[str] = set()
_ERROR = "certctl.web.error"


def create_web(state: AppState) -> AsgiApp:
    """The whole dashboard as one ASGI app."""
    return Edge(_Told(create_pages(state)), state)


def create_pages(state: AppState | None) -> Litestar:
    """The routes; without a state only their declarations can be looked at."""
    return Litestar(
        route_handlers=[handler for page in _PAGES for handler in page.HANDLERS],
        guards=[guard],
        request_class=WebRequest,
        exception_handlers={Exception: _note},
        openapi_config=None,
        logging_config=None,
        request_max_body_size=None,  # the edge counts
        state=State({"door": state}),
    )


def _note(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
    """Litestar's handlers cannot wait for anything, and a page does: what was raised is shown by `_Told`."""
    cast("HttpScope", request.scope)[_ERROR] = error
    return Response("", status_code=500)


class _Told:
    """Shows what was raised as a page."""

    def __init__(self, app: Litestar) -> None:
        self._app: Any = app

    async def __call__(self, scope: HttpScope, receive: Receive, send: Send) -> None:
        """Serve one call."""

        async def unless_raised(message: Message) -> None:
            if _ERROR not in scope:
                await send(message)

        await self._app(scope, receive, unless_raised)
        error = scope.get(_ERROR)
        if error is None:
            return
        connection: Any = scope
        request: WebRequest = WebRequest(connection, cast("Any", receive), cast("Any", send))
        answer = await _answer(request, error)
        await answer.to_asgi_response(None, request)(connection, cast("Any", receive), cast("Any", send))


def with_web(api: AsgiApp, web: AsgiApp) -> AsgiApp:
    """Both behind one listener."""

    async def both(scope: HttpScope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and serves(scope)
        await (web if ours else api)(scope, receive, send)

    return both


async def _answer(request: WebRequest, error: Exception) -> Response[str]:
    if isinstance(error, NotAuthenticated):
        return await _ask_to_sign_in(request, error)
    if isinstance(error, HTTPException):
        return await page_of(request, _refusal(request.edge_scope, error))
    return await page_of(request, refuse(request.edge_scope, error), getattr(error, "violations", ()))


async def _ask_to_sign_in(request: WebRequest, error: NotAuthenticated) -> Response[str]:
    """To the sign-in page and back; a form that was sent is kept there."""
    if request.method != "POST" and not request.is_part:
        over = "&over=1" if request.csrf else ""
        return gone(f"/login?then={quote(request.here, safe='/')}{over}")
    answer = refuse(request.edge_scope, error)
    if request.is_part:
        return Response("", status_code=401, headers={"HX-Reswap": "none"}, media_type="text/html")
    try:
        fields = await request.sent()
    except CertctlError as unreadable:
        return await page_of(request, refuse(request.edge_scope, unreadable))
    why = answer.message[:1].upper() + answer.message[1:] + "."
    return await sign_in.page(request, status=401, why=why, kept_for=request.scope["path"], fields=fields)


def _refusal(scope: HttpScope, error: HTTPException) -> Refusal:
    if error.status_code not in {404, 405}:
        return refuse(scope, Malformed(str(error.detail)) if error.status_code < 500 else error)
    code = "not_found" if error.status_code == 404 else "method_not_allowed"
    message = f"there is nothing at {scope['path'][:200]}"
    return note_refusal(scope, plain_refusal(error.status_code, code, message, request_id_of(scope)))


def page_list() -> list[Any]:
    """Every route of the dashboard, for those who look at all of them."""
    return [handler for page in _PAGES for handler in page.HANDLERS]
