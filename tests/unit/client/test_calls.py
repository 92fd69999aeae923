"""The client can make every call that the document tells, and none that it does not."""

from __future__ import annotations

import collections.abc
import inspect
import re
import typing

import msgspec

from certctl.api.app import openapi_document
from certctl.client import calls
from certctl.client.surface import Sent, Surface

# made by agents (certctl.agent.server), or read by people and machines without a client
NOT_THE_CLIENTS = {"agent protocol"}
WITHOUT_A_CALL = {
    # operation: why the client has no method for it
    "export_audit": "a stream of any length: `lines` of both clients sends `audits.export_audit`",
    "follow_events": "a stream: `follow` of both clients",
    "retire_agent_by_post": "retire_agent says the same by DELETE",
    "sign_in": "begins a browser's session by cookies; a client has its key",
    "sign_in_by_password": "begins a browser's session by cookies",
    "sign_out": "ends this browser's session; revoke_session ends any other",
}


def sample(annotation, document):
    kind = annotation
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind is msgspec.Struct:
            return None
        example = document["components"]["schemas"][kind.__name__]["examples"][0]
        return msgspec.convert(example, kind)
    if typing.get_origin(kind) is dict:
        return {}
    if typing.get_origin(kind) is collections.abc.Sequence:
        return ["x"]
    return {str: "x", int: 1, float: 1.0, bool: True}[kind]


def told_by(name, sent, document):
    """The call that a method of the surface makes, its needed arguments filled in."""
    hints = typing.get_type_hints(sent.call)
    given = {}
    for parameter in inspect.signature(sent.call).parameters.values():
        if parameter.default is parameter.empty and parameter.kind not in {
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        }:
            given[parameter.name] = sample(hints[parameter.name], document)
    if name == "test_thing":
        given["resource"] = "issuers"
    return sent.call(**given)


def operations(document):
    found = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if operation["tags"][0] not in NOT_THE_CLIENTS:
                found[method.upper(), re.sub(r"\{[^}]*\}", "x", path)] = operation["operationId"]
    return found


def test_the_surface_makes_every_call_of_the_document():
    document = openapi_document()
    asked = operations(document)
    made = {}
    for name, sent in vars(Surface).items():
        if isinstance(sent, Sent):
            call = told_by(name, sent, document)
            made[call.method, call.path] = name
    made["POST", "/api/v1/targets/x/test"] = "test_thing"
    made["POST", "/api/v1/notification-channels/x/test"] = "test_thing"
    unknown = {name: key for key, name in made.items() if key not in asked}
    assert not unknown, "the document knows no such route"
    missing = {operation for key, operation in asked.items() if key not in made} - set(WITHOUT_A_CALL)
    assert not missing, "describe the call in client/calls.py (or acts.py), name it in client/surface.py"
    closed = {operation for key, operation in asked.items() if key in made} & set(WITHOUT_A_CALL)
    assert not closed, "it has a call now: take it out of WITHOUT_A_CALL"


def test_the_queries_of_calls_are_known_to_their_routes():
    document = openapi_document()
    told = {
        (method.upper(), re.sub(r"\{[^}]*\}", "x", path)): {each["name"] for each in operation.get("parameters", [])}
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    for name, sent in vars(Surface).items():
        if isinstance(sent, Sent) and name != "test_thing":
            call = told_by(name, sent, document)
            unknown = set(call.query) - told[call.method, call.path]
            assert not unknown, f"{name}: {unknown}"


def test_answers_are_the_structs_that_the_document_names():
    document = openapi_document()
    call = calls.get_job("x")
    answer = document["paths"]["/api/v1/jobs/{job_id}"]["get"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"]["$ref"].endswith(f"/{call.answer.__name__}")
