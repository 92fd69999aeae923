"""The list of health checks, as data."""

from __future__ import annotations

import sqlalchemy as sa

from certctl.core.health import CheckSource, HealthCheck, HealthStatus
from certctl.core.scope import Scope
from certctl.store import catalogue, names, schema
from certctl.store.listings import Q_CERTIFICATES
from certctl.store.lists import Listing, after, before, begins_with, equals, flag, one_of

_C = schema.health_checks.c
_prefix = begins_with(_C.endpoint, _C.server_name)


def _in_scope(scope: Scope) -> sa.ColumnElement[bool]:
    return catalogue.in_scope(HealthCheck, scope)


def _found(scope: Scope, q: str) -> sa.ColumnElement[bool]:
    return sa.or_(_C.id == q, _prefix(scope, q), _C.certificate_id.in_(names.found_by(scope, q)))


HEALTH_CHECKS: Listing[HealthCheck] = Listing(
    name="health-checks",
    kind=HealthCheck,
    table=schema.health_checks,
    in_scope=_in_scope,
    filters={
        "status": one_of(_C.status, HealthStatus),
        "enabled": flag(_C.enabled),
        "acknowledged": flag(_C.acknowledged),
        "certificate_id": equals(_C.certificate_id),
        "target_id": equals(_C.follows, "the target whose deployments it follows"),
        "source": one_of(_C.source, CheckSource),
        "failure_kind": equals(_C.failure_kind),
        "checked_before": before(_C.last_checked_at),
        "checked_after": after(_C.last_checked_at),
    },
    sorts={
        "endpoint": _C.endpoint,
        "status": _C.status,
        "createdAt": _C.created_at,
        "lastCheckedAt": _C.last_checked_at,
        "lastTransitionAt": _C.last_transition_at,
        "certExpiry": _C.cert_expiry,
    },
    default="endpoint",
    blank={"ca_pem": ""},
    q=_found,
    q_description=f"what an endpoint or server name begins with, a check's id, or of its certificate: {Q_CERTIFICATES}",
)
