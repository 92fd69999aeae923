"""Endpoints that are looked at, and what the looks found."""

from __future__ import annotations

from sqlalchemy import Column, Index, String, UniqueConstraint

from certctl.core.health import CheckSource, HealthStatus, Protocol
from certctl.store.schema import columns as c

health_checks = c.table(
    "endpoint_health_checks",
    c.words("endpoint"),
    c.words("server_name"),
    c.words("protocol"),
    c.words("ca_pem"),
    c.reference("certificate_id"),
    c.words("source"),
    # the target whose deployments it follows: one check each; NULL for what people made
    Column("follows", String(140)),
    c.words("expected_fingerprint"),
    c.words("observed_fingerprint"),
    c.words("status"),
    c.words("failure_kind"),
    c.words("failure_reason"),
    c.count("consecutive_failures"),
    c.count("response_time_ms"),
    c.words("tls_version"),
    c.words("cipher_suite"),
    c.words("cert_subject"),
    c.words("cert_issuer"),
    c.time("cert_expiry"),
    c.words("trusted_by"),
    c.time("last_checked_at"),
    c.time("last_success_at"),
    c.time("last_failure_at"),
    c.time("last_transition_at"),
    c.count("degraded_threshold", 2),
    c.count("down_threshold", 5),
    c.count("check_interval_seconds", 300),
    c.flag("enabled"),
    c.flag("acknowledged"),
    c.words("acknowledged_by"),
    c.time("acknowledged_at"),
    c.reference("incident"),
    # the next look; while somebody looks, the end of their lease. NULL when switched off
    c.time("next_check_at"),
    c.words("lease_owner"),
    # the entry of the history that equal looks extend
    c.reference("run_id"),
    c.time("run_began_at"),
    c.count("row_version", 1),
    c.born(),
    c.changed(),
    UniqueConstraint("tenant_id", "follows"),
    Index(None, "tenant_id", "next_check_at"),
    Index(None, "tenant_id", "status", "endpoint"),
    Index(None, "tenant_id", "endpoint"),
    Index(None, "tenant_id", "certificate_id"),
    c.one_of("status", HealthStatus),
    c.one_of("protocol", Protocol),
    c.one_of("source", CheckSource),
)

health_history = c.table(
    "endpoint_health_history",
    c.reference("health_check_id"),
    c.words("status"),
    c.words("failure_kind"),
    c.words("failure_reason"),
    c.words("fingerprint"),
    c.count("response_time_ms"),
    c.count("looks", 1),
    c.time("checked_at", nullable=False),
    c.time("last_checked_at", nullable=False),
    Index(None, "tenant_id", "health_check_id", "checked_at"),
    Index(None, "tenant_id", "last_checked_at"),
)
