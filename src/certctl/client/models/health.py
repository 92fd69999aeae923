"""Health checks of endpoints: the reference product's fields, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from msgspec import Struct

from certctl.client.models.bounds import Id, Pem, Seconds, Text


class HealthCheckView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One endpoint that is looked at every so often, and how it was seen last.

    `failure_kind` is one word for what is wrong: refused (certctl may not look there), look_failed
    (its own look broke down), unreachable, timed_out, no_tls,
    unreadable_certificate, wrong_certificate, expired, not_yet_valid, wrong_name or untrusted_chain. `trusted_by` says
    by whose roots the chain is trusted: given (`ca_pem`), certctl, system, or issuer (the CA's own, as it gave it).
    `source` is deployment for a check that follows the deployments of `target_id`.
    """

    id: str
    endpoint: str
    status: str
    source: str
    protocol: str
    expected_fingerprint: str
    observed_fingerprint: str
    consecutive_failures: int
    response_time_ms: int
    tls_version: str
    cipher_suite: str
    cert_subject: str
    cert_issuer: str
    failure_kind: str
    failure_reason: str
    degraded_threshold: int
    down_threshold: int
    check_interval_seconds: int
    enabled: bool
    acknowledged: bool
    created_at: datetime
    updated_at: datetime
    server_name: str = ""
    ca_pem: str = ""
    certificate_id: str = ""
    target_id: str = ""
    trusted_by: str = ""
    cert_expiry: datetime | None = None
    last_checked_at: datetime | None = None
    last_success_at: datetime | None = None
    last_failure_at: datetime | None = None
    last_transition_at: datetime | None = None
    next_check_at: datetime | None = None
    acknowledged_by: str = ""
    acknowledged_at: datetime | None = None
    row_version: int = 0


class HealthCheckWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may say of a check; what is absent on an update stays.

    `server_name` is what is asked for (SNI) and judged, the endpoint's host if empty. `ca_pem` replaces the roots that
    are trusted otherwise. With a `certificate_id` and no `expected_fingerprint` whatever is current of that certificate
    is expected, renewals too. What a deployment says of a check that follows it cannot be changed (409).
    """

    read_only: ClassVar[frozenset[str]] = frozenset(
        {
            "row_version",
            "created_at",
            "updated_at",
            "status",
            "source",
            "target_id",
            "observed_fingerprint",
            "consecutive_failures",
            "response_time_ms",
            "tls_version",
            "cipher_suite",
            "cert_subject",
            "cert_issuer",
            "cert_expiry",
            "failure_kind",
            "failure_reason",
            "trusted_by",
            "last_checked_at",
            "last_success_at",
            "last_failure_at",
            "last_transition_at",
            "next_check_at",
            "acknowledged",
            "acknowledged_by",
            "acknowledged_at",
        }
    )
    cleared: ClassVar[Mapping[str, Any]] = {
        "server_name": "",
        "ca_pem": "",
        "certificate_id": "",
        "expected_fingerprint": "",
    }

    id: Id | None = None
    endpoint: Text | None = None
    server_name: Text | None = None
    protocol: Text | None = None
    ca_pem: Pem | None = None
    certificate_id: Id | None = None
    expected_fingerprint: Text | None = None
    degraded_threshold: Seconds | None = None
    down_threshold: Seconds | None = None
    check_interval_seconds: Seconds | None = None
    enabled: bool | None = None


class HealthEntryView(Struct, frozen=True, kw_only=True):
    """A run of looks that found the same, from `checked_at` to `last_checked_at`; the time is that of its last look."""

    id: str
    health_check_id: str
    status: str
    response_time_ms: int
    fingerprint: str
    failure_kind: str
    failure_reason: str
    looks: int
    checked_at: datetime
    last_checked_at: datetime


class HealthSummary(Struct, frozen=True, kw_only=True):
    """How many checks read what; one that is switched off counts as disabled."""

    healthy: int
    degraded: int
    down: int
    cert_mismatch: int
    unknown: int
    disabled: int
    total: int


class AcknowledgeBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Nothing needs to be said: who acknowledges is who calls. `actor`, which the reference product's clients send, is
    kept in the audit log as what was said, and believed by nobody.
    """

    actor: Text = ""
