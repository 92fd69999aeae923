"""One true-looking example a struct: its fields filled by name, each example valid under its own schema (tested).

Names and numbers hang together over the whole document: one certificate, one host, one person.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

_REFERENCE = "#/components/schemas/"
_UUID = "0198c5b2-7d1e-7c3a-9f00-2f6a1d7b9c11"
_PEM = "-----BEGIN CERTIFICATE-----\nMIIB4TCCAYegAwIBAgIUQ1Yk...\n-----END CERTIFICATE-----\n"
_CSR = "-----BEGIN CERTIFICATE REQUEST-----\nMIHyMIGZAgEAMBsxGTAX...\n-----END CERTIFICATE REQUEST-----\n"
_FINGERPRINT = "5e8f6c0a1b7d4f2ea93c5d18b0e47f6621c9a8d35b4f0e7c6a1d2938475665f0"

# what is no JSON, by its media type
_TEXTS = {
    "text/event-stream": f'id: 42\nevent: certificate_issued\ndata: {{"subject_id": "mc-{_UUID}"}}\n\n',
    "text/plain": "# TYPE certctl_certificate_total gauge\ncertctl_certificate_total 12\n",
    "application/x-ndjson": '{"action": "certificate_issued", "actor": "deploy-bot", "resource_id": "mc-1"}\n',
    "text/html": "<!doctype html><title>certctl</title>",
    "text/css": "body { margin: 2rem }",
}

# struct -> what its own `id` begins with
_PREFIXES = {
    "Agent": "ag",
    "AgentGroup": "agp",
    "Approval": "apr",
    "Batch": "bat",
    "Certificate": "mc",
    "Deployment": "dep",
    "DeploymentTarget": "t",
    "Intermediate": "ica",
    "Issuer": "iss",
    "Job": "job",
    "Key": "key",
    "NewKey": "key",
    "Owner": "o",
    "Policy": "pol",
    "Profile": "prof",
    "RenewalPolicy": "rp",
    "Role": "r",
    "Session": "ses",
    "Step": "st",
    "Target": "t",
    "Team": "team",
    "Token": "et",
    "User": "u",
    "Version": "cv",
}
_BY_NAME: dict[str, Any] = {
    "action": "approved",
    "actions": ["validate", "reload"],
    "actor_id": "anna",
    "actor_name": "anna",
    "actor_type": "APIKey",
    "actual_fingerprint": _FINGERPRINT,
    "agent_group": "web",
    "agent_id": f"ag-{_UUID}",
    "agent_name": "web-1",
    "alert_channels": {"critical": ["Email"]},
    "alert_severity_map": {"7": "critical"},
    "alert_thresholds_days": [30, 14, 7, 0],
    "algorithm": "ECDSA-P256",
    "allowed_ekus": ["serverAuth"],
    "architecture": "amd64",
    "auth_type": "api-key",
    "boot_id": "6f1c2f6e-8d4c-4a1f-9f38-7f0d6d9a2c11",
    "capabilities": ["nginx"],
    "cert_pem": _PEM,
    "certificate_id": f"mc-{_UUID}",
    "certificate_pem": _PEM,
    "certificate_profile_id": "prof-default",
    "chain_pem": _PEM,
    "code": "not_found",
    "common_name": "shop.example.com",
    "config": {"cert_path": "/etc/nginx/tls/shop.crt", "key_path": "/etc/nginx/tls/shop.key"},
    "created_by": "anna",
    "credential": "cta_...",
    "csr_pem": _CSR,
    "db": "connected",
    "description": "The shop's servers",
    "detail": "there is no certificate mc-shop",
    "email": "anna@example.com",
    "endpoint": "127.0.0.1:443",
    "environment": "production",
    "error": "",
    "error_kind": "",
    "expected_fingerprint": _FINGERPRINT,
    "fingerprint_sha256": _FINGERPRINT,
    "full_pem": _PEM + _PEM,
    "group": "root",
    "hostname": "web-1.example.com",
    "holder_id": f"ag-{_UUID}",
    "ip_address": "192.0.2.10",
    "issuer_id": "iss-local",
    "job_id": f"job-{_UUID}",
    "job_ids": [f"job-{_UUID}"],
    "key_algorithm": "ECDSA",
    "key_size": 256,
    "key_value": "cck_...",
    "kind": "deploy",
    "match_architecture": "amd64",
    "match_ip_cidr": "192.0.2.0/24",
    "match_os": "linux",
    "match_version": "",
    "message": "there is no certificate mc-shop",
    "min_size": 256,
    "mode": 416,
    "name": "shop",
    "observed_fingerprint": _FINGERPRINT,
    "os": "linux",
    "owner": "root",
    "owner_id": "o-anna",
    "parent_id": "",
    "password": "correct horse battery staple",
    "path": "/etc/nginx/tls/shop.crt",
    "pem_chain": _PEM + _PEM,
    "permission": "cert.read",
    "plan_id": f"dep-{_UUID}",
    "prefix": "cck_4f1a",
    "profile_id": "prof-default",
    "reason": "superseded",
    "renewal_policy_id": "rp-default",
    "requested_by": "anna",
    "role": "certificate",
    "role_id": "r-operator",
    "role_ids": ["r-operator"],
    "roles": ["r-operator"],
    "rule": "key_is_too_small",
    "sans": ["shop.example.com", "www.shop.example.com"],
    "scope_id": "",
    "scope_type": "global",
    "serial_number": "43562437a1d0c94f5b18e2770c6d93ab5f01",
    "server_time": "2026-03-01T12:00:00+00:00",
    "severity": "Warning",
    "sha256": _FINGERPRINT,
    "sni": "shop.example.com",
    "source": "API",
    "spki_sha256": _FINGERPRINT,
    "step_id": f"st-{_UUID}",
    "step_kind": "deploy",
    "summary": ["would replace the certificate and reload nginx"],
    "tags": {"service": "shop"},
    "target_id": f"t-{_UUID}",
    "target_ids": [f"t-{_UUID}"],
    "target_type": "nginx",
    "team_id": "team-web",
    "tenant_id": "t-default",
    "title": "There is no such thing",
    "token": "cte_...",
    "type": "nginx",
    "version": "0.1.0",
    "version_id": f"cv-{_UUID}",
}
_STATUS = {
    "Agent": "Online",
    "Certificate": "Active",
    "Deployment": "verified",
    "Health": "healthy",
    "Heartbeat": "heartbeat_recorded",
    "Job": "Completed",
    "Readiness": "ready",
    "Step": "done",
    "Version": "current",
}
_BY_STRUCT: dict[str, dict[str, Any]] = {
    # the caller holds no key here: agents of the targets make their own
    "CertificateWrite": {
        "common_name": "shop.example.com",
        "sans": ["www.shop.example.com"],
        "target_ids": [f"t-{_UUID}"],
        "tags": {"service": "shop"},
    },
    "IssuerView": {"type": "local", "config": {}, "name": "Built-in CA", "id": "iss-local"},
    "IssuerWrite": {"type": "local", "config": {}, "name": "Built-in CA"},
    "OwnerView": {"id": "o-anna", "name": "Anna"},
    "OwnerWrite": {"name": "Anna", "email": "anna@example.com", "team_id": "team-web"},
    "TeamView": {"id": "team-web", "name": "Web"},
    "TeamWrite": {"name": "Web", "description": "The shop's servers"},
    "JobView": {"type": "Issuance"},
    "ProfileWrite": {"name": "Servers", "max_ttl_seconds": 7776000, "allowed_ekus": ["serverAuth"]},
    "RenewalPolicyWrite": {"name": "A third of life", "renewal_window_fraction": 0.33, "auto_renew": True},
    "StatusReport": {"status": "Completed", "step_id": f"st-{_UUID}", "fence": 1, "receipt": {}},
    "TokenWrite": {"agent_name": "web-1", "expires_in_seconds": 3600},
    "KeyWrite": {"name": "deploy-bot", "role_ids": ["r-operator"]},
    "RoleWrite": {"name": "Reader", "description": "Reads certificates"},
    "PermissionWrite": {"permission": "cert.read", "scope_type": "team", "scope_id": "team-web"},
    "GrantWrite": {"role_id": "r-viewer", "scope_type": "team", "scope_id": "team-web"},
    "Problem": {"type": "urn:certctl:problem:not_found", "status": 404, "error": "Not Found", "violations": []},
}
# what a caller sends is shown whole and alone; a view is shown with every field
_ALONE = ("Write", "StatusReport")


def example_of(name: str, schemas: Mapping[str, Schema]) -> Any:
    """An example of the struct `name`."""
    return _struct(name, schemas, frozenset())


def example_of_schema(schema: Schema, schemas: Mapping[str, Schema], media_type: str = "application/json") -> Any:
    """An example of what a body or an answer holds; None for a file."""
    if schema.get("type") == "string" and schema.get("format") != "binary":
        return _TEXTS.get(media_type.partition(";")[0])
    if "anyOf" in schema or "$ref" in schema or "items" in schema:
        return _value(schema, schemas, frozenset())
    return None


def _struct(name: str, schemas: Mapping[str, Schema], above: frozenset[str]) -> dict[str, Any]:
    known = _BY_STRUCT.get(name, {})
    if name.endswith(_ALONE) and known:
        return dict(known)
    filled: dict[str, Any] = {}
    for field, schema in schemas[name].get("properties", {}).items():
        if schema.get("readOnly"):
            continue
        filled[field] = known[field] if field in known else _field(name, field, schema, schemas, above | {name})
    return filled


def _field(struct: str, field: str, schema: Schema, schemas: Mapping[str, Schema], above: frozenset[str]) -> Any:
    kind = _kind(struct)
    if field == "id":
        return f"{_PREFIXES.get(kind, kind.lower())}-{_UUID}"
    if field == "status" and kind in _STATUS:
        return _STATUS[kind]
    if field in _BY_NAME and _takes(schema, _BY_NAME[field]):
        return _BY_NAME[field]
    return _value(schema, schemas, above)


def _kind(struct: str) -> str:
    for end in ("View", "Write", "Answer", "State", "Page", "Report", "Reply", "Item"):
        struct = struct.removesuffix(end)
    return struct


def _takes(schema: Schema, value: Any) -> bool:
    """Whether a schema is of the value's kind; what it demands beyond that is for the tests to find."""
    kinds = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict}
    choices = schema.get("anyOf", [schema])
    if isinstance(value, list) and any("$ref" in each.get("items", {}) for each in choices):
        return all(isinstance(item, dict) for item in value)
    return any("type" in each and "format" not in each and type(value) is kinds.get(each["type"]) for each in choices)


def _value(schema: Schema, schemas: Mapping[str, Schema], above: frozenset[str]) -> Any:
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REFERENCE)
        return None if name in above else _struct(name, schemas, above)
    if "anyOf" in schema:
        return _value(_first(schema["anyOf"], above), schemas, above)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "string":
            return "2026-03-01T12:00:00Z" if schema.get("format") == "date-time" else ""
        case "integer":
            return max(1, schema.get("minimum", 1))
        case "number":
            return min(0.5, schema.get("maximum", 1.0))
        case "boolean":
            return True
        case "array":
            inner = _value(schema.get("items", {}), schemas, above)
            return [] if inner is None else [inner]
        case "object":
            return {}
    return None


def _first(choices: list[Schema], above: frozenset[str]) -> Schema:
    """The first choice that is neither null nor what is being shown already."""
    good = [
        each
        for each in choices
        if each.get("type") != "null" and each.get("$ref", "").removeprefix(_REFERENCE) not in above
    ]
    return good[0] if good else {"type": "null"}
