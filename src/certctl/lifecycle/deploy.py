"""deploy: put one version on one target. The agent does it, journaled on its host; the receipt comes back here.

pending -> applying when the agent takes the step, applied when its receipt proves that the new certificate was served.
A crash half way is settled by the host's own journal, then the step is handed out again. Hands on to verify.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from certctl.core.actor import Actor
from certctl.core.certificate import Certificate, Version
from certctl.core.errors import (
    CertctlError,
    Conflict,
    Malformed,
    Misconfigured,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    Rejected,
    Temporary,
    TrustError,
    Unsupported,
)
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.job import Job, Step
from certctl.core.scope import Scope
from certctl.core.status import DeploymentStatus, JobStatus, StepKind, StepStatus, VersionStatus
from certctl.core.target import AgentRecord, Deployment, TargetRecord
from certctl.ledger import append
from certctl.lifecycle import handoff, settle
from certctl.lifecycle.context import Context
from certctl.pki.pem import certificate_pem
from certctl.store import catalogue, certificates, deployments, jobs
from certctl.store.tx import Tx
from certctl.wire.agent import StatusReport, WorkItem

_ERRORS: dict[str, type[CertctlError]] = {
    kind.code: kind for kind in (Temporary, Rejected, Misconfigured, Unsupported, OutcomeUnknown, TrustError)
}


async def trigger(
    ctx: Context, scope: Scope, actor: Actor, certificate_id: str, *, target_id: str = "", version_id: str = ""
) -> list[Job]:
    """Deploy to one target or all: each holder's current version, or a named older one (rollback)."""
    async with ctx.database.begin("deploy") as tx:
        certificate = await certificates.certificate(tx, scope, certificate_id, lock=True)
        targets = await certificates.targets_of(tx, ctx.scope, certificate_id)
        if target_id:
            targets = [target for target in targets if target.id == target_id]
        if not targets:
            raise NotFound(f"certificate {certificate_id} is mapped to no such enabled target")
        written: list[Job] = []
        for target, version in await _pairs(tx, ctx, certificate, targets, version_id):
            written += await handoff.deploy_to(
                tx, ctx, certificate, version, [target], actor=actor, attempt=new_id("ask")
            )
    return written


async def _pairs(
    tx: Tx, ctx: Context, certificate: Certificate, targets: list[TargetRecord], version_id: str
) -> list[tuple[TargetRecord, Version]]:
    if not version_id:
        current = await certificates.current_versions(tx, ctx.scope, certificate.id)
        pairs = [(target, current[target.agent_id]) for target in targets if target.agent_id in current]
        if not pairs:
            raise Conflict("there is nothing to deploy yet: no version has been issued for these targets' hosts")
        return pairs
    version = await certificates.version(tx, ctx.scope, version_id)
    if version.certificate_id != certificate.id:
        raise NotFound(f"certificate {certificate.id} has no version {version_id}")
    if version.status == VersionStatus.REVOKED:
        raise Conflict(f"version {version_id} is revoked and is not deployed again")
    if version.not_after <= ctx.now():
        raise Conflict(f"version {version_id} has expired and is not deployed again")
    pairs = [(target, version) for target in targets if target.agent_id == version.holder_id]
    if not pairs:
        raise Conflict("the key of this version is on another host than these targets")
    return pairs


async def item(tx: Tx, ctx: Context, step: Step, job: Job, lease: timedelta) -> WorkItem:
    """What an agent needs to deploy; taking it marks the deployment as applying."""
    version = await certificates.version(tx, ctx.scope, job.version_id)
    target = await catalogue.get(tx, ctx.scope, TargetRecord, job.target_id)
    deployment = await _deployment(tx, ctx, job)
    if deployment.status == DeploymentStatus.PENDING:
        await deployments.move_deployment(tx, ctx.scope, deployment.id, DeploymentStatus.APPLYING, ctx.now())
    await jobs.move_job(tx, ctx.scope, job.id, JobStatus.RUNNING, ctx.now())
    certificate = await certificates.certificate(tx, ctx.scope, job.certificate_id)
    return WorkItem(
        id=job.id,
        type=str(job.type),
        certificate_id=job.certificate_id,
        status=str(JobStatus.RUNNING),
        common_name=certificate.common_name,
        sans=certificate.sans,
        target_id=target.id,
        target_type=target.type,
        target_config=target.config,
        step_id=step.id,
        step_kind=str(step.kind),
        fence=step.fence,
        lease_seconds=lease.total_seconds(),
        attempt=step.attempts,
        version_id=version.id,
        key_job_id=version.job_id,
        plan_id=deployment.id,
        certificate_pem=certificate_pem(version.leaf_der),
        chain_pem=version.chain_pem,
        fingerprint_sha256=version.fingerprint_sha256,
    )


async def report(ctx: Context, agent: AgentRecord, actor: Actor, job_id: str, said: StatusReport) -> None:
    """Take an agent's word on a step leased to it: a receipt moves on to verify, a failure is settled."""
    if said.status not in {"Running", "Completed", "Failed"}:
        raise Malformed(f"status must be Running, Completed or Failed, not {said.status[:40]!r}")
    async with ctx.database.begin("deploy.report") as tx:
        step = await jobs.held_step(tx, ctx.scope, said.step_id, said.fence)
        job = (await jobs.jobs_by_id(tx, ctx.scope, [step.job_id]))[step.job_id]
        if step.agent_id != agent.id or job.id != job_id:
            raise NotAllowed("this step is not leased to this agent")
        if said.status == "Running":
            return
        if said.status == "Failed":
            await settle.fail(tx, ctx, step, _error(said), actor=actor)
            return
        if step.kind != StepKind.DEPLOY:
            raise Malformed(f"a {step.kind} step is not completed by a status report")
        await _applied(tx, ctx, step, job, said, actor)


def _error(said: StatusReport) -> CertctlError:
    kind = _ERRORS.get(said.error_kind, Temporary)
    return kind(said.error[:2000] or "the agent gave no reason")


async def _applied(tx: Tx, ctx: Context, step: Step, job: Job, said: StatusReport, actor: Actor) -> None:
    version = await certificates.version(tx, ctx.scope, job.version_id)
    deployment = await _deployment(tx, ctx, job)
    receipt = said.receipt or {}
    served_after = str(receipt.get("served_after", ""))
    if served_after != version.fingerprint_sha256:
        seen = served_after[:64] or "nothing"
        await settle.fail(tx, ctx, step, TrustError(f"the receipt shows {seen} served, not this version"), actor=actor)
        return
    now = ctx.now()
    await deployments.move_deployment(
        tx,
        ctx.scope,
        deployment.id,
        DeploymentStatus.APPLIED,
        now,
        receipt=msgspec.to_builtins(receipt),
        served_before=str(receipt.get("served_before", "")),
        applied_at=now,
        error="",
    )
    await jobs.end_step(tx, ctx.scope, step, StepStatus.DONE, now)
    await jobs.add_step(tx, ctx.scope, job.id, StepKind.VERIFY, now, agent_id=step.agent_id)
    details = {"job_id": job.id, "target_id": job.target_id, "version_id": version.id}
    event = Event(
        type=EventType.DEPLOYMENT_APPLIED,
        subject_type="certificate",
        subject_id=job.certificate_id,
        actor=actor,
        details=details,
    )
    await append(tx, ctx.scope, now, event)


async def _deployment(tx: Tx, ctx: Context, job: Job) -> Deployment:
    found = (await deployments.deployments_of_jobs(tx, ctx.scope, [job.id])).get(job.id)
    if found is None:
        raise NotFound(f"job {job.id} has no deployment")
    return found
