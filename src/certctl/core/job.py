"""Jobs are what operators see, steps are what workers lease: one row a stage, with lease and fence."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from certctl.core.status import JobStatus, JobType, StepKind, StepStatus


class Job(Struct, frozen=True, kw_only=True):
    """One issuance, renewal, deployment or revocation, with the reference product's fields."""

    tenant_id: str
    id: str
    type: JobType
    certificate_id: str
    holder_id: str
    version_id: str
    target_id: str
    agent_id: str
    parent_id: str
    status: JobStatus
    attempts: int
    max_attempts: int
    last_error: str
    error_kind: str
    idempotency_key: str
    body: dict[str, Any]
    requested_by: str
    scheduled_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    verification_status: str
    verified_at: datetime | None
    verification_error: str
    verification_fingerprint: str
    created_at: datetime
    # W3C Trace Context of what asked for it; empty where nothing is traced
    traceparent: str = ""

    @property
    def trace_id(self) -> str:
        """Of the trace that it belongs to, 32 hex digits; empty when it has none (W3C Trace Context 3.2.2.3)."""
        return self.traceparent[3:35]


class Step(Struct, frozen=True, kw_only=True):
    """One stage of a job. `fence` grows with every lease; a result under an old fence is refused."""

    tenant_id: str
    id: str
    job_id: str
    kind: StepKind
    status: StepStatus
    agent_id: str
    run_at: datetime
    attempts: int
    lease_owner: str
    lease_until: datetime | None
    fence: int
    error_kind: str
    error: str
    created_at: datetime
    ended_at: datetime | None
