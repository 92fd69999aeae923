"""The API as OpenAPI 3.1, told from the handlers themselves: nothing is written twice, nothing is started.

Litestar tells paths and parameters; permissions, names, bodies, answers and refusals come from the routes' own
declarations and the structs that server and client share.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from certctl.api.asked import asked_by
from certctl.api.document import answers, parameters, refusals
from certctl.api.document.agents import agent_operations
from certctl.api.document.examples import example_of_schema
from certctl.api.document.schemas import Schemas
from certctl.api.guard import PUBLIC, SIGNED_IN, honours_if_match
from certctl.api.lists import list_parameters
from certctl.client.models.problem import Problem

PERMISSION = "x-permission"
_SAFE = {"get", "head", "options"}
# what the document calls a route that asks for a key alone
AUTHENTICATED = "authenticated"

Operation = dict[str, Any]


def tell(rest: Litestar) -> dict[str, Any]:
    """The document of these routes, the agents' included."""
    document = rest.openapi_schema.to_schema()
    told = document["paths"]
    schemas = Schemas()
    schemas.of(Problem)
    paths: dict[str, dict[str, Operation]] = {}
    for path, method, handler in _routes(rest):
        operation = _operation(told[path][method], path, method, handler, schemas)
        paths.setdefault(path, {})[method] = operation
    for path, method, operation in agent_operations(schemas):
        paths.setdefault(path, {})[method] = operation
    document["paths"] = {path: dict(sorted(paths[path].items())) for path in sorted(paths)}
    document["tags"] = [{"name": name} for name in sorted({_tag(path) for path in paths})]
    document["components"] = {
        "schemas": schemas.components(),
        "responses": refusals.components(),
        "securitySchemes": document["components"]["securitySchemes"],
    }
    _exemplify(document)
    return document


def _exemplify(document: dict[str, Any]) -> None:
    """Each body and answer that is a struct, or a list of one, shows an example of it."""
    schemas = document["components"]["schemas"]
    for item in document["paths"].values():
        for operation in item.values():
            for told in (operation.get("requestBody", {}), *operation["responses"].values()):
                for media_type, content in told.get("content", {}).items():
                    example = example_of_schema(content["schema"], schemas, media_type)
                    if example is not None:
                        content["example"] = example


def _routes(rest: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in rest.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                if handler.resolve_include_in_schema():
                    yield route.path_format, method.lower(), handler


def _operation(told: Operation, path: str, method: str, handler: HTTPRouteHandler, schemas: Schemas) -> Operation:
    asked = asked_by(handler.opt)
    public = asked == asked_by(dict(PUBLIC))
    operation: Operation = {
        "operationId": handler.handler_name,
        "summary": told.get("summary", ""),
        "description": told.get("description", ""),
        "tags": [_tag(path)],
        PERMISSION: AUTHENTICATED if asked == asked_by(dict(SIGNED_IN)) else asked,
    }
    found = parameters.told(
        [*told.get("parameters", []), *list_parameters(handler), *_conditions(method, handler, public=public)]
    )
    if found:
        operation["parameters"] = found
    body = answers.request_body(handler, schemas)
    if body is not None:
        operation["requestBody"] = body
    operation["responses"] = answers.good(handler, schemas) | refusals.of(
        method, path, public=public, has_body=body is not None, parameters=found, opt=handler.opt
    )
    if method == "get" and not public:
        operation["responses"]["304"] = {"description": "Nothing has changed since the answer with this ETag"}
    operation["security"] = [] if public else _security(method)
    return operation


def _security(method: str) -> list[dict[str, list[str]]]:
    """Ways to be known: a bearer key, or a browser's session, whose changes prove that our own page sent them."""
    return [{"bearer": []}, {"session": []} if method in _SAFE else {"session": [], "csrf": []}]


def _conditions(method: str, handler: HTTPRouteHandler, *, public: bool) -> list[dict[str, Any]]:
    """The headers that make a request safe to send twice, or beside another."""
    found = []
    if method == "post" and not public:
        found.append(
            ("Idempotency-Key", "sent twice with one key, a request acts once; its answer is kept for 24 hours")
        )
    if honours_if_match(handler):
        found.append(
            ("If-Match", "the ETag that was read, or its row_version in quotes; 412 when it was changed since")
        )
    if method == "get" and not public:
        found.append(("If-None-Match", "the ETag of the last answer; 304 when it would be the same"))
    return [{"name": name, "in": "header", "schema": {"type": "string"}, "description": text} for name, text in found]


def _tag(path: str) -> str:
    """The resource: the first part of a path below the version."""
    parts = path.removeprefix("/api/v1").strip("/").split("/")
    return parts[0] if path.startswith("/api/v1") else "probes"
