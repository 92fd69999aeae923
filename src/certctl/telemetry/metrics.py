"""Every metric certctl exposes, declared once: name, type, labels, meaning, and where its truth is.

Names and labels are the reference product's where it has one. `fleet` metrics are counted in the database, so every
replica tells the same and a restart loses nothing; `process` metrics are one process's own and are told on its own
port. docs/reference/metrics.md is generated from here, and a guard checks that each is really emitted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct


class Kind(StrEnum):
    """How Prometheus reads it."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Place(StrEnum):
    """Whose truth it is."""

    FLEET = "fleet"
    PROCESS = "process"


class Metric(Struct, frozen=True, kw_only=True):
    """One metric. `buckets` are a histogram's upper bounds, in the unit that the name says."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    place: Place = Place.FLEET


def _gauge(name: str, text: str, *labels: str, place: Place = Place.FLEET) -> Metric:
    return Metric(name=name, kind=Kind.GAUGE, help=text, labels=labels, place=place)


def _counter(name: str, text: str, *labels: str, place: Place = Place.FLEET) -> Metric:
    return Metric(name=name, kind=Kind.COUNTER, help=text, labels=labels, place=place)


CERTIFICATE_TOTAL = _gauge("certctl_certificate_total", "managed certificates, archived ones left out")
CERTIFICATE_ACTIVE = _gauge("certctl_certificate_active", "certificates that read Active")
CERTIFICATE_EXPIRING_SOON = _gauge(
    "certctl_certificate_expiring_soon",
    "certificates whose notAfter lies within the next 30 days; revoked and archived ones left out",
)
CERTIFICATE_EXPIRED = _gauge(
    "certctl_certificate_expired", "certificates whose notAfter has passed; revoked and archived ones left out"
)
CERTIFICATE_REVOKED = _gauge("certctl_certificate_revoked", "certificates that read Revoked")
CERTIFICATE_UNRENEWABLE = _gauge(
    "certctl_certificate_expires_before_renewal",
    "certificates near their end with no renewal under way, or failed with no try left before it",
)
CERTIFICATE_NEXT_EXPIRY = _gauge(
    "certctl_certificate_next_expiry_timestamp_seconds",
    "unix time of the next notAfter among an issuer's live certificates",
    "issuer_id",
)
AGENT_TOTAL = _gauge("certctl_agent_total", "agents, retired ones left out")
AGENT_ONLINE = _gauge("certctl_agent_online", "agents with a heartbeat within 5 minutes, retired ones left out")
JOB_PENDING = _gauge("certctl_job_pending", "jobs that have not ended")
JOB_STUCK = _gauge(
    "certctl_job_stuck", "jobs that have not ended an hour after they were due, waiting for people left out"
)
STEP_READY = _gauge("certctl_step_ready", "steps that are due and wait for a worker or an agent", "kind")
STEP_OLDEST = _gauge("certctl_step_oldest_ready_seconds", "how long the oldest due step has waited", "kind")
TICK_LAG = _gauge("certctl_tick_lag_seconds", "how long a scheduler tick is overdue", "tick")
CRL_NEXT_UPDATE = _gauge(
    "certctl_crl_next_update_timestamp_seconds", "unix time of nextUpdate of a CA generation's newest CRL", "ca_id"
)
CA_NOT_AFTER = _gauge(
    "certctl_ca_not_after_timestamp_seconds", "unix time of notAfter of a CA generation in use", "ca_id", "issuer_id"
)
JOB_COMPLETED = _counter("certctl_job_completed_total", "jobs that ended well; a retry is no end")
JOB_FAILED = _counter("certctl_job_failed_total", "jobs that ended in failure; a retry is no end")
JOB_TIMED_OUT = _counter(
    "certctl_job_timed_out_total", "jobs that failed because they waited too long, for `approval` or a `csr`", "awaited"
)
AUDIT_VERIFY_TOTAL = _counter("certctl_audit_chain_verify_total", "verifications of the audit seal that came to an end")
AUDIT_BREAK_TOTAL = _counter("certctl_audit_chain_break_detected_total", "breaks of the audit seal that were found")
AUDIT_ROWS = _gauge("certctl_audit_chain_rows", "audit events under the seal")
AUDIT_VERIFIED_AT = _gauge(
    "certctl_audit_chain_last_verified_at", "when the audit seal was last verified and held, Unix time; 0: never yet"
)
AUDIT_BROKEN = _gauge(
    "certctl_audit_seal_broken", "1 while the last finding is that the audit log is not what was sealed"
)
AUDIT_PUSH_WAITING = _gauge(
    "certctl_audit_push_waiting_events",
    "audit events that a receiver off the box does not have yet; at most 100,000 are counted",
    "receiver",
)
AUDIT_PUSH_BEHIND = _gauge(
    "certctl_audit_push_behind_seconds",
    "age of the oldest audit event that a receiver off the box does not have; 0: it has all",
    "receiver",
)
NOTIFICATION_DEAD = _counter("certctl_notification_dead_total", "notifications given up for good")
NOTIFICATION_OLDEST = _gauge(
    "certctl_notification_oldest_pending_seconds", "how long the oldest notification that was not sent yet has waited"
)
HEALTH_CHECKS = _gauge(
    "certctl_health_check", "endpoints that are looked at, by what they read (disabled: switched off)", "status"
)
HEALTH_LOOKS = _counter(
    "certctl_health_check_looks_total", "looks at endpoints, by what was wrong there (ok: nothing)", "result"
)
HEALTH_OLDEST = _gauge("certctl_health_check_overdue_seconds", "how long the look that is longest due has waited")
EXPIRY_ALERTS = _counter(
    "certctl_expiry_alerts_total",
    "alerts of certificates that end, sent (success) or not (failure), by kind of channel and days before the end",
    "channel",
    "threshold",
    "result",
)
CA_ORDERS_LOST = _counter(
    "certctl_ca_orders_lost_total",
    "new orders asked of other CAs of which nobody knows whether they were placed; left to expire there",
)
CA_PAUSES = _gauge("certctl_ca_pauses", "sets of names for which no order is asked of a CA until somebody resumes them")
ISSUANCE = _counter(
    "certctl_issuance_total", "answers asked of a CA, recorded (success) or not (failure)", "issuer_type", "outcome"
)
ISSUANCE_FAILURES = _counter(
    "certctl_issuance_failures_total", "asks of a CA that failed, retries included", "issuer_type", "error_class"
)
ISSUANCE_SECONDS = Metric(
    name="certctl_issuance_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="from the stored intent to the CA's answer",
    labels=("issuer_type",),
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
DEPLOY_ATTEMPTS = _counter(
    "certctl_deploy_attempts_total", "deployments applied (success) or not (failure)", "target_type", "result"
)
DEPLOY_UNVERIFIED = _counter(
    "certctl_deploy_post_verify_failures_total",
    "looks at a target that did not show what was deployed",
    "target_type",
)
OCSP = _counter("certctl_ocsp_counter_total", "what the OCSP responder was asked and did", "label")
ACME_AUTHZ_READ = _counter("certctl_acme_authz_read_total", "ACME server: authz read requests")
ACME_CERT_DOWNLOAD_FAILURES = _counter(
    "certctl_acme_cert_download_failures_total", "ACME server: failed cert download requests"
)
ACME_CERT_DOWNLOAD = _counter("certctl_acme_cert_download_total", "ACME server: cert download requests")
ACME_CHALLENGE_RESPOND_FAILURES = _counter(
    "certctl_acme_challenge_respond_failures_total", "ACME server: failed challenge respond requests"
)
ACME_CHALLENGE_RESPOND = _counter("certctl_acme_challenge_respond_total", "ACME server: challenge respond requests")
ACME_CHALLENGE_VALIDATE_INVALID = _counter(
    "certctl_acme_challenge_validate_invalid_total", "ACME server: validations that failed"
)
ACME_CHALLENGE_VALIDATE_VALID = _counter(
    "certctl_acme_challenge_validate_valid_total", "ACME server: validations that succeeded"
)
ACME_DEACTIVATE_ACCOUNT = _counter("certctl_acme_deactivate_account_total", "ACME server: deactivate account requests")
ACME_DIRECTORY_FAILURES = _counter("certctl_acme_directory_failures_total", "ACME server: failed directory requests")
ACME_DIRECTORY = _counter("certctl_acme_directory_total", "ACME server: directory requests")
ACME_FINALIZE_ORDER_FAILURES = _counter(
    "certctl_acme_finalize_order_failures_total", "ACME server: failed finalize order requests"
)
ACME_FINALIZE_ORDER = _counter("certctl_acme_finalize_order_total", "ACME server: finalize order requests")
ACME_GC_AUTHZS_EXPIRED = _counter("certctl_acme_gc_authzs_expired_total", "ACME server: authorizations expired")
ACME_GC_NONCES_REAPED = _counter("certctl_acme_gc_nonces_reaped_total", "ACME server: expired nonces removed")
ACME_GC_ORDERS_INVALIDATED = _counter("certctl_acme_gc_orders_invalidated_total", "ACME server: orders invalidated")
ACME_GC_RUN_FAILURES = _counter("certctl_acme_gc_run_failures_total", "ACME server: failed sweeps")
ACME_GC_RUNS = _counter("certctl_acme_gc_runs_total", "ACME server: sweeps of what has lapsed")
ACME_KEY_CHANGE_FAILURES = _counter("certctl_acme_key_change_failures_total", "ACME server: failed key change requests")
ACME_KEY_CHANGE = _counter("certctl_acme_key_change_total", "ACME server: key change requests")
ACME_NEW_ACCOUNT_FAILURES = _counter(
    "certctl_acme_new_account_failures_total", "ACME server: failed new account requests"
)
ACME_NEW_ACCOUNT_IDEMPOTENT = _counter(
    "certctl_acme_new_account_idempotent_total", "ACME server: new-account calls that found an existing account"
)
ACME_NEW_ACCOUNT = _counter("certctl_acme_new_account_total", "ACME server: new account requests")
ACME_NEW_NONCE_FAILURES = _counter("certctl_acme_new_nonce_failures_total", "ACME server: failed new nonce requests")
ACME_NEW_NONCE = _counter("certctl_acme_new_nonce_total", "ACME server: new nonce requests")
ACME_NEW_ORDER_FAILURES = _counter("certctl_acme_new_order_failures_total", "ACME server: failed new order requests")
ACME_NEW_ORDER_REJECTED = _counter(
    "certctl_acme_new_order_rejected_total", "ACME server: orders refused by profile, policy or external account"
)
ACME_NEW_ORDER = _counter("certctl_acme_new_order_total", "ACME server: new order requests")
ACME_RENEWAL_INFO_FAILURES = _counter(
    "certctl_acme_renewal_info_failures_total", "ACME server: failed renewal info requests"
)
ACME_RENEWAL_INFO = _counter("certctl_acme_renewal_info_total", "ACME server: renewal info requests")
ACME_REVOKE_CERT_FAILURES = _counter(
    "certctl_acme_revoke_cert_failures_total", "ACME server: failed revoke cert requests"
)
ACME_REVOKE_CERT = _counter("certctl_acme_revoke_cert_total", "ACME server: revoke cert requests")
ACME_UPDATE_ACCOUNT_FAILURES = _counter(
    "certctl_acme_update_account_failures_total", "ACME server: failed update account requests"
)
ACME_UPDATE_ACCOUNT = _counter("certctl_acme_update_account_total", "ACME server: update account requests")
UPTIME = _gauge("certctl_uptime_seconds", "since the process that answers started")
REQUEST_SECONDS = Metric(
    name="certctl_http_request_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="answers of this process, by route template",
    labels=("method", "route", "status"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    place=Place.PROCESS,
)
LOOP_LAG = _gauge(
    "certctl_event_loop_lag_seconds", "how late the event loop's last one-second timer came", place=Place.PROCESS
)
POOL_IN_USE = _gauge("certctl_database_pool_in_use", "database connections checked out", place=Place.PROCESS)
STANDBY_USABLE = _gauge(
    "certctl_read_standby_usable", "1 while this process reads from the standby, else 0", place=Place.PROCESS
)
STANDBY_BEHIND = _gauge(
    "certctl_read_standby_behind_seconds",
    "how far the standby is behind at most, as this process knows; NaN when it does not",
    place=Place.PROCESS,
)
STANDBY_READS = _counter(
    "certctl_read_standby_reads_total",
    "reads that the standby might have answered: answered, or why the primary did (not_usable, own_write, failed)",
    "outcome",
    place=Place.PROCESS,
)
POOL_SIZE = _gauge("certctl_database_pool_size", "database connections this process may open", place=Place.PROCESS)

METRICS: tuple[Metric, ...] = (
    CERTIFICATE_TOTAL,
    CERTIFICATE_ACTIVE,
    CERTIFICATE_EXPIRING_SOON,
    CERTIFICATE_EXPIRED,
    CERTIFICATE_REVOKED,
    CERTIFICATE_UNRENEWABLE,
    CERTIFICATE_NEXT_EXPIRY,
    AGENT_TOTAL,
    AGENT_ONLINE,
    JOB_PENDING,
    JOB_STUCK,
    STEP_READY,
    STEP_OLDEST,
    TICK_LAG,
    CRL_NEXT_UPDATE,
    CA_NOT_AFTER,
    JOB_COMPLETED,
    JOB_FAILED,
    JOB_TIMED_OUT,
    AUDIT_VERIFY_TOTAL,
    AUDIT_BREAK_TOTAL,
    AUDIT_ROWS,
    AUDIT_VERIFIED_AT,
    AUDIT_BROKEN,
    AUDIT_PUSH_WAITING,
    AUDIT_PUSH_BEHIND,
    NOTIFICATION_DEAD,
    NOTIFICATION_OLDEST,
    HEALTH_CHECKS,
    HEALTH_LOOKS,
    HEALTH_OLDEST,
    EXPIRY_ALERTS,
    CA_ORDERS_LOST,
    CA_PAUSES,
    ISSUANCE,
    ISSUANCE_FAILURES,
    ISSUANCE_SECONDS,
    DEPLOY_ATTEMPTS,
    DEPLOY_UNVERIFIED,
    OCSP,
    ACME_AUTHZ_READ,
    ACME_CERT_DOWNLOAD_FAILURES,
    ACME_CERT_DOWNLOAD,
    ACME_CHALLENGE_RESPOND_FAILURES,
    ACME_CHALLENGE_RESPOND,
    ACME_CHALLENGE_VALIDATE_INVALID,
    ACME_CHALLENGE_VALIDATE_VALID,
    ACME_DEACTIVATE_ACCOUNT,
    ACME_DIRECTORY_FAILURES,
    ACME_DIRECTORY,
    ACME_FINALIZE_ORDER_FAILURES,
    ACME_FINALIZE_ORDER,
    ACME_GC_AUTHZS_EXPIRED,
    ACME_GC_NONCES_REAPED,
    ACME_GC_ORDERS_INVALIDATED,
    ACME_GC_RUN_FAILURES,
    ACME_GC_RUNS,
    ACME_KEY_CHANGE_FAILURES,
    ACME_KEY_CHANGE,
    ACME_NEW_ACCOUNT_FAILURES,
    ACME_NEW_ACCOUNT_IDEMPOTENT,
    ACME_NEW_ACCOUNT,
    ACME_NEW_NONCE_FAILURES,
    ACME_NEW_NONCE,
    ACME_NEW_ORDER_FAILURES,
    ACME_NEW_ORDER_REJECTED,
    ACME_NEW_ORDER,
    ACME_RENEWAL_INFO_FAILURES,
    ACME_RENEWAL_INFO,
    ACME_REVOKE_CERT_FAILURES,
    ACME_REVOKE_CERT,
    ACME_UPDATE_ACCOUNT_FAILURES,
    ACME_UPDATE_ACCOUNT,
    UPTIME,
    REQUEST_SECONDS,
    LOOP_LAG,
    POOL_IN_USE,
    POOL_SIZE,
    STANDBY_USABLE,
    STANDBY_BEHIND,
    STANDBY_READS,
)

ERROR_CLASSES = (
    "timeout",
    "auth",
    "rate_limited",
    "validation",
    "upstream_5xx",
    "upstream_4xx",
    "network",
    "other",
)
OCSP_LABELS = (
    "request_get",
    "request_post",
    "request_success",
    "request_invalid",
    "issuer_not_found",
    "cert_not_found",
    "signing_failed",
    "nonce_echoed",
    "nonce_malformed",
)


class Series(NamedTuple):
    """One line of a counter as the database keeps it; `labels` is a JSON object with sorted names."""

    tenant_id: str
    name: str
    labels: str


def series_of(
    tenant_id: str, metric: Metric, amount: float, labels: Mapping[str, str]
) -> Iterator[tuple[Series, float]]:
    """What one increment (counter) or one observation (histogram) adds, and to which lines.

    A histogram's observation falls into one `_bucket` (the smallest `le` that holds it) and its `_sum`. Raises
    ValueError for labels other than the metric's.
    """
    if set(labels) != set(metric.labels) or metric.kind is Kind.GAUGE:
        raise ValueError(f"{metric.name} takes the labels {', '.join(metric.labels) or 'none'}, and is counted up")
    if metric.kind is Kind.COUNTER:
        yield Series(tenant_id, metric.name, _canonical(labels)), amount
        return
    bound = next((str(bucket) for bucket in metric.buckets if amount <= bucket), "+Inf")
    yield Series(tenant_id, f"{metric.name}_bucket", _canonical({**labels, "le": bound})), 1
    yield Series(tenant_id, f"{metric.name}_sum", _canonical(labels)), amount


def _canonical(labels: Mapping[str, str]) -> str:
    return json.dumps(dict(labels), sort_keys=True, separators=(",", ":"))
