"""The agents' routes for the document: generated from the protocol's table and structs."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import msgspec

from certctl.api.agent_protocol import ROUTES, AgentRoute
from certctl.api.document import refusals
from certctl.api.document.schemas import Schemas
from certctl.client.models.agents import AgentCertificate, AgentView, VerifiedAnswer
from certctl.client.models.page import StatusAnswer
from certctl.wire import agent as wire

# enrolment asks for a one-time token, or for an operator's key with this permission
ENROLMENT = "agent.edit"

_Told = tuple[type[msgspec.Struct] | None, Any, int, str]
_TOLD: dict[str, _Told] = {
    "enrol": (
        wire.Enrolment,
        wire.Enrolled | AgentView,
        201,
        "Enrol with a one-time token, or register an agent with a key that may edit agents",
    ),
    "heartbeat": (wire.Heartbeat, wire.HeartbeatReply, 200, "An agent's sign of life"),
    "work": (None, wire.Work | wire.ReferenceWork, 200, "Poll for work"),
    "csr": (wire.CsrReport, StatusAnswer, 202, "Answer a prepare step with a CSR"),
    "certificate": (None, AgentCertificate, 200, "Fetch a certificate for this host"),
    "status": (wire.StatusReport, StatusAnswer, 200, "Tell how a step went"),
    "verify": (wire.VerifyReport, VerifiedAnswer, 200, "Tell what the target serves"),
}
_QUERY: dict[str, list[dict[str, Any]]] = {
    "work": [
        {
            "name": "wait",
            "in": "query",
            "required": False,
            "description": "seconds to wait for work, at most 60; each agent waits a share of its own, 80 to 100 %",
            "schema": {"type": "number", "minimum": 0, "default": 0},
        },
        {
            "name": "boot_id",
            "in": "query",
            "required": False,
            "description": "names this run of the agent; absent for the reference product's",
            "schema": {"type": "string", "maxLength": 64},
        },
    ]
}


def agent_operations(schemas: Schemas) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation of each route of the agents."""
    for route in ROUTES:
        yield route.path, route.method.lower(), _operation(route, schemas)


def _operation(route: AgentRoute, schemas: Schemas) -> dict[str, Any]:
    name = route.handler.__name__.strip("_")
    body, answer, status, summary = _TOLD[name]
    parameters = [*_path_parameters(route.path), _PROTOCOL, *_QUERY.get(name, [])]
    operation: dict[str, Any] = {
        "operationId": f"agent_{name}",
        "summary": summary,
        "description": "Part of the agent protocol; unknown fields are ignored, so that neighbouring releases "
        "understand each other.",
        "tags": ["agent protocol"],
        "x-permission": route.permission or ENROLMENT,
        "parameters": parameters,
    }
    if body is not None:
        content = {"application/json": {"schema": schemas.of(body)}}
        operation["requestBody"] = {"required": name != "heartbeat", "content": content}
    good = {
        "description": HTTPStatus(status).phrase,
        "content": {"application/json": {"schema": schemas.of(answer)}},
    }
    refused = refusals.of(
        route.method.lower(), route.path, public=False, has_body=body is not None, parameters=parameters, opt=_GONE
    )
    operation["responses"] = {str(status): good} | refused
    return operation


_GONE = {"refusals": (410,)}
_PROTOCOL = {
    "name": "Certctl-Agent-Protocol",
    "in": "header",
    "required": False,
    "description": "the protocol's version; another one than ours is refused",
    "schema": {"type": "string", "enum": [str(wire.PROTOCOL_VERSION)]},
}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": f"id of the {name.removesuffix('_id')}",
            "schema": {"type": "string", "minLength": 1},
        }
        for name in names
    ]
