"""Health checks of endpoints: what is looked at, what a look found, and the words for both."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct


class HealthStatus(StrEnum):
    """How an endpoint stands, by its looks and thresholds; `unknown` where nobody could look yet, or may not."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"
    CERT_MISMATCH = "cert_mismatch"


class FaultKind(StrEnum):
    """What is wrong at an endpoint, the gravest first. Of the first two nothing is known: `refused` means that certctl
    may not look there, `look_failed` that its own look broke down.
    """

    REFUSED = "refused"
    LOOK_FAILED = "look_failed"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    NO_TLS = "no_tls"
    UNREADABLE = "unreadable_certificate"
    WRONG_CERTIFICATE = "wrong_certificate"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    WRONG_NAME = "wrong_name"
    UNTRUSTED_CHAIN = "untrusted_chain"


class Protocol(StrEnum):
    """How TLS begins: at once, or by STARTTLS in one of these."""

    TLS = "tls"
    SMTP = "smtp"
    IMAP = "imap"
    POP3 = "pop3"


class CheckSource(StrEnum):
    """Who made a check."""

    MANUAL = "manual"
    DEPLOYMENT = "deployment"


class HealthCheck(Struct, frozen=True, kw_only=True):
    """One endpoint that is looked at every so often, and how it was seen last.

    `follows` is the target whose deployments this check follows; None for one that people made. `incident` names what
    is open towards channels, empty for nothing. `run_id` is the history entry that equal looks still extend.
    """

    tenant_id: str
    id: str
    endpoint: str
    server_name: str
    protocol: str
    ca_pem: str
    certificate_id: str
    source: str
    follows: str | None
    expected_fingerprint: str
    observed_fingerprint: str
    status: str
    failure_kind: str
    failure_reason: str
    consecutive_failures: int
    response_time_ms: int
    tls_version: str
    cipher_suite: str
    cert_subject: str
    cert_issuer: str
    cert_expiry: datetime | None
    trusted_by: str
    last_checked_at: datetime | None
    last_success_at: datetime | None
    last_failure_at: datetime | None
    last_transition_at: datetime | None
    degraded_threshold: int
    down_threshold: int
    check_interval_seconds: int
    enabled: bool
    acknowledged: bool
    acknowledged_by: str
    acknowledged_at: datetime | None
    incident: str
    next_check_at: datetime | None
    lease_owner: str
    run_id: str
    run_began_at: datetime | None
    created_at: datetime
    updated_at: datetime
    row_version: int = 1


class HealthEntry(Struct, frozen=True, kw_only=True):
    """A run of looks that found the same, from `checked_at` to `last_checked_at`; `response_time_ms` is the last's."""

    tenant_id: str
    id: str
    health_check_id: str
    status: str
    failure_kind: str
    failure_reason: str
    fingerprint: str
    response_time_ms: int
    looks: int
    checked_at: datetime
    last_checked_at: datetime


class HealthCounts(Struct, frozen=True, kw_only=True):
    """How many checks read what; one that is switched off counts as `disabled`, whatever it read last."""

    healthy: int = 0
    degraded: int = 0
    down: int = 0
    cert_mismatch: int = 0
    unknown: int = 0
    disabled: int = 0
    total: int = 0
