"""The REST API: Litestar for the resources, a plain ASGI app for agents, one edge around both.

`create_api` is what the composition root serves; `openapi_document` tells the same routes without starting anything.
"""

from __future__ import annotations

from typing import Any, cast

from litestar import Litestar, Request, Response, Router
from litestar.datastructures import State
from litestar.exceptions import HTTPException, MethodNotAllowedException, ValidationException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from certctl import __version__
from certctl.api.agent_protocol import AgentProtocol, serves
from certctl.api.document import tell
from certctl.api.guard import SIGNED_IN, guard, known_queries
from certctl.api.idempotent import creations, replay
from certctl.api.request import ApiRequest
from certctl.api.v1 import (
    acme,
    agent_groups,
    agents,
    approvals,
    audit,
    auth,
    batches,
    breakglass,
    certificates,
    channels,
    crls,
    digest,
    events,
    health_checks,
    imports,
    intermediates,
    issuances,
    issuers,
    jobs,
    keys,
    metrics,
    notifications,
    owners,
    policies,
    profiles,
    renewal_policies,
    roles,
    sessions,
    stats,
    system,
    targets,
    teams,
    users,
    versions,
)
from certctl.core.errors import CertctlError, Malformed, Violation
from certctl.doors.conditional import Conditional
from certctl.doors.cookies import CSRF_COOKIE, SESSION_COOKIE
from certctl.doors.edge import AsgiApp, Edge, HttpScope, Receive, Send, note_refusal, refuse, request_id_of
from certctl.doors.errors import Refusal, plain_refusal
from certctl.doors.idempotency import Idempotency
from certctl.doors.state import AppState

_RESOURCES = (
    acme,
    agent_groups,
    agents,
    approvals,
    audit,
    auth,
    batches,
    breakglass,
    certificates,
    channels,
    crls,
    digest,
    events,
    health_checks,
    intermediates,
    imports,
    issuances,
    issuers,
    jobs,
    metrics,
    notifications,
    keys,
    owners,
    policies,
    profiles,
    renewal_policies,
    stats,
    roles,
    sessions,
    system,
    targets,
    teams,
    versions,
    users,
)
_CODES = {404: "not_found", 405: "method_not_allowed"}


def create_api(state: AppState) -> AsgiApp:
    """The whole API as one ASGI app."""
    rest = Conditional(Idempotency(cast("AsgiApp", create_rest(state)), state))
    agents_app = AgentProtocol(state)

    async def dispatch(scope: HttpScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and serves(scope):
            await agents_app(scope, receive, send)
        else:
            await rest(scope, receive, send)

    return Edge(dispatch, state)


def create_rest(state: AppState | None) -> Litestar:
    """The resources; without a state only the document can be told."""
    handlers = [handler for resource in _RESOURCES for handler in resource.HANDLERS]
    app = Litestar(
        route_handlers=[Router("/api/v1", route_handlers=handlers), *system.PROBES, *sessions.PAGES, *breakglass.PAGES],
        guards=[guard],
        before_request=replay,
        request_class=ApiRequest,
        exception_handlers={
            CertctlError: _answer_error,
            HTTPException: _answer_http,
            Exception: _answer_error,
        },
        openapi_config=_openapi(),
        logging_config=None,
        request_max_body_size=None,  # the edge counts
        state=State({"door": state, "document": openapi_document}),
    )
    app.state.queries = known_queries(app)
    app.state.creations = creations(app)
    return app


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="certctl",
        version=__version__,
        description="Runs the whole life of X.509 certificates. Refusals are problem documents (RFC 9457).",
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(
                    type="http", scheme="bearer", description="an API key, or an agent's credential"
                ),
                "session": SecurityScheme(
                    type="apiKey",
                    security_scheme_in="cookie",
                    name=SESSION_COOKIE,
                    description="a browser's session, begun at /auth/login; an Authorization header wins over it",
                ),
                "csrf": SecurityScheme(
                    type="apiKey",
                    security_scheme_in="header",
                    name="X-CSRF-Token",
                    description=f"with a session, on whatever changes something: the value of the cookie {CSRF_COOKIE}",
                ),
            }
        ),
        security=[{"bearer": []}],
        use_handler_docstrings=True,
        openapi_router=Router("/api/v1/openapi", route_handlers=[], include_in_schema=False, opt=dict(SIGNED_IN)),
    )


_DOCUMENT: dict[str, Any] = {}


def openapi_document() -> dict[str, Any]:
    """The API as OpenAPI 3.1, agents' routes included; starts nothing."""
    if not _DOCUMENT:
        _DOCUMENT.update(tell(create_rest(None)))
    return _DOCUMENT


def _answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    return _response(refuse(cast("HttpScope", request.scope), error))


def _answer_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Litestar's own refusals: an unknown path, a wrong method, a query that cannot be read."""
    scope = cast("HttpScope", request.scope)
    if isinstance(error, ValidationException):
        return _response(refuse(scope, _query_fault(error)))
    status = error.status_code
    if status not in _CODES:
        return _response(refuse(scope, Malformed(str(error.detail)) if status < 500 else error))
    message = f"there is nothing at {scope['path'][:200]}"
    if isinstance(error, MethodNotAllowedException):
        message = f"{scope['path'][:200]} does not take {scope['method']}"
    headers = tuple((error.headers or {}).items())
    return _response(
        note_refusal(scope, plain_refusal(status, _CODES[status], message, request_id_of(scope), headers=headers))
    )


def _query_fault(error: ValidationException) -> Malformed:
    told = error.extra if isinstance(error.extra, list) else []
    if not told or any(isinstance(each, dict) and each.get("key") == "data" for each in told):
        return Malformed("a JSON body is needed")
    violations = tuple(
        Violation(
            "wrong_value", f"{each.get('key', '')}: {each.get('message', '')}".replace("`", ""), each.get("key", "")
        )
        for each in told
        if isinstance(each, dict)
    )
    message = "; ".join(each.message for each in violations) or "a parameter cannot be read"
    return Malformed(message, violations=violations)


def _response(answer: Refusal) -> Response[bytes]:
    headers = dict(answer.headers)
    media_type = headers.pop("Content-Type")
    return Response(answer.body, status_code=answer.status, headers=headers, media_type=media_type)
