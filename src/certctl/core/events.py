"""Every event name: one log in commit order feeds audit, outbox, live pages and cache invalidation.

Names are the reference product's where it has one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from certctl.core.actor import Actor


class EventType(StrEnum):
    """What happened."""

    CERTIFICATE_CREATED = "certificate_created"
    CERTIFICATE_IMPORTED = "certificate_imported"
    CERTIFICATE_CLAIMED = "certificate_claimed"
    CERTIFICATE_UPDATED = "certificate_updated"
    CERTIFICATE_ARCHIVED = "certificate_archived"
    CERTIFICATE_ISSUED = "certificate_issued"
    CERTIFICATE_REVOKED = "certificate_revoked"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_EXPIRING = "certificate_expiring"
    CERTIFICATE_EXPORTED = "certificate_exported"
    ISSUANCE_REQUESTED = "issuance_requested"
    ISSUANCE_FAILED = "issuance_job_failed"
    REISSUE_TRIGGERED = "reissue_triggered"
    REPLACEMENT_WISHED = "replacement_wished"
    RENEWAL_TRIGGERED = "renewal_triggered"
    RENEWAL_JOB_CREATED = "renewal_job_created"
    RENEWAL_SUGGESTED = "renewal_suggested"
    RENEWAL_JOB_COMPLETED = "renewal_job_completed"
    RENEWAL_JOB_FAILED = "renewal_job_failed"
    REQUEST_APPROVED = "request_approved"
    REQUEST_DENIED = "request_denied"
    APPROVAL_REQUESTED = "approval_requested"
    APPROVAL_GIVEN = "approval_given"
    APPROVAL_EXPIRED = "approval_expired"
    PROFILE_EDIT_REQUESTED = "profile_edit_requested"
    PROFILE_EDIT_APPROVED = "profile_edit_approved"
    PROFILE_EDIT_DENIED = "profile_edit_denied"
    CSR_SUBMITTED = "csr_submitted"
    CSR_REFUSED = "csr_refused"
    ORDER_INTENDED = "order_intended"
    ORDER_PLACED = "order_placed"
    ORDER_LOST = "order_lost"
    ORDERS_PAUSED = "orders_paused"
    ORDERS_RESUMED = "orders_resumed"
    ISSUER_DRY_RUN = "issuer_dry_run"
    CHALLENGES_SHOWN = "challenges_shown"
    DEPLOYMENT_CREATED = "deployment_jobs_created"
    ROLLBACK_TRIGGERED = "rollback_triggered"
    DEPLOYMENT_APPLIED = "deployment_applied"
    DEPLOYMENT_VERIFIED = "deployment_job_completed"
    DEPLOYMENT_FAILED = "deployment_job_failed"
    DEPLOYMENT_DRIFTED = "deployment_drifted"
    DEPLOYMENT_PLANNED = "deployment_planned"
    DEPLOYMENT_PLAN_FAILED = "deployment_plan_failed"
    REVOCATION_CONFIRMED = "revocation_confirmed"
    REVOCATION_FAILED = "revocation_failed"
    CRL_PUBLISHED = "crl_published"
    JOB_RETRY = "job_retry"
    JOB_CANCELLED = "job_cancelled"
    JOB_OVERDUE = "job_overdue"
    JOB_TIMEOUT = "job_timeout"
    BATCH_CREATED = "batch_created"
    BATCH_COMPLETED = "batch_completed"
    BATCH_CANCELLED = "batch_cancelled"
    BATCH_HALTED = "batch_halted"
    BATCH_RESUMED = "batch_resumed"
    AGENT_ENROLLED = "agent_registered"
    AGENT_RETIRED = "agent_retired"
    AGENT_SILENT = "agent_silent"
    AGENT_RETURNED = "agent_returned"
    ENROLMENT_TOKEN_CREATED = "enrolment_token_created"  # noqa: S105 - an event's name
    BOOTSTRAP_USED = "bootstrap_used"
    CA_CREATED = "ca_created"
    POLICY_VIOLATED = "policy_violation"
    POLICY_CURED = "policy_violation_resolved"
    POLICY_EVALUATED = "policy_evaluated"
    CA_INTENDED = "ca_intended"
    CA_RETIRING = "ca_retiring"
    CA_RETIRED = "ca_retired"
    CA_REVOKED = "ca_revoked"
    ROLE_ASSIGNED = "role_assigned"
    ROLE_REVOKED = "role_revoked"
    KEY_ROTATED = "key_rotated"
    CONFIG_KEY_ROTATED = "config_key_rotated"
    SESSION_BEGUN = "session_begun"
    SESSION_ENDED = "session_ended"
    BREAKGLASS_REFUSED = "breakglass_refused"
    CONFIG_CREATED = "config_created"
    CONFIG_UPDATED = "config_updated"
    CONFIG_DELETED = "config_deleted"
    ACME_ACCOUNT_CREATED = "acme_account_created"
    ACME_ACCOUNT_UPDATED = "acme_account_updated"
    ACME_ACCOUNT_DEACTIVATED = "acme_account_deactivated"
    ACME_ACCOUNT_KEY_ROLLED = "acme_account_key_rolled"
    ACME_ORDER_CREATED = "acme_order_created"
    ACME_ORDER_PROCESSING = "acme_order_processing"
    ACME_ORDER_FINALIZED = "acme_order_finalized"
    ACME_ORDER_FAILED = "acme_order_failed"
    ACME_CHALLENGE_PROCESSING = "acme_challenge_processing"
    ACME_CHALLENGE_COMPLETED = "acme_challenge_completed"
    ACME_AUTHORIZATION_DEACTIVATED = "acme_authorization_deactivated"
    AUDIT_EXPORTED = "audit_exported"
    AUDIT_PRUNED = "audit_pruned"
    CALL_DENIED = "call_denied"
    HEALTH_CHANGED = "health_status_changed"
    HEALTH_ACKNOWLEDGED = "health_check_acknowledged"
    DIGEST_SENT = "digest_sent"
    NOTIFICATION_DEAD = "notification_dead"
    NOTIFICATION_REQUEUED = "notification_requeued"


class Event(Struct, frozen=True, kw_only=True):
    """One thing that happened to one subject. `details` never holds a secret."""

    type: EventType
    subject_type: str
    subject_id: str
    actor: Actor
    details: dict[str, Any] = {}


class Notice(Struct, frozen=True, kw_only=True):
    """Something a person should hear of: an outbox row in the transaction of its cause.

    `incident` names what it is about (at most 140 characters); a notice that `resolves` says that it is over.
    """

    type: str
    certificate_id: str
    severity: str
    message: str
    dedup_key: str
    incident: str = ""
    resolves: bool = False
    subject: str = ""
    html: str = ""
