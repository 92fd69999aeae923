"""The agents' routes for the OpenAPI document: generated from the protocol's table and structs."""

from __future__ import annotations

from typing import Any

import msgspec

from certctl.api.agent_protocol import ROUTES
from certctl.wire import agent as wire

# enrolment asks for a one-time token, which is no permission of anybody
ENROLMENT = "enrolment token"

_BODIES: dict[str, tuple[type[msgspec.Struct] | None, type[msgspec.Struct] | None, int]] = {
    "/api/v1/agents": (wire.Enrolment, wire.Enrolled, 201),
    "/api/v1/agents/{agent_id}/heartbeat": (wire.Heartbeat, wire.HeartbeatReply, 200),
    "/api/v1/agents/{agent_id}/work": (None, wire.Work, 200),
    "/api/v1/agents/{agent_id}/csr": (wire.CsrReport, None, 202),
    "/api/v1/agents/{agent_id}/certificates/{certificate_id}": (None, None, 200),
    "/api/v1/agents/{agent_id}/jobs/{job_id}/status": (wire.StatusReport, None, 200),
    "/api/v1/jobs/{job_id}/verify": (wire.VerifyReport, None, 200),
}


def agent_paths(components: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI path items of the agents' routes; their schemas are added to `components`."""
    kinds = {kind for request, answer, _ in _BODIES.values() for kind in (request, answer) if kind}
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    components.setdefault("schemas", {}).update(schemas)
    paths: dict[str, Any] = {}
    for route in ROUTES:
        request, answer, status = _BODIES[route.path]
        operation: dict[str, Any] = {
            "tags": ["agent protocol"],
            "operationId": f"agent_{route.handler.__name__.strip('_')}",
            "summary": (route.handler.__doc__ or f"Agent protocol: {route.permission or 'enrol'}").partition("\n")[0],
            "parameters": [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in _names(route.path)
            ],
            "responses": {str(status): {"description": "done", **_content(answer)}},
            "security": [{"bearer": []}],
            "x-permission": route.permission or ENROLMENT,
        }
        if request is not None:
            operation["requestBody"] = {"required": True, **_content(request)}
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return paths


def _names(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _content(kind: type[msgspec.Struct] | None) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"} if kind else {"type": "object"}
    return {"content": {"application/json": {"schema": schema}}}
