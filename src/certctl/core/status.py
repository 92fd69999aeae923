"""The status machines as data: every status, and which may follow it.

Guarded updates (`WHERE status = expected`) and CHECK constraints enforce them; one test walks them. Certificate, job
statuses and job types are the reference product's words.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

StatusT = TypeVar("StatusT", bound=StrEnum)


class CertificateStatus(StrEnum):
    """What a managed certificate reads as."""

    PENDING = "Pending"
    ACTIVE = "Active"
    EXPIRING = "Expiring"
    EXPIRED = "Expired"
    RENEWAL_IN_PROGRESS = "RenewalInProgress"
    FAILED = "Failed"
    REVOKED = "Revoked"
    ARCHIVED = "Archived"


class JobType(StrEnum):
    """What a job is for."""

    ISSUANCE = "Issuance"
    RENEWAL = "Renewal"
    DEPLOYMENT = "Deployment"
    VALIDATION = "Validation"
    REVOCATION = "Revocation"


class JobStatus(StrEnum):
    """Where a job stands, for people."""

    PENDING = "Pending"
    AWAITING_CSR = "AwaitingCSR"
    AWAITING_APPROVAL = "AwaitingApproval"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class StepKind(StrEnum):
    """A stage of the lifecycle: the same word in module, step, metric, event and docs."""

    APPROVE = "approve"
    PREPARE = "prepare"
    PROVE = "prove"
    ISSUE = "issue"
    RECORD = "record"
    DEPLOY = "deploy"
    VERIFY = "verify"
    PLAN = "plan"
    REVOKE = "revoke"
    PUBLISH = "publish"


class StepStatus(StrEnum):
    """Where a step stands, for workers."""

    READY = "ready"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class VersionStatus(StrEnum):
    """What has become of one issued certificate."""

    ISSUED = "issued"
    CURRENT = "current"
    SUPERSEDED = "superseded"
    REVOKED = "revoked"


class DeploymentStatus(StrEnum):
    """What is known of one version on one target."""

    PENDING = "pending"
    APPLYING = "applying"
    APPLIED = "applied"
    VERIFIED = "verified"
    DRIFTED = "drifted"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class OrderStatus(StrEnum):
    """What is known of one intent to issue: serial and TBS stored, asked, answered."""

    INTENDED = "intended"
    PENDING = "pending"
    ANSWERED = "answered"
    RECORDED = "recorded"
    REJECTED = "rejected"


class AgentStatus(StrEnum):
    """Whether an agent is heard from."""

    ONLINE = "Online"
    OFFLINE = "Offline"
    DEGRADED = "Degraded"
    UNKNOWN = "Unknown"


class BatchAction(StrEnum):
    """What a batch does to each of its certificates."""

    REVOKE = "revoke"
    RENEW = "renew"
    REASSIGN = "reassign"


class BatchStatus(StrEnum):
    """Where a batch stands. Cancelled by a person; halted by itself, with a reason."""

    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    HALTED = "halted"


class ItemStatus(StrEnum):
    """What became of one certificate of a batch."""

    PENDING = "pending"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


class ApprovalState(StrEnum):
    """What people said of a request. Expired: the request ended before anybody decided."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"


C, J, S, V, D, R = CertificateStatus, JobStatus, StepStatus, VersionStatus, DeploymentStatus, OrderStatus

CERTIFICATE: Mapping[CertificateStatus, frozenset[CertificateStatus]] = {
    C.PENDING: frozenset({C.ACTIVE, C.FAILED, C.ARCHIVED, C.REVOKED}),
    C.ACTIVE: frozenset({C.EXPIRING, C.EXPIRED, C.RENEWAL_IN_PROGRESS, C.REVOKED, C.ARCHIVED, C.FAILED}),
    C.EXPIRING: frozenset({C.ACTIVE, C.EXPIRED, C.RENEWAL_IN_PROGRESS, C.REVOKED, C.ARCHIVED, C.FAILED}),
    C.EXPIRED: frozenset({C.ACTIVE, C.RENEWAL_IN_PROGRESS, C.REVOKED, C.ARCHIVED, C.FAILED}),
    C.RENEWAL_IN_PROGRESS: frozenset({C.ACTIVE, C.FAILED, C.EXPIRED, C.REVOKED, C.ARCHIVED, C.EXPIRING}),
    C.FAILED: frozenset({C.ACTIVE, C.EXPIRED, C.RENEWAL_IN_PROGRESS, C.REVOKED, C.ARCHIVED, C.PENDING}),
    C.REVOKED: frozenset({C.ACTIVE, C.RENEWAL_IN_PROGRESS, C.ARCHIVED}),
    C.ARCHIVED: frozenset(),
}

JOB: Mapping[JobStatus, frozenset[JobStatus]] = {
    J.PENDING: frozenset({J.AWAITING_CSR, J.AWAITING_APPROVAL, J.RUNNING, J.COMPLETED, J.FAILED, J.CANCELLED}),
    J.AWAITING_APPROVAL: frozenset({J.PENDING, J.AWAITING_CSR, J.RUNNING, J.FAILED, J.CANCELLED}),
    J.AWAITING_CSR: frozenset({J.RUNNING, J.FAILED, J.CANCELLED}),
    J.RUNNING: frozenset({J.COMPLETED, J.FAILED, J.CANCELLED, J.AWAITING_CSR}),
    J.COMPLETED: frozenset(),
    J.FAILED: frozenset(),
    J.CANCELLED: frozenset(),
}

STEP: Mapping[StepStatus, frozenset[StepStatus]] = {
    S.READY: frozenset({S.LEASED, S.CANCELLED}),
    S.LEASED: frozenset({S.READY, S.DONE, S.FAILED, S.CANCELLED}),
    S.DONE: frozenset(),
    S.FAILED: frozenset(),
    S.CANCELLED: frozenset(),
}

VERSION: Mapping[VersionStatus, frozenset[VersionStatus]] = {
    V.ISSUED: frozenset({V.CURRENT, V.SUPERSEDED, V.REVOKED}),
    V.CURRENT: frozenset({V.SUPERSEDED, V.REVOKED}),
    V.SUPERSEDED: frozenset({V.CURRENT, V.REVOKED}),
    V.REVOKED: frozenset(),
}

DEPLOYMENT: Mapping[DeploymentStatus, frozenset[DeploymentStatus]] = {
    D.PENDING: frozenset({D.APPLYING, D.FAILED, D.SUPERSEDED}),
    D.APPLYING: frozenset({D.APPLIED, D.FAILED, D.SUPERSEDED, D.PENDING}),
    D.APPLIED: frozenset({D.VERIFIED, D.DRIFTED, D.FAILED, D.SUPERSEDED}),
    D.VERIFIED: frozenset({D.DRIFTED, D.SUPERSEDED}),
    D.DRIFTED: frozenset({D.VERIFIED, D.SUPERSEDED, D.FAILED}),
    D.FAILED: frozenset({D.SUPERSEDED}),
    D.SUPERSEDED: frozenset(),
}

ORDER: Mapping[OrderStatus, frozenset[OrderStatus]] = {
    R.INTENDED: frozenset({R.PENDING, R.ANSWERED, R.REJECTED}),
    R.PENDING: frozenset({R.ANSWERED, R.REJECTED}),
    R.ANSWERED: frozenset({R.RECORDED, R.REJECTED}),
    R.RECORDED: frozenset(),
    R.REJECTED: frozenset(),
}

B, T, A = BatchStatus, ItemStatus, ApprovalState

BATCH: Mapping[BatchStatus, frozenset[BatchStatus]] = {
    B.RUNNING: frozenset({B.COMPLETED, B.CANCELLED, B.HALTED}),
    B.COMPLETED: frozenset(),
    B.CANCELLED: frozenset(),
    B.HALTED: frozenset({B.RUNNING}),
}

ITEM: Mapping[ItemStatus, frozenset[ItemStatus]] = {
    T.PENDING: frozenset({T.DONE, T.SKIPPED, T.FAILED}),
    T.DONE: frozenset(),
    T.SKIPPED: frozenset(),
    T.FAILED: frozenset(),
}

APPROVAL: Mapping[ApprovalState, frozenset[ApprovalState]] = {
    A.PENDING: frozenset({A.APPROVED, A.REJECTED, A.EXPIRED}),
    A.APPROVED: frozenset(),
    A.REJECTED: frozenset(),
    A.EXPIRED: frozenset(),
}

LIVE_JOB = frozenset({J.PENDING, J.AWAITING_CSR, J.AWAITING_APPROVAL, J.RUNNING})


def before(machine: Mapping[StatusT, frozenset[StatusT]], status: StatusT) -> tuple[str, ...]:
    """The statuses from which `status` may be reached: the WHERE of a guarded update."""
    return tuple(str(source) for source, targets in machine.items() if status in targets)
