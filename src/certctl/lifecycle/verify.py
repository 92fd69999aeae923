"""verify: what does the target really serve? Green is written only here, from fingerprints, never from anybody's word.

pending proof -> verified, or drifted after patient re-probing. Writes an observation each time; hands on to nothing.
"""

from __future__ import annotations

from datetime import timedelta

from certctl.core.actor import Actor
from certctl.core.errors import NotAllowed, Temporary
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.job import Job, Step
from certctl.core.status import DeploymentStatus, JobStatus, StepKind, StepStatus, VersionStatus
from certctl.core.target import AgentRecord, Deployment, TargetRecord
from certctl.ledger import append
from certctl.lifecycle import settle, standing
from certctl.lifecycle.context import Context
from certctl.store import catalogue, certificates, deployments, jobs
from certctl.store.tx import Tx
from certctl.wire.agent import VerifyReport, WorkItem


async def item(tx: Tx, ctx: Context, step: Step, job: Job, lease: timedelta) -> WorkItem:
    """What an agent needs to look at its target."""
    version = await certificates.version(tx, ctx.scope, job.version_id)
    target = await catalogue.get(tx, ctx.scope, TargetRecord, job.target_id)
    return WorkItem(
        id=job.id,
        type=str(job.type),
        certificate_id=job.certificate_id,
        status=str(job.status),
        target_id=target.id,
        target_type=target.type,
        target_config=target.config,
        step_id=step.id,
        step_kind=str(step.kind),
        fence=step.fence,
        lease_seconds=lease.total_seconds(),
        attempt=step.attempts,
        version_id=version.id,
        fingerprint_sha256=version.fingerprint_sha256,
    )


async def report(ctx: Context, agent: AgentRecord, actor: Actor, job_id: str, said: VerifyReport) -> bool:
    """Take what an agent saw at a target; True when it is this version. Judged from the fingerprints alone."""
    async with ctx.database.begin("verify.report") as tx:
        step = await jobs.held_step(tx, ctx.scope, said.step_id, said.fence)
        job = (await jobs.jobs_by_id(tx, ctx.scope, [step.job_id]))[step.job_id]
        if step.agent_id != agent.id or job.id != job_id or step.kind != StepKind.VERIFY:
            raise NotAllowed("this step is not leased to this agent for verification")
        deployment = (await deployments.deployments_of_jobs(tx, ctx.scope, [job.id]))[job.id]
        version = await certificates.version(tx, ctx.scope, job.version_id)
        seen = said.actual_fingerprint.lower()[:64]
        await deployments.insert_observation(
            tx,
            ctx.scope,
            observation_id=new_id("obs"),
            deployment=deployment,
            expected=version.fingerprint_sha256,
            observed=seen,
            error=said.error[:2000],
            observed_by=agent.id,
            now=ctx.now(),
        )
        if seen == version.fingerprint_sha256:
            await _verified(tx, ctx, step, job, deployment, actor)
            return True
        why = said.error[:2000] or f"the target serves {seen or 'nothing'}, not {version.fingerprint_sha256}"
        await jobs.note_job(
            tx, ctx.scope, job.id, verification_status="failed", verification_error=why, verification_fingerprint=seen
        )
        await settle.fail(tx, ctx, step, Temporary(why), actor=actor)
        return False


async def _verified(tx: Tx, ctx: Context, step: Step, job: Job, deployment: Deployment, actor: Actor) -> None:
    now = ctx.now()
    version = await certificates.version(tx, ctx.scope, job.version_id)
    await deployments.move_deployment(
        tx,
        ctx.scope,
        deployment.id,
        DeploymentStatus.VERIFIED,
        now,
        observed_fingerprint=version.fingerprint_sha256,
        verified_at=now,
        error="",
    )
    await deployments.supersede_others(tx, ctx.scope, deployment, now)
    await jobs.end_step(tx, ctx.scope, step, StepStatus.DONE, now)
    await jobs.move_job(
        tx,
        ctx.scope,
        job.id,
        JobStatus.COMPLETED,
        now,
        verification_status="success",
        verified_at=now,
        verification_fingerprint=version.fingerprint_sha256,
        verification_error="",
        last_error="",
    )
    if version.status == VersionStatus.SUPERSEDED:
        # a rollback that is served: the older version is what this holder has now, and what renewal must look at
        await certificates.make_current(tx, ctx.scope, version)
    await certificates.change_certificate(tx, ctx.scope, job.certificate_id, now, last_deployment_at=now)
    await standing.refresh(tx, ctx, job.certificate_id)
    details = {
        "job_id": job.id,
        "target_id": job.target_id,
        "version_id": version.id,
        "fingerprint_sha256": version.fingerprint_sha256,
    }
    event = Event(
        type=EventType.DEPLOYMENT_VERIFIED,
        subject_type="certificate",
        subject_id=job.certificate_id,
        actor=actor,
        details=details,
    )
    await append(tx, ctx.scope, now, event)
