"""approve: may it be issued? Every rule of profile and issuer is judged, every violation recorded.

Approved requests carry a hash of what was decided (names, profile version, issuer, lifetime, key rule); hands on to
prepare. Pure but for the rows: after a crash the verdict is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from certctl.core.catalogue import IssuerRecord, Profile
from certctl.core.certificate import CLIENT_HOLDER, RequestBody
from certctl.core.errors import PolicyDenied
from certctl.core.events import Event, EventType
from certctl.core.job import Job, Step
from certctl.core.status import JobStatus, StepKind, StepStatus
from certctl.ledger import append
from certctl.lifecycle import facts, settle
from certctl.lifecycle.context import Context
from certctl.policy.approval import needs_approval
from certctl.policy.issuance import judge_request
from certctl.store import catalogue, jobs
from certctl.store.tx import Tx


async def run(ctx: Context, claimed: Sequence[Step]) -> None:
    """Judge each request; approved ones go on to prepare."""
    async with ctx.database.begin("approve") as tx:
        known = await jobs.jobs_by_id(tx, ctx.scope, [step.job_id for step in claimed])
        for step in claimed:
            try:
                await _approve(tx, ctx, step, known[step.job_id])
            except PolicyDenied as denied:
                await _deny(tx, ctx, step, known[step.job_id], denied)


async def _approve(tx: Tx, ctx: Context, step: Step, job: Job) -> None:
    body = msgspec.convert(job.body, RequestBody)
    profile = await catalogue.get(tx, ctx.scope, Profile, body.profile_id)
    issuer = await catalogue.get(tx, ctx.scope, IssuerRecord, body.issuer_id)
    violations = judge_request(facts.issuance_facts(body, profile, issuer))
    if violations:
        raise PolicyDenied(violations)
    now = ctx.now()
    decided = msgspec.structs.replace(
        body, decision_hash=facts.hash_of(body, profile_version=profile.version), profile_version=profile.version
    )
    await jobs.end_step(tx, ctx.scope, step, StepStatus.DONE, now)
    if needs_approval(profile):
        # nobody can decide yet, so nothing is issued: waiting is the safe end
        body_decided = msgspec.to_builtins(decided)
        await jobs.move_job(tx, ctx.scope, job.id, JobStatus.AWAITING_APPROVAL, now, body=body_decided)
        return
    by_client = job.holder_id == CLIENT_HOLDER
    status = JobStatus.RUNNING if by_client else JobStatus.AWAITING_CSR
    await jobs.move_job(tx, ctx.scope, job.id, status, now, body=msgspec.to_builtins(decided))
    await jobs.add_step(tx, ctx.scope, job.id, StepKind.PREPARE, now, agent_id="" if by_client else job.holder_id)
    details = {"job_id": job.id, "decision_hash": decided.decision_hash}
    await append(tx, ctx.scope, now, _event(EventType.REQUEST_APPROVED, job, ctx, details))


async def _deny(tx: Tx, ctx: Context, step: Step, job: Job, denied: PolicyDenied) -> None:
    told = [msgspec.to_builtins(violation) for violation in denied.violations]
    await append(
        tx, ctx.scope, ctx.now(), _event(EventType.REQUEST_DENIED, job, ctx, {"job_id": job.id, "violations": told})
    )
    await settle.fail(tx, ctx, step, denied)


def _event(kind: EventType, job: Job, ctx: Context, details: dict[str, Any]) -> Event:
    return Event(type=kind, subject_type="certificate", subject_id=job.certificate_id, actor=ctx.actor, details=details)
