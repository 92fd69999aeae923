"""The document is valid OpenAPI 3.1 and whole: names, words, examples and refusals for every route."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from certctl.api.app import openapi_document
from certctl.api.document import page
from certctl.client.models.problem import Problem
from certctl.core.permissions import PERMISSIONS
from certctl.doors.body import MERGE_PATCH
from certctl.doors.cookies import CSRF_HEADER, SESSION_COOKIE
from certctl.doors.errors import STATUSES

DOCUMENT = openapi_document()
OPERATIONS = [(path, method, told) for path, item in DOCUMENT["paths"].items() for method, told in item.items()]
REGISTRY = Registry().with_resource("urn:api", DRAFT202012.create_resource(DOCUMENT)).crawl()


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    told = json.loads(json.dumps(schema).replace('"#/components', '"urn:api#/components'))
    return Draft202012Validator(told, registry=REGISTRY)


def faults_of(schema: dict[str, Any], example: Any) -> list[str]:
    return [fault.message for fault in validator(schema).iter_errors(example)]


def test_it_is_valid_openapi_3_1():
    assert DOCUMENT["openapi"].startswith("3.1")
    assert not list(OpenAPIV31SpecValidator(json.loads(json.dumps(DOCUMENT))).iter_errors())


def test_operation_ids_are_unique_and_readable():
    ids = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert not {each for each in ids if ids.count(each) > 1}, "handlers of one name: rename one, clients call it so"
    assert not [each for each in ids if not re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", each)]


def test_it_says_what_it_does_and_who_may():
    for path, _method, operation in OPERATIONS:
        assert 5 < len(operation["summary"]) < 140 and operation["description"], path
        assert len(operation["tags"]) == 1
        asked = operation["x-permission"]
        assert asked in PERMISSIONS | {"public", "authenticated"}
        assert (operation.get("security") == []) == (asked == "public")


def test_it_says_how_a_caller_is_known():
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert schemes["session"] == schemes["session"] | {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE}
    assert schemes["csrf"]["in"] == "header" and schemes["csrf"]["name"].lower() == CSRF_HEADER
    for path, method, operation in OPERATIONS:
        if operation["x-permission"] == "public":
            continue
        known = [sorted(each) for each in operation.get("security", DOCUMENT["security"])]
        if operation["tags"] == ["agent protocol"]:
            assert known == [["bearer"]], path
        else:
            assert known == [["bearer"], ["session"] if method == "get" else ["csrf", "session"]], path


def test_every_patch_is_a_merge_patch():
    for path, method, operation in OPERATIONS:
        told = set(operation.get("requestBody", {}).get("content", {}))
        assert (MERGE_PATCH in told) == (method == "patch"), path
        assert "application/json" in told or not told, path


def test_every_body_and_answer_has_an_example():
    """But files; what has neither a body nor an answer has nothing to show."""
    for path, _method, operation in OPERATIONS:
        for told in (operation.get("requestBody", {}), *operation["responses"].values()):
            for media_type, content in told.get("content", {}).items():
                if content["schema"].get("format") != "binary":
                    assert "example" in content, (path, media_type)


def test_every_parameter_is_described():
    for path, _method, operation in OPERATIONS:
        for parameter in operation.get("parameters", []):
            assert parameter["description"], f"{parameter['name']}: give it a QueryParameter(description=...)"
            assert parameter["schema"], parameter
            Draft202012Validator.check_schema(parameter["schema"])
        named = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path))


def test_refusals_are_told():
    for path, method, operation in OPERATIONS:
        told = set(operation["responses"])
        assert {"429", "500"} <= told
        if operation["x-permission"] != "public":
            assert {"401", "403", "503"} <= told
        if "{" in path:
            assert "404" in told
        if operation.get("parameters") or "requestBody" in operation:
            assert "400" in told
        if "requestBody" in operation:
            assert {"413", "415"} <= told
        if method in {"post", "put", "patch"}:
            assert {"409", "422"} <= told


def test_examples_of_bodies_and_answers_are_valid():
    for _path, _method, operation in OPERATIONS:
        for name, told in [("body", operation.get("requestBody", {})), *operation["responses"].items()]:
            for content in told.get("content", {}).values():
                if content["schema"].get("type") == "string":
                    continue  # a file
                faults = [fault.message for fault in validator(content["schema"]).iter_errors(content["example"])]
                assert not faults, f"{name}: {faults}"


def test_every_struct_has_an_example_that_it_takes():
    for name, schema in DOCUMENT["components"]["schemas"].items():
        if schema.get("type") == "object":
            (example,) = schema["examples"]
            assert not faults_of(schema, example), name
            assert example or not schema.get("properties"), name


def test_an_example_that_is_wrong_would_be_found():
    broken = DOCUMENT["components"]["schemas"]["TeamWrite"]
    assert len(faults_of(broken, {"name": 5, "colour": "red"})) == 2


def test_every_refusal_is_a_problem_document_of_its_own_status():
    responses = DOCUMENT["components"]["responses"]
    assert {401, 403, 404, 409, 413, 415, 422, 429} <= {status for status, _ in STATUSES.values()}
    for answer in responses.values():
        content = answer["content"]["application/problem+json"]
        assert msgspec.convert(content["example"], Problem).status in {status for status, _ in STATUSES.values()}
        assert not faults_of(content["schema"], content["example"])


def test_what_only_the_server_writes_is_told_as_such():
    fields = DOCUMENT["components"]["schemas"]["CertificateWrite"]
    assert fields["additionalProperties"] is False
    assert fields["properties"]["expires_at"]["readOnly"]


def test_the_page_shows_every_route_and_schema():
    shown = page.render(DOCUMENT)
    for _, _, operation in OPERATIONS:
        assert f'id="{operation["operationId"]}"' in shown
    for name in DOCUMENT["components"]["schemas"]:
        assert f'id="schema-{name}"' in shown


def test_the_page_escapes_what_it_shows():
    evil = '<img src=x onerror="alert(1)">'
    document = json.loads(json.dumps(DOCUMENT))
    document["info"]["title"] = document["info"]["version"] = document["info"]["description"] = evil
    operation = document["paths"]["/api/v1/teams"]["post"]
    operation["summary"] = operation["description"] = operation["x-permission"] = evil
    document["paths"][f"/api/v1/{evil}"] = {"get": operation}
    assert "<img" not in page.render(document)
