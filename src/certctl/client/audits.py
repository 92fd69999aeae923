"""Calls on the audit log and its seal. Pure data, like `calls`."""

from __future__ import annotations

from certctl.client.calls import API, Call, Resource, at
from certctl.client.models import audit

AUDIT = Resource("audit", audit.AuditEventView)


def get_audit_proof(event_id: str) -> Call[audit.InclusionView]:
    """That an event is under the seal."""
    return Call(method="GET", path=f"{at('audit', event_id)}/proof", answer=audit.InclusionView)


def get_audit_consistency(first: int, second: int = 0) -> Call[audit.ConsistencyView]:
    """That the log of `second` events (0: all) begins with that of `first`."""
    query = {"first": str(first), "second": str(second)}
    return Call(method="GET", path=f"{API}/audit/consistency", answer=audit.ConsistencyView, query=query)


def get_audit_seal() -> Call[audit.SealView]:
    """How the seal stands."""
    return Call(method="GET", path=f"{API}/audit/seal", answer=audit.SealView)


def get_audit_push() -> Call[audit.AuditPushView]:
    """How the push to receivers off the box stands."""
    return Call(method="GET", path=f"{API}/audit/push", answer=audit.AuditPushView)


def verify_audit_seal() -> Call[audit.SealVerification]:
    """Hold the whole log against its seal, now: seconds for a million events."""
    path = f"{API}/audit/verify"
    return Call(method="POST", path=path, answer=audit.SealVerification, patience_seconds=600)


def export_audit(
    since: str = "", until: str = "", category: str = "", limit: int = 0, *, seal: bool = False
) -> Call[bytes]:
    """NDJSON, as long as the log: sent with `lines`, not with `send`. Times are RFC 3339; "" is without an end."""
    asked = {
        "from": since,
        "to": until,
        "category": category,
        "limit": str(limit or ""),
        "seal": "true" if seal else "",
    }
    query = {name: value for name, value in asked.items() if value}
    return Call(method="GET", path=f"{API}/audit/export", answer=bytes, query=query)
