"""Hands a version on to the targets of its certificate: writes the jobs of deployments and dry runs, and their first
steps. Acts on nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime

from msgspec import Struct

from certctl.core.actor import Actor
from certctl.core.certificate import Certificate, Version, VersionFacts
from certctl.core.errors import Conflict
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.job import Job
from certctl.core.status import DeploymentStatus, JobStatus, JobType, StepKind
from certctl.core.target import Deployment, TargetRecord
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.lifecycle.handoff import new_job
from certctl.store import deployments, jobs, many_jobs, standings
from certctl.store.tx import Tx
from certctl.telemetry import tracing

_DEPLOY_ATTEMPTS = 12
_PLAN_ATTEMPTS = 3


class ToDeploy(Struct, frozen=True, kw_only=True):
    """One version that goes to these targets of its certificate; with the trace of `traceparent`, or else with the one
    that is open here.
    """

    certificate: Certificate
    version: VersionFacts
    targets: Sequence[TargetRecord]
    parent_id: str = ""
    attempt: str = ""
    traceparent: str = ""


async def deploy_to(
    tx: Tx,
    ctx: Context,
    certificate: Certificate,
    version: VersionFacts,
    targets: Sequence[TargetRecord],
    *,
    actor: Actor,
    parent_id: str = "",
    attempt: str = "",
    traceparent: str = "",
) -> list[Job]:
    """Write one deployment job a target, each bound to this version, and its deploy step for the target's agent."""
    one = ToDeploy(
        certificate=certificate,
        version=version,
        targets=targets,
        parent_id=parent_id,
        attempt=attempt,
        traceparent=traceparent,
    )
    return await deploy_all(tx, ctx, [one], actor=actor)


async def deploy_all(tx: Tx, ctx: Context, wanted: Sequence[ToDeploy], *, actor: Actor) -> list[Job]:
    """`deploy_to` for many certificates, each kind of row by one statement; the jobs that stand, in order."""
    now = ctx.now()
    pairs = [(one, target) for one in wanted for target in one.targets]
    if not pairs:
        return []
    await _stop_older_deployments(tx, ctx, {(one.certificate.id, target.id) for one, target in pairs})
    made = [_deployment_job(ctx, now, one, target, actor) for one, target in pairs]
    keys = [f"deploy/{job.certificate_id}/{job.target_id}" for job in made]
    stand = await jobs.create_jobs(tx, ctx.scope, list(zip(made, keys, strict=True)))
    written = [job for job in stand if job is not None]
    if len(written) != len(made):
        raise Conflict(jobs.UNDER_WAY)
    fresh = [job for job, stands in zip(made, written, strict=True) if stands.id == job.id]
    await deployments.insert_deployments(tx, ctx.scope, [_deployment(job, now) for job in fresh])
    await many_jobs.begin_steps(tx, ctx.scope, fresh, StepKind.DEPLOY, now)
    of_one: dict[str, list[str]] = {}
    for (one, _), job in zip(pairs, written, strict=True):
        of_one.setdefault(one.version.id, []).append(job.id)
    events = [
        Event(
            type=EventType.DEPLOYMENT_CREATED,
            subject_type="certificate",
            subject_id=one.certificate.id,
            actor=actor,
            details={"version_id": one.version.id, "jobs": of_one[one.version.id]},
        )
        for one in wanted
        if one.targets
    ]
    await append(tx, ctx.scope, now, *events)
    return written


def _deployment_job(ctx: Context, now: datetime, one: ToDeploy, target: TargetRecord, actor: Actor) -> Job:
    return new_job(
        ctx,
        now,
        type=JobType.DEPLOYMENT,
        certificate_id=one.certificate.id,
        holder_id=one.version.holder_id,
        agent_id=target.agent_id,
        version_id=one.version.id,
        target_id=target.id,
        parent_id=one.parent_id,
        idempotency_key=f"deploy/{one.version.id}/{target.id}/{one.attempt or one.parent_id}",
        body={"version_job_id": one.version.job_id},
        requested_by=actor.id,
        max_attempts=_DEPLOY_ATTEMPTS,
        traceparent=one.traceparent or tracing.traceparent(),
    )


async def plan_on(
    tx: Tx, ctx: Context, certificate: Certificate, version: Version, target: TargetRecord, actor: Actor
) -> Job:
    """Write the job of a dry run and its plan step for the target's agent; no deployment is written or stopped."""
    now = ctx.now()
    job = new_job(
        ctx,
        now,
        type=JobType.VALIDATION,
        certificate_id=certificate.id,
        holder_id=version.holder_id,
        agent_id=target.agent_id,
        version_id=version.id,
        target_id=target.id,
        idempotency_key=f"plan/{version.id}/{target.id}/{new_id('ask')}",
        body={"version_job_id": version.job_id},
        requested_by=actor.id,
        max_attempts=_PLAN_ATTEMPTS,
    )
    await jobs.create_job(tx, ctx.scope, job, live_key=None)
    await jobs.add_step(tx, ctx.scope, job.id, StepKind.PLAN, now, agent_id=target.agent_id)
    return job


async def _stop_older_deployments(tx: Tx, ctx: Context, where: AbstractSet[tuple[str, str]]) -> None:
    """A newer deployment of the same certificate to the same target replaces one that has not ended; `where`: the ids
    of both.
    """
    now, reason = ctx.now(), "replaced by a newer deployment"
    ids = sorted({certificate_id for certificate_id, _ in where})
    live = await standings.live_jobs(tx, ctx.scope, ids, (JobType.DEPLOYMENT,))
    for old in (job for certificate_id in ids for job in live[certificate_id]):
        if (old.certificate_id, old.target_id) in where:
            await jobs.cancel_steps(tx, ctx.scope, old.id, now)
            await jobs.move_job(tx, ctx.scope, old.id, JobStatus.CANCELLED, now, last_error=reason)
            found = (await deployments.deployments_of_jobs(tx, ctx.scope, [old.id])).get(old.id)
            if found is not None:
                await deployments.move_deployment(
                    tx, ctx.scope, found.id, DeploymentStatus.SUPERSEDED, now, error=reason
                )


def _deployment(job: Job, now: datetime) -> Deployment:
    return Deployment(
        tenant_id=job.tenant_id,
        id=new_id("dep"),
        certificate_id=job.certificate_id,
        version_id=job.version_id,
        target_id=job.target_id,
        agent_id=job.agent_id,
        job_id=job.id,
        status=DeploymentStatus.PENDING,
        error="",
        receipt=None,
        served_before="",
        observed_fingerprint="",
        applied_at=None,
        verified_at=None,
        created_at=now,
        updated_at=now,
    )
