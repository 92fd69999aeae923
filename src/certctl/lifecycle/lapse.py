"""lapse: what waits has an end. A job that waited too long for people, or for the agent that makes its key, has failed;
an edit of a profile that nobody decided about is void.

Its approval reads expired for good, people are told, and certctl itself asks for the same again a day later at the
earliest. Waiting never turns into issuing; each job ends in a transaction of its own, so a crash leaves it waiting or
ended, with all that belongs to it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from certctl.core.approval import Approval
from certctl.core.errors import Conflict
from certctl.core.events import Event, EventType, Notice
from certctl.core.job import Job
from certctl.core.status import ApprovalState, JobStatus, StepKind, StepStatus
from certctl.ledger import append, notify
from certctl.lifecycle import settle
from certctl.lifecycle.context import Context
from certctl.store import approvals, certificates, jobs, waiting
from certctl.store.tx import Tx
from certctl.telemetry import metrics

_AT_ONCE = 100


async def tick(ctx: Context) -> int:
    """End what has waited too long; returns how many jobs and edits."""
    now, patience = ctx.now(), ctx.patience
    async with ctx.database.read() as tx:
        undecided = await waiting.for_people(tx, ctx.scope, now - patience.awaiting_approval, _AT_ONCE)
        edits = await waiting.edits(tx, ctx.scope, now - patience.awaiting_approval, _AT_ONCE)
        unmade = await waiting.for_csr(tx, ctx.scope, now - patience.awaiting_csr, _AT_ONCE)
    ended = 0
    for job_id in undecided:
        ended += await _end_undecided(ctx, job_id)
    for edit in edits:
        ended += await _end_edit(ctx, edit)
    for job_id in unmade:
        ended += await _end_unmade(ctx, job_id)
    return ended


async def _end_undecided(ctx: Context, job_id: str) -> bool:
    async with ctx.database.begin("lapse.approval") as tx:
        job = await _still(tx, ctx, job_id, JobStatus.AWAITING_APPROVAL)
        if job is None:
            return False
        waited = ctx.patience.awaiting_approval
        message = f"nobody decided within {_words(waited)} (CERTCTL_JOB_AWAITING_APPROVAL_TIMEOUT)"
        approval = await approvals.of_job(tx, ctx.scope, job_id)
        if approval is not None:
            note = "nobody decided in time"
            expired = ApprovalState.EXPIRED
            await approvals.decide(tx, ctx.scope, approval, expired, ctx.now(), decided_by=ctx.actor.id, note=note)
            details = {"job_id": job_id, "approval_id": approval.id, "decision_hash": approval.decision_hash}
            await append(tx, ctx.scope, ctx.now(), _event(EventType.APPROVAL_EXPIRED, ctx, job, details))
        await _end(tx, ctx, job, message, "approval_timeout", "approval", at_least=settle.REJECTED_COUNTS)
        return True


async def _end_edit(ctx: Context, edit: Approval) -> bool:
    """Whoever says a word at this moment comes first: the row is as it was read, or nothing is written."""
    now, note = ctx.now(), "nobody decided in time"
    try:
        async with ctx.database.begin("lapse.edit") as tx:
            await approvals.decide(tx, ctx.scope, edit, ApprovalState.EXPIRED, now, decided_by=ctx.actor.id, note=note)
            details = {
                "approval_id": edit.id,
                "decision_hash": edit.decision_hash,
                "fields": sorted(edit.payload or {}),
            }
            about = {"subject_type": "profile", "subject_id": edit.profile_id}
            event = Event(type=EventType.APPROVAL_EXPIRED, actor=ctx.actor, details=details, **about)
            await append(tx, ctx.scope, now, event)
            waited = _words(ctx.patience.awaiting_approval)
            notice = Notice(
                type="ApprovalExpired",
                certificate_id="",
                severity="warning",
                message=f"nobody decided within {waited} about what {edit.requested_by} wants to change of profile "
                f"{edit.profile_id}: it stays as it is",
                dedup_key=f"approval/{edit.id}/expired",
            )
            await notify(tx, ctx.scope, now, notice)
    except Conflict:
        return False
    return True


async def _end_unmade(ctx: Context, job_id: str) -> bool:
    async with ctx.database.begin("lapse.csr") as tx:
        job = await _still(tx, ctx, job_id, JobStatus.AWAITING_CSR)
        if job is None:
            return False
        asked = await jobs.open_steps(tx, ctx.scope, (StepKind.PREPARE,), agent_id=job.holder_id, job_id=job_id)
        if not any(step.status == StepStatus.READY for step in asked):
            return False  # its agent has come for it meanwhile
        waited = ctx.patience.awaiting_csr
        message = f"agent {job.holder_id} made no key within {_words(waited)} (CERTCTL_JOB_AWAITING_CSR_TIMEOUT)"
        await _end(tx, ctx, job, message, "csr_timeout", "csr")
        return True


async def _still(tx: Tx, ctx: Context, job_id: str, status: JobStatus) -> Job | None:
    """The job, if it waits still, and waits on until the commit: who decides holds the certificate, too."""
    found = (await jobs.jobs_by_id(tx, ctx.scope, [job_id])).get(job_id)
    if found is None:
        return None
    await certificates.certificate(tx, ctx.scope, found.certificate_id, lock=True)
    job = (await jobs.jobs_by_id(tx, ctx.scope, [job_id]))[job_id]
    return job if job.status == status else None


async def _end(tx: Tx, ctx: Context, job: Job, message: str, code: str, awaited: str, *, at_least: int = 0) -> None:
    tx.count(ctx.scope.tenant_id, metrics.JOB_TIMED_OUT, awaited=awaited)
    details = {"job_id": job.id, "awaited": awaited, "error": message}
    await append(tx, ctx.scope, ctx.now(), _event(EventType.JOB_TIMEOUT, ctx, job, details))
    await settle.end_job(tx, ctx, job, message, code, at_least=at_least)


def _event(kind: EventType, ctx: Context, job: Job, details: dict[str, Any]) -> Event:
    about = {"subject_type": "certificate", "subject_id": job.certificate_id}
    return Event(type=kind, actor=ctx.actor, details=details, **about)


def _words(span: timedelta) -> str:
    hours, rest = divmod(span, timedelta(hours=1))
    return f"{hours} hours" if hours and not rest else str(span)
