"""Approvals: written with the job that waits, decided once, seen by whoever may see the certificate.

A row whose job waits no more (cancelled, replaced, revoked) and was never decided reads expired.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from certctl.core.approval import Approval
from certctl.core.errors import Conflict, NotFound
from certctl.core.scope import Scope
from certctl.core.status import ApprovalState, JobStatus
from certctl.store.certificates import in_scope
from certctl.store.schema import approvals, certificates, jobs
from certctl.store.tx import Tx


async def insert(tx: Tx, scope: Scope, approval: Approval) -> None:
    """Write what is to be decided, once a job."""
    del scope
    row = {name: getattr(approval, name) for name in approval.__struct_fields__}
    await tx.execute(tx.insert(approvals).values(row).on_conflict_do_nothing())


async def of_job(tx: Tx, scope: Scope, job_id: str) -> Approval | None:
    """What is to be decided about a job."""
    return await tx.one(
        Approval, sa.select(approvals).where(approvals.c.tenant_id == scope.tenant_id, approvals.c.job_id == job_id)
    )


async def decide(
    tx: Tx, scope: Scope, approval_id: str, state: ApprovalState, now: datetime, *, decided_by: str, note: str
) -> None:
    """Write a decision once; Conflict when it was made before."""
    decided = await tx.execute(
        sa.update(approvals)
        .where(
            approvals.c.tenant_id == scope.tenant_id,
            approvals.c.id == approval_id,
            approvals.c.state == ApprovalState.PENDING,
        )
        .values(state=state, decided_by=decided_by, decided_at=now, decision_note=note, updated_at=now)
    )
    if decided.rowcount != 1:
        raise Conflict("this was decided before")


async def approval(tx: Tx, scope: Scope, approval_id: str) -> Approval:
    """One approval whose certificate the scope may see; NotFound otherwise."""
    found = await tx.one(Approval, _seen(scope).where(WITH_STATE.c.id == approval_id))
    if found is None:
        raise NotFound(f"no approval {approval_id}")
    return found


def _with_state() -> sa.Subquery:
    gone = sa.and_(approvals.c.state == ApprovalState.PENDING, jobs.c.status != JobStatus.AWAITING_APPROVAL)
    state = sa.case((gone, sa.literal(str(ApprovalState.EXPIRED))), else_=approvals.c.state).label("state")
    columns = [column for column in approvals.c if column.name != "state"]
    of_it = sa.and_(jobs.c.tenant_id == approvals.c.tenant_id, jobs.c.id == approvals.c.job_id)
    return sa.select(*columns, state).join(jobs, of_it).subquery("approvals_with_state")


WITH_STATE = _with_state()


def _seen(scope: Scope) -> sa.Select[tuple[object, ...]]:
    visible = sa.select(certificates.c.id).where(in_scope(scope))
    mine = WITH_STATE.c.tenant_id == scope.tenant_id
    return sa.select(WITH_STATE).where(mine, WITH_STATE.c.certificate_id.in_(visible))
