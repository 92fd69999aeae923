"""verify: what does the target really serve? Green is written only here, from fingerprints, never from anybody's word.

pending proof -> verified, or drifted after patient re-probing. Writes an observation each time; hands on to nothing.
Where the agent names no leases (the reference product's) the server looks; what it cannot reach stays unverified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from msgspec import Struct

from certctl.connectors.probe import probe_tls, split_endpoint
from certctl.core.actor import Actor
from certctl.core.certificate import Certificate, Version, VersionFacts
from certctl.core.errors import ConnectorError, Malformed, NotAllowed, NotFound, Rejected, Temporary
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.job import Job, Step
from certctl.core.status import (
    DEPLOYMENT,
    CertificateStatus,
    DeploymentStatus,
    JobStatus,
    StepKind,
    StepStatus,
    VersionStatus,
    before,
)
from certctl.core.target import AgentRecord, Deployment, TargetRecord
from certctl.ledger import append
from certctl.lifecycle import counts, endpoints, handoff, incidents, material, settle, standing
from certctl.lifecycle.context import Context
from certctl.lifecycle.reports import Report, take
from certctl.store import catalogue, certificates, deployments, jobs, many_jobs, reported, standings
from certctl.store.tx import Tx
from certctl.wire.agent import VerifyReport, WorkItem

SERVER_OBSERVER = "server"
UNVERIFIED = "skipped"  # the reference product's word for a verification that did not take place


def item(step: Step, job: Job, lease: timedelta, stock: material.Stock) -> WorkItem:
    """What an agent needs to look at its target."""
    version, target = stock.version(job), stock.target(job)
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
        traceparent=job.traceparent,
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
        await _observe(tx, ctx, deployment, version, seen, said.error, agent.id)
        if seen == version.fingerprint_sha256 and (deployment.receipt or {}).get("seen_by") == "files":
            why = "the files on disk are this version's, and no server was looked at: give the target an endpoint"
            await _stays_unverified(tx, ctx, step, job, why)
            return False
        if seen == version.fingerprint_sha256:
            await _verified(tx, ctx, step, job, deployment, actor)
            return True
        await _seen_wrong(tx, ctx, step, job, version, seen, said.error, actor)
        return False


async def report_all(ctx: Context, reports: Sequence[Report[VerifyReport]]) -> dict[Report[VerifyReport], bool]:
    """`report` for looks that found what was deployed, by one commit for those that come at the same time. The others
    go alone.
    """
    return await take("looks", reports, partial(_take_looks, ctx))


async def _take_looks(ctx: Context, reports: Mapping[str, Report[VerifyReport]]) -> dict[str, bool]:
    now = ctx.now()
    async with ctx.database.begin("verify.report") as tx:
        ids = await reported.certificates_of(tx, ctx.scope, list(reports))
        rows = await standings.locked(tx, ctx.scope, sorted(ids))
        # behind the locks: another version may have become current since
        found = await reported.deploying(tx, ctx.scope, list(reports))
        # of two that speak of one target the second looks again behind the first
        of_targets = {one.target.id: one for one in found.values() if _shows(reports[one.step.id], one, rows)}
        right = list(of_targets.values())
        if not right:
            return {}
        seen = [
            deployments.Observation(
                id=new_id("obs"),
                deployment=one.deployment,
                expected=one.version.fingerprint_sha256,
                observed=one.version.fingerprint_sha256,
                observed_by=one.step.agent_id,
            )
            for one in right
        ]
        await deployments.insert_observations(tx, ctx.scope, seen, now)
        await _write_verified(tx, ctx, right, rows)
        events = [_verified_event(one.job, one.version, reports[one.step.id].actor) for one in right]
        await append(tx, ctx.scope, now, *events)
    return dict.fromkeys((one.step.id for one in right), True)


def _shows(report: Report[VerifyReport], one: reported.Deploying, rows: Mapping[str, Certificate]) -> bool:
    """Whether a look proves this deployment, and nothing but that is to be written of it."""
    row = rows.get(one.job.certificate_id)
    is_seen = report.said.actual_fingerprint.lower() == one.version.fingerprint_sha256
    by_files = (one.deployment.receipt or {}).get("seen_by") == "files"
    may = one.deployment.status in before(DEPLOYMENT, DeploymentStatus.VERIFIED) and one.job.status == JobStatus.RUNNING
    stands = row is not None and row.status != CertificateStatus.ARCHIVED
    is_plain = stands and one.version.status == VersionStatus.CURRENT and not report.said.error
    return is_seen and not by_files and may and is_plain and report.is_of(one.step, one.job, StepKind.VERIFY)


async def _write_verified(
    tx: Tx, ctx: Context, right: Sequence[reported.Deploying], rows: Mapping[str, Certificate]
) -> None:
    now = ctx.now()
    green = {one.deployment.id: _verified_columns(one.version.fingerprint_sha256, now) for one in right}
    await deployments.change_all(tx, ctx.scope, now, green)
    await many_jobs.end_locked(tx, ctx.scope, [one.step for one in right], now)
    said = {one.job.id: _said_of_job(one.version.fingerprint_sha256, now) for one in right}
    await many_jobs.complete_locked(tx, ctx.scope, said, now)
    await deployments.supersede_beside(tx, ctx.scope, [one.deployment for one in right], now)
    served = [(one.target, rows[one.job.certificate_id], one.version.fingerprint_sha256) for one in right]
    await endpoints.deployed_all(tx, ctx, served)
    await handoff.revoke_all_replaced(tx, ctx, [one.version for one in right])
    await incidents.deployed_all(tx, ctx, [(one.job.certificate_id, one.job.target_id) for one in right])
    stands = await standing.load_all(tx, ctx, list({row.id: row for _, row, _ in served}.values()))
    await standing.write_all(tx, ctx, stands, also={"last_deployment_at": now})


async def run(ctx: Context, claimed: Sequence[Step]) -> None:
    """Look from here at the targets of agents that do not look by step: no transaction is open meanwhile."""
    for step in claimed:
        async with ctx.database.read() as tx:
            job = (await jobs.jobs_by_id(tx, ctx.scope, [step.job_id]))[step.job_id]
            deployment = (await deployments.deployments_of_jobs(tx, ctx.scope, [job.id]))[job.id]
            version = await certificates.version(tx, ctx.scope, job.version_id)
            target = await catalogue.get(tx, ctx.scope, TargetRecord, job.target_id)
            certificate = await certificates.certificate(tx, ctx.scope, job.certificate_id)
        if deployment.observed_fingerprint == version.fingerprint_sha256:
            # the agent has looked for itself: its observation stands in the log
            async with ctx.database.begin("verify") as tx:
                await _verified(tx, ctx, step, job, deployment, ctx.actor)
            continue
        seen, trouble = await _look(ctx, target, certificate.common_name)
        async with ctx.database.begin("verify") as tx:
            await _judge_sight(tx, ctx, step, job, deployment, version, seen, trouble)


class _Trouble(Struct, frozen=True):
    """Why nothing could be seen. `passes` when it may be otherwise in a moment."""

    message: str
    passes: bool = False


async def _look(ctx: Context, target: TargetRecord, common_name: str) -> tuple[str, _Trouble | None]:
    endpoint = endpoints.endpoint_of(target.config)
    if not endpoint:
        return "", _Trouble("nobody has looked: the target names no endpoint (host:port)")
    try:
        host, port = split_endpoint(endpoint)
        sni = str(target.config.get("sni") or common_name)
        served = await probe_tls(host, port, sni, ctx.probe_policy, ctx.patience.probe_timeout)
    except ConnectorError as error:
        message = f"the server cannot look at {endpoint}: {error.message}"
        return "", _Trouble(message, isinstance(error, Temporary | Rejected))
    return served.fingerprint_sha256, None


async def _judge_sight(
    tx: Tx,
    ctx: Context,
    step: Step,
    job: Job,
    deployment: Deployment,
    version: Version,
    seen: str,
    trouble: _Trouble | None,
) -> None:
    await _observe(tx, ctx, deployment, version, seen, trouble.message if trouble else "", SERVER_OBSERVER)
    if seen == version.fingerprint_sha256:
        await _verified(tx, ctx, step, job, deployment, ctx.actor)
    elif trouble is None:
        await _seen_wrong(tx, ctx, step, job, version, seen, "", ctx.actor)
    elif trouble.passes and step.attempts < ctx.patience.probe_tries:
        await settle.fail(tx, ctx, step, Temporary(trouble.message))
    else:
        await _stays_unverified(tx, ctx, step, job, trouble.message)


async def _stays_unverified(tx: Tx, ctx: Context, step: Step, job: Job, why: str) -> None:
    """Applied by the agent's word, seen by nobody: the job is over and says so; nothing turns green."""
    now = ctx.now()
    await jobs.end_step(tx, ctx.scope, step, StepStatus.DONE, now)
    said = {"verification_status": UNVERIFIED, "verification_error": why, "last_error": ""}
    await jobs.move_job(tx, ctx.scope, job.id, JobStatus.COMPLETED, now, **said)
    version = await certificates.version(tx, ctx.scope, job.version_id)
    await endpoints.applied(tx, ctx, job.target_id, job.certificate_id, version.fingerprint_sha256)


async def _observe(
    tx: Tx, ctx: Context, deployment: Deployment, version: Version, seen: str, error: str, observed_by: str
) -> None:
    one = deployments.Observation(
        id=new_id("obs"),
        deployment=deployment,
        expected=version.fingerprint_sha256,
        observed=seen,
        error=error[:2000],
        observed_by=observed_by,
    )
    await deployments.insert_observations(tx, ctx.scope, [one], ctx.now())


async def _seen_wrong(
    tx: Tx, ctx: Context, step: Step, job: Job, version: Version, seen: str, said: str, actor: Actor
) -> None:
    why = said[:2000] or f"the target serves {seen or 'nothing'}, not {version.fingerprint_sha256}"
    await jobs.note_job(
        tx, ctx.scope, job.id, verification_status="failed", verification_error=why, verification_fingerprint=seen
    )
    await counts.seen_wrong(tx, ctx, job)
    await settle.fail(tx, ctx, step, Temporary(why), actor=actor)


async def observe_by_key(ctx: Context, agent: AgentRecord, actor: Actor, job_id: str, said: VerifyReport) -> bool:
    """Take what an agent of the reference product saw, with no step named: one observation more, and no more than that.

    It comes while the deployment is under way, and counts when that is reported as done; or afterwards, and counts at
    once. True when it is this version. Malformed without both fingerprints, as the reference answers.
    """
    seen = said.actual_fingerprint.lower()[:64]
    if not seen or not said.expected_fingerprint:
        raise Malformed("expected_fingerprint and actual_fingerprint are both needed")
    async with ctx.database.begin("verify.observe") as tx:
        job = (await jobs.jobs_by_id(tx, ctx.scope, [job_id])).get(job_id)
        deployment = (await deployments.deployments_of_jobs(tx, ctx.scope, [job_id])).get(job_id)
        if job is None or deployment is None or deployment.agent_id != agent.id or said.target_id != job.target_id:
            raise NotFound(f"agent {agent.name} has no deployment job {job_id} to this target")
        version = await certificates.version(tx, ctx.scope, job.version_id)
        await _observe(tx, ctx, deployment, version, seen, said.error, agent.id)
        if deployment.status in {DeploymentStatus.SUPERSEDED, DeploymentStatus.FAILED, DeploymentStatus.VERIFIED}:
            return seen == version.fingerprint_sha256
        status = DeploymentStatus(deployment.status)
        await deployments.move_deployment(tx, ctx.scope, deployment.id, status, ctx.now(), observed_fingerprint=seen)
        await jobs.note_job(tx, ctx.scope, job.id, verification_fingerprint=seen)
        ended = job.status == JobStatus.COMPLETED and status == DeploymentStatus.APPLIED
        if ended and seen == version.fingerprint_sha256:
            await _verified(tx, ctx, None, job, deployment, actor)
        return seen == version.fingerprint_sha256


async def _verified(tx: Tx, ctx: Context, step: Step | None, job: Job, deployment: Deployment, actor: Actor) -> None:
    """Write green. `step` is None for a job that has ended unverified and is now seen to be right."""
    now = ctx.now()
    certificate = await certificates.certificate(tx, ctx.scope, job.certificate_id, lock=True)
    # behind the lock: another may have become current since it was looked at
    version = await certificates.version(tx, ctx.scope, job.version_id)
    green = _verified_columns(version.fingerprint_sha256, now)
    await deployments.move_deployment(tx, ctx.scope, deployment.id, now=now, **green)
    await deployments.supersede_beside(tx, ctx.scope, [deployment], now)
    said = _said_of_job(version.fingerprint_sha256, now) | {"last_error": ""}
    if step is None:
        await jobs.note_job(tx, ctx.scope, job.id, **said)
    else:
        await jobs.end_step(tx, ctx.scope, step, StepStatus.DONE, now)
        await jobs.move_job(tx, ctx.scope, job.id, JobStatus.COMPLETED, now, **said)
    await endpoints.deployed(
        tx, ctx, job.target_id, certificate.common_name, certificate.id, version.fingerprint_sha256
    )
    if version.status == VersionStatus.SUPERSEDED:
        # a rollback that is served: the older version is what this holder has now, and what renewal must look at
        await certificates.make_current(tx, ctx.scope, version)
    await handoff.revoke_replaced(tx, ctx, version)
    await incidents.deployed(tx, ctx, job.certificate_id, job.target_id)
    await certificates.change_certificate(tx, ctx.scope, job.certificate_id, now, last_deployment_at=now)
    await standing.write_all(tx, ctx, await standing.load_all(tx, ctx, [certificate]))
    await append(tx, ctx.scope, now, _verified_event(job, version, actor))


def _verified_columns(fingerprint: str, now: datetime) -> dict[str, Any]:
    return {
        "status": DeploymentStatus.VERIFIED,
        "observed_fingerprint": fingerprint,
        "verified_at": now,
        "error": "",
    }


def _said_of_job(fingerprint: str, now: datetime) -> dict[str, Any]:
    return {
        "verification_status": "success",
        "verified_at": now,
        "verification_fingerprint": fingerprint,
        "verification_error": "",
    }


def _verified_event(job: Job, version: VersionFacts, actor: Actor) -> Event:
    return Event(
        type=EventType.DEPLOYMENT_VERIFIED,
        subject_type="certificate",
        subject_id=job.certificate_id,
        actor=actor,
        details={
            "job_id": job.id,
            "target_id": job.target_id,
            "version_id": version.id,
            "fingerprint_sha256": version.fingerprint_sha256,
        },
    )
