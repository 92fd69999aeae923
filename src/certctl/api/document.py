"""The API as OpenAPI 3.1, told from the handlers themselves: nothing here is written twice, nothing is started.

Litestar tells paths and parameters; permissions, names and tags come from the routes' own declarations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from certctl.api.agent_document import agent_paths
from certctl.api.guard import SIGNED_IN, asked_by

PERMISSION = "x-permission"
# what the document calls a route that asks for a key alone
_AUTHENTICATED = "authenticated"


def tell(rest: Litestar) -> dict[str, Any]:
    """The document of these routes, the agents' included."""
    document = rest.openapi_schema.to_schema()
    for path, method, handler in _routes(rest):
        _enrich(document["paths"][path][method], path, handler)
    for path, methods in agent_paths(document.setdefault("components", {})).items():
        document["paths"].setdefault(path, {}).update(methods)
    document["paths"] = dict(sorted(document["paths"].items()))
    return document


def _routes(rest: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in rest.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                if handler.resolve_include_in_schema():
                    yield route.path_format, method.lower(), handler


def _enrich(operation: dict[str, Any], path: str, handler: HTTPRouteHandler) -> None:
    asked = asked_by(handler.opt)
    operation["operationId"] = handler.handler_name
    operation["tags"] = [_tag(path)]
    operation[PERMISSION] = _AUTHENTICATED if asked == asked_by(dict(SIGNED_IN)) else asked


def _tag(path: str) -> str:
    """The resource: the first part of a path below the version."""
    parts = path.removeprefix("/api/v1").strip("/").split("/")
    return parts[0] if path.startswith("/api/v1") else "probes"
