"""Every route says who may call it; the document tells every route."""

from __future__ import annotations

import inspect

from certctl.api.agent_protocol import ROUTES
from certctl.api.app import create_rest, openapi_document
from certctl.api.asked import asked_by
from certctl.api.guard import honours_if_match
from certctl.core.permissions import AGENT_PERMISSIONS, PERMISSIONS

PUBLIC = {
    "/health",
    "/ready",
    "/api/v1/version",
    "/api/v1/auth/info",
    "/api/v1/auth/bootstrap",
    # what is in the source of the release anyway, and nothing of the installation
    "/api/v1/openapi.json",
    "/api/v1/docs",
    "/api/v1/docs/style.css",
    "/auth/login",
    "/auth/logout",
    "/auth/breakglass/login",
}
# what everybody may do to what is their own
OWN = {"/api/v1/auth/sessions", "/api/v1/auth/sessions/{session_id:str}"}

# a POST for the sake of its password, which must not stand in an address; it changes nothing
READS_BY_POST = {"/api/v1/certificates/{certificate_id:str}/export/pkcs12"}


def handlers():
    for route in create_rest(None).routes:
        for handler, _ in getattr(route, "route_handler_map", {}).values():
            yield route.path, handler


def test_default_deny_every_route_declares_its_permission():
    seen = 0
    for path, handler in handlers():
        if handler.fn.__module__.startswith("litestar") and "OPTIONS" in handler.http_methods:
            continue
        asked = asked_by(handler.opt)
        assert asked in PERMISSIONS | {"public", "signed in"}, f"{path} {handler.handler_name}"
        assert (asked == "public") == (path in PUBLIC), path
        seen += 1
    assert seen > 50


def test_every_route_is_guarded():
    for path, handler in handlers():
        assert any(guard.__name__ == "guard" for guard in handler.resolve_guards()), path


def test_what_writes_asks_for_more_than_reading():
    for path, handler in handlers():
        if {"POST", "PUT", "PATCH", "DELETE"} & set(handler.http_methods):
            asked = asked_by(handler.opt)
            if path in READS_BY_POST:
                assert asked == "cert.read"
                continue
            if path == "/api/v1/notifications/{notification_id:str}/read":
                assert asked == "notification.read", "who may read it may say so, as with the reference product"
                continue
            assert not asked.endswith(".read"), path
            assert (asked == "signed in") == (path in OWN), path


def test_agents_routes_ask_for_what_agents_have():
    for route in ROUTES:
        assert route.permission in AGENT_PERMISSIONS or route.path == "/api/v1/agents"


def test_the_document_tells_every_route():
    document = openapi_document()
    told = {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    served = {
        (path.replace(":str", ""), method)
        for path, handler in handlers()
        for method in handler.http_methods
        if method != "OPTIONS" and handler.resolve_include_in_schema()
    }
    served |= {(route.path, route.method) for route in ROUTES}
    assert served <= told
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    references = str(document).count("#/components/schemas/")
    assert references > 50


def test_every_reference_of_the_document_is_there():
    document = openapi_document()
    known = {f"#/components/{kind}/{name}" for kind, found in document["components"].items() for name in found}

    def walk(item):
        if isinstance(item, dict):
            if "$ref" in item:
                assert item["$ref"] in known, item["$ref"]
            for inner in item.values():
                walk(inner)
        elif isinstance(item, list):
            for inner in item:
                walk(inner)

    walk(document)


def test_what_reads_a_condition_says_so_and_the_other_way_round():
    """A route whose `opt` says that it judges `If-Match`, and whose handler does not, would lie."""
    for path, handler in handlers():
        if {"POST", "PUT", "PATCH", "DELETE"} & set(handler.http_methods):
            reads = "request.expected" in inspect.getsource(inspect.unwrap(handler.fn))
            assert reads == honours_if_match(handler), path


def test_every_put_has_its_patch():
    methods: dict[str, set[str]] = {}
    for path, handler in handlers():
        methods.setdefault(path, set()).update(handler.http_methods)
    assert [path for path, found in methods.items() if "PUT" in found and "PATCH" not in found] == []


# changes that take no condition: what they do is the same whatever was read before
UNCONDITIONAL = {
    ("DELETE", "/api/v1/acme/external-account-keys/{key_id:str}"): "revokes a key that is never edited; twice is once",
    ("DELETE", "/api/v1/agents/{agent_id:str}"): "retires a host for good; what hangs on it is judged at that moment",
    (
        "DELETE",
        "/api/v1/auth/breakglass/credentials/{actor_id:str}",
    ): "takes a password away; there is no record to edit",
    ("DELETE", "/api/v1/auth/keys/{key_id:str}/roles/{role_id:str}"): "takes one grant away; twice is once",
    ("DELETE", "/api/v1/auth/sessions"): "ends sessions; twice is once",
    ("DELETE", "/api/v1/auth/sessions/{session_id:str}"): "ends a session; twice is once",
    ("DELETE", "/api/v1/auth/users/{user_id:str}"): "shuts a person out; twice is once",
}


def test_every_edit_takes_a_condition_or_says_why_not():
    found = {
        (method, path)
        for path, handler in handlers()
        for method in {"PUT", "PATCH", "DELETE"} & set(handler.http_methods)
        if not honours_if_match(handler)
    }
    assert found == set(UNCONDITIONAL)
