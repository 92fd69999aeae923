"""What waits for somebody: jobs for people who decide or for the agent that makes the key, edits for people."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from certctl.core.approval import PROFILE_EDIT, Approval
from certctl.core.scope import Scope
from certctl.core.status import ApprovalState, JobStatus, StepKind, StepStatus
from certctl.store.schema import approvals, jobs, steps
from certctl.store.tx import Tx


async def for_people(tx: Tx, scope: Scope, before: datetime, limit: int) -> list[str]:
    """Jobs that have waited for a decision since `before`, oldest first."""
    about = sa.and_(approvals.c.tenant_id == jobs.c.tenant_id, approvals.c.job_id == jobs.c.id)
    # those that began to wait under a release without approvals have none
    since = sa.func.coalesce(approvals.c.created_at, jobs.c.created_at)
    statement = (
        sa.select(jobs.c.id)
        .outerjoin(approvals, about)
        .where(jobs.c.tenant_id == scope.tenant_id, jobs.c.status == JobStatus.AWAITING_APPROVAL)
        .where(since < sa.bindparam(None, before, type_=jobs.c.created_at.type))
        .order_by(since, jobs.c.id)
    )
    return [row.id for row in await tx.execute(statement.limit(limit))]


async def edits(tx: Tx, scope: Scope, before: datetime, limit: int) -> list[Approval]:
    """Edits of profiles that nobody has decided about since `before`, oldest first."""
    c = approvals.c
    undecided = (c.kind == PROFILE_EDIT, c.state == ApprovalState.PENDING, c.created_at < before)
    statement = sa.select(approvals).where(c.tenant_id == scope.tenant_id, *undecided)
    return await tx.all(Approval, statement.order_by(c.created_at, c.id).limit(limit))


async def for_csr(tx: Tx, scope: Scope, before: datetime, limit: int) -> list[str]:
    """Jobs whose key was to be made since `before` and that nobody works on at this moment, oldest first."""
    asked = sa.and_(steps.c.tenant_id == jobs.c.tenant_id, steps.c.job_id == jobs.c.id)
    statement = (
        sa.select(jobs.c.id)
        .join(steps, asked)
        .where(jobs.c.tenant_id == scope.tenant_id, jobs.c.status == JobStatus.AWAITING_CSR)
        .where(steps.c.kind == StepKind.PREPARE, steps.c.status == StepStatus.READY, steps.c.created_at < before)
        .order_by(steps.c.created_at, jobs.c.id)
    )
    return [row.id for row in await tx.execute(statement.limit(limit))]
