"""Calls that act on many certificates, decide, or reach one version: batches, approvals, rollback, files.

Pure data, like `calls`; they stand apart from it because a page holds no more.
"""

from __future__ import annotations

from certctl.client.calls import API, Call, Resource, at
from certctl.client.models import (
    acme,
    approvals,
    batches,
    certificates,
    health,
    imports,
    issuances,
    jobs,
    metrics,
    notifications,
    system,
)
from certctl.client.models.page import PageOf, StatusAnswer

BATCHES = Resource("batches", batches.BatchView)
APPROVALS = Resource("approvals", approvals.ApprovalView)
NOTIFICATIONS = Resource("notifications", notifications.NotificationView)
HEALTH_CHECKS = Resource("health-checks", health.HealthCheckView)
EXTERNAL_KEYS = Resource("acme/external-account-keys", acme.ExternalKeyView)


def bulk_renew(body: batches.BulkRenewBody) -> Call[batches.BulkRenewAnswer]:
    """Renew many; with `dry_run` only shown."""
    return Call(method="POST", path=f"{API}/certificates/bulk-renew", answer=batches.BulkRenewAnswer, body=body)


def bulk_revoke(body: batches.BulkRevokeBody) -> Call[batches.BulkRevokeAnswer]:
    """Revoke many; with `dry_run` only shown."""
    return Call(method="POST", path=f"{API}/certificates/bulk-revoke", answer=batches.BulkRevokeAnswer, body=body)


def bulk_reassign(body: batches.BulkReassignBody) -> Call[batches.BulkReassignAnswer]:
    """Give many to another owner; with `dry_run` only shown."""
    return Call(method="POST", path=f"{API}/certificates/bulk-reassign", answer=batches.BulkReassignAnswer, body=body)


def get_batch(batch_id: str, wait_seconds: float = 0) -> Call[batches.BatchView]:
    """One batch; `wait_seconds` holds the answer until it has ended."""
    query = {"wait": f"{wait_seconds:g}"} if wait_seconds else {}
    path = at("batches", batch_id)
    return Call(method="GET", path=path, answer=batches.BatchView, query=query, patience_seconds=wait_seconds)


def list_batch_items(
    batch_id: str, page: int = 1, per_page: int = 500, status: str = ""
) -> Call[PageOf[batches.BatchItemView]]:
    """What has become of each certificate of a batch."""
    query = {"page": str(page), "per_page": str(per_page)} | ({"status": status} if status else {})
    return Call(method="GET", path=at("batches", batch_id, "items"), answer=PageOf[batches.BatchItemView], query=query)


def cancel_batch(batch_id: str) -> Call[batches.BatchView]:
    """Nothing more is begun."""
    return Call(method="POST", path=at("batches", batch_id, "cancel"), answer=batches.BatchView)


def halt_batch(batch_id: str) -> Call[batches.BatchView]:
    """Nothing more is begun until it is resumed."""
    return Call(method="POST", path=at("batches", batch_id, "halt"), answer=batches.BatchView)


def resume_batch(batch_id: str, max_failures: int | None = None) -> Call[batches.BatchView]:
    """A halted batch goes on, until more than `max_failures` have failed."""
    body = batches.BatchResumeBody(max_failures=max_failures)
    return Call(method="POST", path=at("batches", batch_id, "resume"), answer=batches.BatchView, body=body)


def approve(approval_id: str, note: str = "", decision_hash: str = "") -> Call[approvals.DecisionAnswer]:
    """Say yes; `decision_hash` binds it to what was shown."""
    body = approvals.DecisionBody(note=note, decision_hash=decision_hash)
    return Call(method="POST", path=at("approvals", approval_id, "approve"), answer=approvals.DecisionAnswer, body=body)


def approve_batch(batch_id: str, note: str = "", after: str = "") -> Call[approvals.BatchDecisionAnswer]:
    """Say yes to every request of a batch that waits for people; again, `after` the answer's, while it is not over."""
    body, answer = approvals.BatchDecisionBody(note=note, after=after), approvals.BatchDecisionAnswer
    return Call(method="POST", path=at("batches", batch_id, "approve"), answer=answer, body=body)


def reject_batch(batch_id: str, note: str = "", after: str = "") -> Call[approvals.BatchDecisionAnswer]:
    """Say no to every request of a batch that waits for people; again, `after` the answer's, while it is not over."""
    body, answer = approvals.BatchDecisionBody(note=note, after=after), approvals.BatchDecisionAnswer
    return Call(method="POST", path=at("batches", batch_id, "reject"), answer=answer, body=body)


def reject(approval_id: str, note: str = "", decision_hash: str = "") -> Call[approvals.DecisionAnswer]:
    """Say no."""
    body = approvals.DecisionBody(note=note, decision_hash=decision_hash)
    return Call(method="POST", path=at("approvals", approval_id, "reject"), answer=approvals.DecisionAnswer, body=body)


def approve_job(job_id: str, note: str = "") -> Call[StatusAnswer]:
    """Say yes to a job that waits for it."""
    body = approvals.DecisionBody(note=note)
    return Call(method="POST", path=at("jobs", job_id, "approve"), answer=StatusAnswer, body=body)


def reject_job(job_id: str, reason: str = "") -> Call[StatusAnswer]:
    """Say no to a job that waits for it."""
    body = approvals.RejectBody(reason=reason)
    return Call(method="POST", path=at("jobs", job_id, "reject"), answer=StatusAnswer, body=body)


def get_verification(job_id: str) -> Call[jobs.VerificationView]:
    """What the target of a deployment was last seen to serve."""
    return Call(method="GET", path=at("jobs", job_id, "verification"), answer=jobs.VerificationView)


def get_certificate_version(certificate_id: str, version_id: str) -> Call[certificates.VersionView]:
    """One version."""
    path = at("certificates", certificate_id, "versions", version_id)
    return Call(method="GET", path=path, answer=certificates.VersionView)


def roll_back(certificate_id: str, version_id: str) -> Call[StatusAnswer]:
    """Deploy an older version again."""
    path = at("certificates", certificate_id, "versions", version_id, "rollback")
    return Call(method="POST", path=path, answer=StatusAnswer)


def export_pkcs12(certificate_id: str, body: certificates.Pkcs12Body) -> Call[bytes]:
    """A trust store in PKCS #12, without keys."""
    return Call(method="POST", path=at("certificates", certificate_id, "export", "pkcs12"), answer=bytes, body=body)


def get_metrics() -> Call[metrics.MetricsView]:
    """The fleet's figures."""
    return Call(method="GET", path=f"{API}/metrics", answer=metrics.MetricsView)


def get_prometheus() -> Call[bytes]:
    """The same as Prometheus reads them."""
    return Call(method="GET", path=f"{API}/metrics/prometheus", answer=bytes)


def get_health() -> Call[system.Health]:
    """Whether the process answers."""
    return Call(method="GET", path="/health", answer=system.Health)


def import_certificates(body: imports.ImportBody) -> Call[imports.ImportAnswer]:
    """Take certificates from elsewhere into the inventory."""
    return Call(method="POST", path=f"{API}/certificates/import", answer=imports.ImportAnswer, body=body)


def bulk_issue(body: issuances.BulkIssueBody) -> Call[issuances.BulkIssueAnswer]:
    """Issue a certificate for each of many CSRs."""
    path = f"{API}/certificates/bulk-issue"
    return Call(method="POST", path=path, answer=issuances.BulkIssueAnswer, body=body, patience_seconds=30)


def claim_certificate(certificate_id: str, body: imports.ClaimBody) -> Call[certificates.CertificateView]:
    """Say who owns and issues an imported certificate from now on."""
    path = at("certificates", certificate_id, "claim")
    return Call(method="POST", path=path, answer=certificates.CertificateView, body=body)


def reissue_certificate(
    certificate_id: str, *, revoke_old: bool = False, reason: str = "", force: bool = False
) -> Call[StatusAnswer]:
    """New keys; `revoke_old` revokes each old version once its successor is seen served."""
    body = imports.ReissueBody(revoke_old=revoke_old, reason=reason, force=force)
    return Call(method="POST", path=at("certificates", certificate_id, "reissue"), answer=StatusAnswer, body=body)


def create_external_key(body: acme.ExternalKeyWrite) -> Call[acme.NewExternalKey]:
    """A new key of an external account for ACME; its secret is shown this once."""
    return Call(method="POST", path=f"{API}/acme/external-account-keys", answer=acme.NewExternalKey, body=body)


def mark_notification_read(notification_id: str) -> Call[StatusAnswer]:
    """Somebody has read it."""
    return Call(method="POST", path=at("notifications", notification_id, "read"), answer=StatusAnswer)


def requeue_notification(notification_id: str) -> Call[StatusAnswer]:
    """Send again what did not arrive."""
    return Call(method="POST", path=at("notifications", notification_id, "requeue"), answer=StatusAnswer)


def list_channel_kinds() -> Call[notifications.ChannelKindsAnswer]:
    """Kinds of channels, with the JSON Schema of their configuration."""
    return Call(method="GET", path=f"{API}/notification-channels/kinds", answer=notifications.ChannelKindsAnswer)


def preview_digest() -> Call[bytes]:
    """What the digest would say this moment, as a page."""
    return Call(method="GET", path=f"{API}/digest/preview", answer=bytes)


def send_digest() -> Call[StatusAnswer]:
    """Send the digest now."""
    return Call(method="POST", path=f"{API}/digest/send", answer=StatusAnswer)


def get_health_summary() -> Call[health.HealthSummary]:
    """How many endpoints read what."""
    return Call(method="GET", path=f"{API}/health-checks/summary", answer=health.HealthSummary)


def get_health_history(health_check_id: str, limit: int = 100) -> Call[list[health.HealthEntryView]]:
    """What the last looks at an endpoint found, newest first."""
    path = at("health-checks", health_check_id, "history")
    return Call(method="GET", path=path, answer=list[health.HealthEntryView], query={"limit": str(limit)})


def acknowledge_health_check(health_check_id: str) -> Call[None]:
    """Somebody knows of it; holds until the state changes."""
    path = at("health-checks", health_check_id, "acknowledge")
    return Call(method="POST", path=path, answer=type(None), body=health.AcknowledgeBody())
