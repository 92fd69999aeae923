"""prepare: the key holder makes (or finds again) its key and sends a CSR, which is judged against the approved request.

An agent holds its key on its host; a client sent its CSR with the request. Names and lifetime come from the approval,
the CSR contributes its public key and its proof of possession only. Hands on to issue.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from certctl.core.actor import Actor
from certctl.core.catalogue import IssuerRecord, Profile
from certctl.core.certificate import RequestBody
from certctl.core.errors import CertctlError, Conflict, NotAllowed, PolicyDenied
from certctl.core.events import Event, EventType
from certctl.core.job import Job, Step
from certctl.core.status import JobStatus, JobType, StepKind, StepStatus
from certctl.core.target import AgentRecord
from certctl.ledger import append
from certctl.lifecycle import facts, handoff, reference, settle
from certctl.lifecycle.context import Context
from certctl.pki.csr import CsrFacts, csr_pem, read_csr
from certctl.store import catalogue, jobs
from certctl.store.tx import Tx
from certctl.wire.agent import CsrReport, WorkItem


async def run(ctx: Context, claimed: Sequence[Step]) -> None:
    """Judge the CSRs that clients sent with their requests."""
    async with ctx.database.begin("prepare") as tx:
        known = await jobs.jobs_by_id(tx, ctx.scope, [step.job_id for step in claimed])
        for step in claimed:
            job = known[step.job_id]
            try:
                await _accept(tx, ctx, step, job, read_csr(_body(job).csr_pem), ctx.actor)
            except CertctlError as error:
                await settle.fail(tx, ctx, step, error)


def item(step: Step, job: Job, lease: timedelta) -> WorkItem:
    """What an agent needs to make its key and CSR."""
    body = _body(job)
    return WorkItem(
        id=job.id,
        type=str(job.type),
        certificate_id=job.certificate_id,
        status=str(job.status),
        common_name=body.common_name,
        sans=body.names,
        step_id=step.id,
        step_kind=str(StepKind.PREPARE),
        fence=step.fence,
        lease_seconds=lease.total_seconds(),
        attempt=step.attempts,
        key_algorithm=body.key_algorithm,
        must_staple=body.must_staple,
        traceparent=job.traceparent,
    )


async def accept_csr(ctx: Context, agent: AgentRecord, actor: Actor, report: CsrReport, *, key_owner: str = "") -> Job:
    """Take an agent's CSR for a step leased to it. A CSR that breaks a rule is refused and changes nothing but
    the log.

    `key_owner` is set for an agent that calls with an API key: without a step id its one open step is meant, and the
    same key asked for once more gives the job already under way.
    """
    try:
        csr = read_csr(report.csr_pem)
        async with ctx.database.begin("prepare") as tx:
            if key_owner and not report.step_id:
                step, job = await _meant(tx, ctx, agent, key_owner, report, csr)
                if step is None:
                    return job
            else:
                step, job = await _leased(tx, ctx, agent, report)
            await _accept(tx, ctx, step, job, csr, actor)
            return job
    except CertctlError as error:
        if error.code in {"malformed", "policy_denied"}:
            await _log_refusal(ctx, actor, report, error)
        raise


async def _leased(tx: Tx, ctx: Context, agent: AgentRecord, report: CsrReport) -> tuple[Step, Job]:
    step = await jobs.held_step(tx, ctx.scope, report.step_id, report.fence)
    job = (await jobs.jobs_by_id(tx, ctx.scope, [step.job_id]))[step.job_id]
    if step.agent_id != agent.id or step.kind != StepKind.PREPARE or report.job_id not in ("", job.id):
        raise NotAllowed("this step is not leased to this agent for a CSR")
    return step, job


async def _meant(
    tx: Tx, ctx: Context, agent: AgentRecord, owner: str, report: CsrReport, csr: CsrFacts
) -> tuple[Step | None, Job]:
    """The one open step that a CSR without step id is for; no step when this very key was taken before."""
    step = await reference.open_step(
        tx,
        ctx,
        agent,
        owner,
        (StepKind.PREPARE,),
        job_id=report.job_id,
        certificate_id=report.certificate_id,
    )
    if step is not None:
        return step, (await jobs.jobs_by_id(tx, ctx.scope, [step.job_id]))[step.job_id]
    newest = await jobs.newest_job(tx, ctx.scope, report.certificate_id, agent.id, (JobType.ISSUANCE, JobType.RENEWAL))
    if newest is not None and newest.status != JobStatus.FAILED:
        kept = _body(newest).csr_pem
        if kept and read_csr(kept).spki_sha256 == csr.spki_sha256:
            return None, newest
    raise Conflict(
        f"no job of agent {agent.name} awaits a CSR for certificate {report.certificate_id or '(none named)'}"
    )


async def _accept(tx: Tx, ctx: Context, step: Step, job: Job, csr: CsrFacts, actor: Actor) -> None:
    body = _body(job)
    profile = await catalogue.get(tx, ctx.scope, Profile, body.profile_id)
    issuer = await catalogue.get(tx, ctx.scope, IssuerRecord, body.issuer_id)
    violations = facts.csr_violations(body, profile, issuer, csr)
    if violations:
        raise PolicyDenied(violations)
    now = ctx.now()
    await jobs.end_step(tx, ctx.scope, step, StepStatus.DONE, now)
    kept = msgspec.structs.replace(body, csr_pem=csr_pem(csr.csr_der))
    await jobs.move_job(tx, ctx.scope, job.id, JobStatus.RUNNING, now, body=msgspec.to_builtins(kept), last_error="")
    await handoff.next_step(tx, ctx, job.id, StepKind.ISSUE)
    await append(tx, ctx.scope, now, submitted_event(job, csr, actor))


def submitted_event(job: Job, csr: CsrFacts, actor: Actor) -> Event:
    """That a holder's CSR was taken."""
    return Event(
        type=EventType.CSR_SUBMITTED,
        subject_type="certificate",
        subject_id=job.certificate_id,
        actor=actor,
        details={"job_id": job.id, "holder_id": job.holder_id, "spki_sha256": csr.spki_sha256},
    )


async def _log_refusal(ctx: Context, actor: Actor, report: CsrReport, error: CertctlError) -> None:
    async with ctx.database.begin("prepare.refused") as tx:
        event = Event(
            type=EventType.CSR_REFUSED,
            subject_type="certificate",
            subject_id=report.certificate_id[:128],
            actor=actor,
            details={"job_id": report.job_id[:128], "error": error.message},
        )
        await append(tx, ctx.scope, ctx.now(), event)


def _body(job: Job) -> RequestBody:
    return msgspec.convert(job.body, RequestBody)
