"""Jobs and their steps, with the reference product's fields."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from certctl.wire.agent import PlanReport

LIVE = frozenset({"Pending", "AwaitingCSR", "AwaitingApproval", "Running"})


class StepView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One stage of a job."""

    id: str
    kind: str
    status: str
    attempts: int
    run_at: datetime
    created_at: datetime
    agent_id: str = ""
    error_kind: str = ""
    error: str = ""
    ended_at: datetime | None = None


class JobView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One issuance, renewal, deployment or revocation. `steps` and `plan` stand in the answer for one job only.

    `trace_id` finds its trace in whatever collects them (W3C Trace Context), empty where none was begun.
    """

    id: str
    type: str
    certificate_id: str
    status: str
    attempts: int
    max_attempts: int
    scheduled_at: datetime
    created_at: datetime
    verification_status: str
    target_id: str = ""
    agent_id: str = ""
    holder_id: str = ""
    version_id: str = ""
    parent_id: str = ""
    requested_by: str = ""
    last_error: str = ""
    error_kind: str = ""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    verified_at: datetime | None = None
    verification_error: str = ""
    verification_fingerprint: str = ""
    steps: list[StepView] = []
    plan: PlanReport | None = None
    trace_id: str = ""


class VerificationView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was seen at the target of a deployment."""

    job_id: str
    target_id: str
    expected_fingerprint: str
    actual_fingerprint: str
    verified: bool
    verified_at: datetime | None
    error: str = ""
