"""How a step that failed is settled: tried again with patience, or its job ended and somebody told. The one place
for it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from certctl.core.actor import Actor
from certctl.core.certificate import Certificate
from certctl.core.errors import CertctlError, Conflict, Temporary
from certctl.core.events import Event, EventType, Notice
from certctl.core.job import Job, Step
from certctl.core.notification import incident
from certctl.core.status import DeploymentStatus, JobStatus, JobType, OrderStatus, StepKind, StepStatus
from certctl.ledger import append, notify
from certctl.lifecycle import counts, standing
from certctl.lifecycle.context import Context
from certctl.policy.retry import GiveUp, decide
from certctl.store import certificates, deployments, jobs
from certctl.store.tx import Tx
from certctl.telemetry import tracing

_FAILED_EVENT = {
    JobType.ISSUANCE: EventType.ISSUANCE_FAILED,
    JobType.RENEWAL: EventType.RENEWAL_JOB_FAILED,
    JobType.DEPLOYMENT: EventType.DEPLOYMENT_FAILED,
    JobType.REVOCATION: EventType.REVOCATION_FAILED,
    JobType.VALIDATION: EventType.DEPLOYMENT_PLAN_FAILED,
}
_ASKING = (StepKind.ISSUE, StepKind.RECORD)
_NOTICE_TYPE = {
    JobType.ISSUANCE: "RenewalFailure",
    JobType.RENEWAL: "RenewalFailure",
    JobType.DEPLOYMENT: "DeploymentFailure",
    JobType.REVOCATION: "Revocation",
}

# so many failures have spent every policy's and every first issuance's patience: the next try is a day away
REJECTED_COUNTS = 12


async def fail(tx: Tx, ctx: Context, step: Step, error: Exception, *, actor: Actor | None = None) -> None:
    """Settle a leased step that failed with `error`: retry it later, or end its job as failed."""
    code = error.code if isinstance(error, CertctlError) else "internal"
    tracing.step_failed(step.id, code)
    message = (
        error.message if isinstance(error, CertctlError) else f"unexpected {type(error).__name__}; see the server's log"
    )
    job = (await jobs.jobs_by_id(tx, ctx.scope, [step.job_id]))[step.job_id]
    now = ctx.now()
    if step.kind in _ASKING:
        await counts.ask_failed(tx, ctx, job, error)
    elif step.kind == StepKind.DEPLOY:
        await counts.deploy_ended(tx, ctx, job, "failure")
    retry_after = error.retry_after if isinstance(error, Temporary) else None
    verdict = decide(
        error_code=code,
        attempts=step.attempts,
        max_attempts=job.max_attempts,
        now=now,
        retry_after=retry_after,
        jitter_seed=step.id,
    )
    if isinstance(verdict, GiveUp):
        await jobs.end_step(tx, ctx.scope, step, StepStatus.FAILED, now, kind=code, error=message)
        await end_job(tx, ctx, job, message, code, attempts=step.attempts, actor=actor)
        return
    await jobs.retry_step(tx, ctx.scope, step, verdict.at, kind=code, error=message)
    await jobs.note_job(tx, ctx.scope, job.id, last_error=message, error_kind=code, attempts=step.attempts)
    if job.type in standing.ISSUING:
        await standing.refresh(tx, ctx, job.certificate_id)
    details = {"stage": str(step.kind), "error": message, "error_kind": code, "again_at": verdict.at.isoformat()}
    await append(tx, ctx.scope, now, _event(EventType.JOB_RETRY, job, actor or ctx.actor, details))


async def end_job(
    tx: Tx,
    ctx: Context,
    job: Job,
    message: str,
    code: str,
    *,
    attempts: int = 0,
    actor: Actor | None = None,
    at_least: int = 0,
) -> None:
    """End a job as failed, leave its certificate in a state that shows it and says when it is tried again, tell
    people. It counts as one failure more, and as `at_least` so many.
    """
    now = ctx.now()
    await jobs.cancel_steps(tx, ctx.scope, job.id, now)
    try:
        await jobs.move_job(
            tx, ctx.scope, job.id, JobStatus.FAILED, now, last_error=message, error_kind=code, attempts=attempts
        )
    except Conflict:
        return  # it ended another way while we worked: that way stands
    await append(
        tx,
        ctx.scope,
        now,
        _event(_FAILED_EVENT[JobType(job.type)], job, actor or ctx.actor, {"error": message, "error_kind": code}),
    )
    if job.type in _NOTICE_TYPE:  # a dry run that failed has hurt nobody: who asked for it reads the job
        await _tell(tx, ctx, job, message, now)
    if job.type in standing.ISSUING:
        await _give_up_order(tx, ctx, job)
        await _count_failure(tx, ctx, job, message, now, at_least=at_least)
    elif job.type == JobType.DEPLOYMENT:
        await _fail_deployment(tx, ctx, job, message, now)


async def reject_job(tx: Tx, ctx: Context, job: Job, message: str, *, actor: Actor) -> None:
    """End a job that a person rejected. Nobody is asked the same again at once: the certificate waits its longest."""
    now = ctx.now()
    await jobs.cancel_steps(tx, ctx.scope, job.id, now)
    await jobs.move_job(tx, ctx.scope, job.id, JobStatus.CANCELLED, now, last_error=message, error_kind="rejected")
    details = {"error": message, "error_kind": "rejected"}
    await append(tx, ctx.scope, now, _event(EventType.JOB_CANCELLED, job, actor, details))
    await _count_failure(tx, ctx, job, message, now, at_least=REJECTED_COUNTS)


async def _tell(tx: Tx, ctx: Context, job: Job, message: str, now: datetime) -> None:
    certificate = await certificates.certificate(tx, ctx.scope, job.certificate_id)
    notice = Notice(
        type=_NOTICE_TYPE[JobType(job.type)],
        certificate_id=job.certificate_id,
        severity="warning",
        message=f"{job.type} of {certificate.name} failed: {message}",
        dedup_key=f"job-failed/{job.id}",
        incident=_incident(job),
    )
    await notify(tx, ctx.scope, now, notice)


def _incident(job: Job) -> str:
    """What a later success of the same kind ends; of other kinds nothing does."""
    if job.type in standing.ISSUING:
        return incident("issue", job.certificate_id, job.holder_id)
    return incident("deploy", job.certificate_id, job.target_id) if job.type == JobType.DEPLOYMENT else ""


async def _give_up_order(tx: Tx, ctx: Context, job: Job) -> None:
    order = (await certificates.orders_of_jobs(tx, ctx.scope, [job.id])).get(job.id)
    if order is not None and order.status != OrderStatus.RECORDED:
        await certificates.change_order(tx, ctx.scope, order.id, OrderStatus.REJECTED)


async def _count_failure(tx: Tx, ctx: Context, job: Job, message: str, now: datetime, *, at_least: int = 0) -> None:
    certificate: Certificate = await certificates.certificate(tx, ctx.scope, job.certificate_id, lock=True)
    await certificates.change_certificate(
        tx,
        ctx.scope,
        certificate.id,
        now,
        failures=max(certificate.failures + 1, at_least),
        last_failure_at=now,
        status_reason=f"{str(job.type).lower()} failed: {message}",
    )
    await standing.refresh(tx, ctx, certificate.id)


async def _fail_deployment(tx: Tx, ctx: Context, job: Job, message: str, now: datetime) -> None:
    deployment = (await deployments.deployments_of_jobs(tx, ctx.scope, [job.id])).get(job.id)
    if deployment is None:
        return
    seen_wrong = deployment.status in {DeploymentStatus.APPLIED, DeploymentStatus.DRIFTED}
    status = DeploymentStatus.DRIFTED if seen_wrong else DeploymentStatus.FAILED
    await deployments.move_deployment(tx, ctx.scope, deployment.id, status, now, error=message)
    await jobs.note_job(tx, ctx.scope, job.id, verification_status="failed", verification_error=message)
    await standing.refresh(tx, ctx, job.certificate_id)


def _event(kind: EventType, job: Job, actor: Actor, details: dict[str, Any]) -> Event:
    return Event(
        type=kind,
        subject_type="certificate",
        subject_id=job.certificate_id,
        actor=actor,
        details={"job_id": job.id} | details,
    )
