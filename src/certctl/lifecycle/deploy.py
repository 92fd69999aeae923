"""deploy: put one version on one target. The agent does it, journaled on its host; the receipt comes back here.

pending -> applying when the agent takes the step, applied when its receipt proves that the new certificate was served.
A crash half way is settled by the host's own journal, then the step is handed out again. Hands on to verify.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from certctl.core.actor import Actor
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
from certctl.core.status import DEPLOYMENT, DeploymentStatus, JobStatus, StepKind, StepStatus, VersionStatus, before
from certctl.core.target import AgentRecord, Deployment
from certctl.ledger import append
from certctl.lifecycle import counts, material, reference, rollout, settle
from certctl.lifecycle.context import Context
from certctl.lifecycle.reports import Report, take
from certctl.store import catalogue, certificates, deployments, jobs, many_jobs, reported
from certctl.store.tx import Tx
from certctl.wire.agent import StatusReport, WorkItem

_ERRORS: dict[str, type[CertctlError]] = {
    kind.code: kind for kind in (Temporary, Rejected, Misconfigured, Malformed, Unsupported, OutcomeUnknown, TrustError)
}


async def trigger(
    ctx: Context, scope: Scope, actor: Actor, certificate_id: str, *, target_id: str = "", version_id: str = ""
) -> list[Job]:
    """Deploy to one target or all: each holder's current version, or a named older one (rollback)."""
    async with ctx.database.begin("deploy") as tx:
        certificate = await certificates.certificate(tx, scope, certificate_id, lock=True)
        written: list[Job] = []
        for target, version in await material.pairs(tx, ctx, certificate, target_id=target_id, version_id=version_id):
            written += await rollout.deploy_to(
                tx, ctx, certificate, version, [target], actor=actor, attempt=new_id("ask")
            )
    return written


async def rollback(ctx: Context, scope: Scope, actor: Actor, certificate_id: str, version_id: str) -> list[Job]:
    """Put an older version back on its holder's targets; once it is seen there it is the current one again.

    NotFound; Conflict when it is current already, was revoked, has expired, or its key is on none of these targets.
    """
    async with ctx.database.begin("deploy") as tx:
        certificate = await certificates.certificate(tx, scope, certificate_id, lock=True)
        pairs = await material.pairs(tx, ctx, certificate, version_id=version_id)
        if any(version.status == VersionStatus.CURRENT for _, version in pairs):
            raise Conflict(f"version {version_id} is the current one: deploy it again, there is nothing to roll back")
        written: list[Job] = []
        for target, version in pairs:
            attempt = new_id("back")
            written += await rollout.deploy_to(tx, ctx, certificate, version, [target], actor=actor, attempt=attempt)
        details = {"version_id": version_id, "jobs": [job.id for job in written]}
        event = Event(
            type=EventType.ROLLBACK_TRIGGERED,
            subject_type="certificate",
            subject_id=certificate_id,
            actor=actor,
            details=details,
        )
        await append(tx, ctx.scope, ctx.now(), event)
    return written


async def begin_all(tx: Tx, ctx: Context, taken: Sequence[Job], stock: material.Stock) -> bool:
    """Mark the deployments of these jobs as applying, all at once; False when one of them stands otherwise, and each is
    to be looked at by itself.
    """
    found = [stock.deployments[job.id] for job in taken if job.id in stock.deployments]
    pending = [one for one in found if one.status == DeploymentStatus.PENDING]
    applying = await deployments.apply_all(tx, ctx.scope, pending, ctx.now())
    running = await many_jobs.run_all(tx, ctx.scope, taken, ctx.now())
    return len(found) == len(taken) == running and applying == len(pending)


async def item(
    tx: Tx, ctx: Context, step: Step, job: Job, lease: timedelta, stock: material.Stock, *, is_begun: bool
) -> WorkItem:
    """What an agent needs to deploy; taking it marks the deployment as applying, where `begin_all` has not."""
    deployment = stock.deployment(job)
    if not is_begun:
        if deployment.status == DeploymentStatus.PENDING:
            await deployments.move_deployment(tx, ctx.scope, deployment.id, DeploymentStatus.APPLYING, ctx.now())
        await jobs.move_job(tx, ctx.scope, job.id, JobStatus.RUNNING, ctx.now())
    return material.item(stock, step, job, lease, plan_id=deployment.id)


async def report(
    ctx: Context, agent: AgentRecord, actor: Actor, job_id: str, said: StatusReport, *, key_owner: str = ""
) -> None:
    """Take an agent's word on a step leased to it: a receipt moves on to verify, a failure is settled.

    `key_owner` is set for an agent that calls with an API key: without a step id its one open step of the job is meant,
    and its bare word makes the deployment applied, never verified.
    """
    if said.status not in {"Running", "Completed", "Failed"}:
        raise Malformed(f"status must be Running, Completed or Failed, not {said.status[:40]!r}")
    async with ctx.database.begin("deploy.report") as tx:
        by_word = bool(key_owner) and not said.step_id
        if by_word:
            meant = await reference.open_step(tx, ctx, agent, key_owner, reference.KINDS, job_id=job_id)
            if meant is None:
                raise Conflict(f"agent {agent.name} has no open step of job {job_id}")
            step = meant
        else:
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
        if by_word:
            await _applied_by_word(tx, ctx, step, job, actor)
        else:
            await _applied(tx, ctx, step, job, said, actor)


async def report_all(ctx: Context, reports: Sequence[Report[StatusReport]]) -> dict[Report[StatusReport], bool]:
    """`report` for receipts that come at the same time, by one commit: those that were taken. The others go alone."""
    return await take("receipts", reports, partial(_take_receipts, ctx))


async def _take_receipts(ctx: Context, reports: Mapping[str, Report[StatusReport]]) -> dict[str, bool]:
    now = ctx.now()
    async with ctx.database.begin("deploy.report") as tx:
        found = await reported.deploying(tx, ctx.scope, list(reports))
        right = [one for step_id, one in found.items() if _shows(reports[step_id], one)]
        if not right:
            return {}
        receipts = [reports[one.step.id].said.receipt or {} for one in right]
        applied = [_applied_columns(receipt, now) for receipt in receipts]
        await deployments.change_all(
            tx, ctx.scope, now, {one.deployment.id: columns for one, columns in zip(right, applied, strict=True)}
        )
        await many_jobs.end_locked(tx, ctx.scope, [one.step for one in right], now)
        await many_jobs.begin_steps(tx, ctx.scope, [one.job for one in right], StepKind.VERIFY, now)
        for one in right:
            catalogue.saw(tx, ctx.scope, one.target, one.target.id)
            await counts.deploy_ended(tx, ctx, one.job, "success")
        await append(tx, ctx.scope, now, *(_applied_event(one.job, reports[one.step.id].actor, {}) for one in right))
    return dict.fromkeys((one.step.id for one in right), True)


def _shows(report: Report[StatusReport], one: reported.Deploying) -> bool:
    """Whether a receipt proves this deployment, and it may become applied."""
    receipt = report.said.receipt or {}
    is_right = report.said.status == "Completed" and receipt.get("served_after") == one.version.fingerprint_sha256
    may = one.deployment.status in (*before(DEPLOYMENT, DeploymentStatus.APPLIED), DeploymentStatus.APPLIED)
    return is_right and may and report.is_of(one.step, one.job, StepKind.DEPLOY)


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
    await deployments.move_deployment(tx, ctx.scope, deployment.id, now=now, **_applied_columns(receipt, now))
    await jobs.end_step(tx, ctx.scope, step, StepStatus.DONE, now)
    await jobs.add_step(tx, ctx.scope, job.id, StepKind.VERIFY, now, agent_id=step.agent_id)
    await counts.deploy_ended(tx, ctx, job, "success")
    await _tell_applied(tx, ctx, job, actor, {})


def _applied_columns(receipt: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """What a deployment says that was applied by this receipt."""
    return {
        "status": DeploymentStatus.APPLIED,
        "receipt": msgspec.to_builtins(receipt),
        "served_before": str(receipt.get("served_before", "")),
        "applied_at": now,
        "error": "",
    }


async def _applied_by_word(tx: Tx, ctx: Context, step: Step, job: Job, actor: Actor) -> None:
    """No receipt: somebody has to look before anything is green. The server does, or the agent's own probe counts."""
    deployment, now = await _deployment(tx, ctx, job), ctx.now()
    await deployments.move_deployment(
        tx, ctx.scope, deployment.id, DeploymentStatus.APPLIED, now, applied_at=now, error=""
    )
    await jobs.end_step(tx, ctx.scope, step, StepStatus.DONE, now)
    await jobs.add_step(tx, ctx.scope, job.id, StepKind.VERIFY, now)
    await counts.deploy_ended(tx, ctx, job, "success")
    await _tell_applied(tx, ctx, job, actor, {"receipt": "none: the agent's word"})


async def _tell_applied(tx: Tx, ctx: Context, job: Job, actor: Actor, more: dict[str, str]) -> None:
    await append(tx, ctx.scope, ctx.now(), _applied_event(job, actor, more))


def _applied_event(job: Job, actor: Actor, more: dict[str, str]) -> Event:
    return Event(
        type=EventType.DEPLOYMENT_APPLIED,
        subject_type="certificate",
        subject_id=job.certificate_id,
        actor=actor,
        details={"job_id": job.id, "target_id": job.target_id, "version_id": job.version_id} | more,
    )


async def _deployment(tx: Tx, ctx: Context, job: Job) -> Deployment:
    found = (await deployments.deployments_of_jobs(tx, ctx.scope, [job.id])).get(job.id)
    if found is None:
        raise NotFound(f"job {job.id} has no deployment")
    return found
