"""What `approve` decides of requests, and what comes of it, for any number of them by a few statements.

A request that every rule allows goes on to its key holder, or to the people whose word its profile wants: nobody's is
ever passed over here. `approve` writes it of requests that stand, a batch of requests that it writes itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct, structs

from certctl.core.actor import Actor
from certctl.core.approval import ISSUANCE, Approval
from certctl.core.catalogue import Profile
from certctl.core.certificate import CLIENT_HOLDER, Certificate, RequestBody
from certctl.core.events import Event, EventType, Notice
from certctl.core.ids import new_id
from certctl.core.job import Job, Step
from certctl.core.status import ApprovalState, JobStatus, StepKind
from certctl.ledger import append, notify_all
from certctl.lifecycle import compliance, facts, handoff
from certctl.lifecycle.context import Context
from certctl.policy.approval import needs_approval
from certctl.policy.rules.judge import Found
from certctl.store import approvals, catalogue, jobs, many_jobs
from certctl.store.tx import Tx


class Allowed(Struct, frozen=True):
    """A request that no rule forbids: its job, the body as it is decided (its hash with it), and its profile."""

    job: Job
    body: RequestBody
    profile: Profile

    @property
    def waits_for_people(self) -> bool:
        """Whether the profile wants somebody's word before it goes on."""
        return needs_approval(facts.binding(self.profile, own_tls=self.body.own_tls))

    @property
    def status(self) -> JobStatus:
        """What its job then is."""
        if self.waits_for_people:
            return JobStatus.AWAITING_APPROVAL
        return JobStatus.RUNNING if self.job.holder_id == CLIENT_HOLDER else JobStatus.AWAITING_CSR


def allowed(job: Job, body: RequestBody, profile: Profile) -> Allowed:
    """The request, bound to what was decided about: names, profile and its version, issuer, lifetime, key rule."""
    decided = structs.replace(
        body, decision_hash=facts.hash_of(body, profile_version=profile.version), profile_version=profile.version
    )
    return Allowed(job, decided, profile)


async def settle(tx: Tx, ctx: Context, held: Sequence[Step], found: Sequence[Allowed]) -> None:
    """End the approve steps of these requests, and let them go on. StaleFence when one has passed on, Conflict when a
    job has ended meanwhile.
    """
    now = ctx.now()
    await many_jobs.end_steps(tx, ctx.scope, held, now)
    for status in dict.fromkeys(one.status for one in found):
        these = [one for one in found if one.status == status]
        bodies = {one.job.id: msgspec.to_builtins(one.body) for one in these}
        await many_jobs.move_live(tx, ctx.scope, status, [one.job for one in these], bodies, now)
    await _go_on(tx, ctx, found, [])


async def ask(tx: Tx, ctx: Context, drafts: Sequence[handoff.Draft]) -> list[Job | None]:
    """`handoff.write_drafts`, and the verdict on each with it: drafts were judged by every rule in this transaction. So
    one commit asks, and approves or asks people.
    """
    if ctx.handed is not None:  # whoever drives a job runs its stages one by one
        return await handoff.write_drafts(tx, ctx, drafts)
    now, made = ctx.now(), [await _of_draft(tx, ctx, one) for one in drafts]
    keys = [handoff.live_key(one) for one in drafts]
    whole = [(_as_decided(one, ctx), key) for (one, _), key in zip(made, keys, strict=True)]
    stand = await jobs.create_jobs(tx, ctx.scope, whole)
    told: list[Event] = []
    fresh: list[Allowed] = []
    broken: list[tuple[Certificate, tuple[Found, ...]]] = []
    for draft, (one, found), (written, _), job in zip(drafts, made, whole, stand, strict=True):
        if job is None:
            continue
        told += draft.ask.first
        if job is written:
            told.append(handoff.asked_event(draft))
            fresh.append(one)
            broken.append((draft.certificate, found))
    await many_jobs.insert_done(tx, ctx.scope, [one.job for one in fresh], StepKind.APPROVE, now)
    await compliance.record_all(tx, ctx, await compliance.rules_in_force(tx, ctx), broken)
    await _go_on(tx, ctx, fresh, told)
    return stand


async def _of_draft(tx: Tx, ctx: Context, draft: handoff.Draft) -> tuple[Allowed, tuple[Found, ...]]:
    body = msgspec.convert(draft.job.body, RequestBody)
    profile = await catalogue.as_first_seen(tx, ctx.scope, Profile, body.profile_id)
    rules = await compliance.rules_in_force(tx, ctx)
    found = await compliance.judge_request(tx, ctx, rules, draft.certificate, body)
    return allowed(draft.job, body, profile), found


def _as_decided(one: Allowed, ctx: Context) -> Job:
    started = ctx.now() if one.status == JobStatus.RUNNING else None
    return structs.replace(one.job, status=one.status, body=msgspec.to_builtins(one.body), started_at=started)


async def _go_on(tx: Tx, ctx: Context, found: Sequence[Allowed], told: Sequence[Event]) -> None:
    """What comes next of each, with what is told of it behind what was `told` before."""
    now = ctx.now()
    people = [one for one in found if one.waits_for_people]
    others = [one for one in found if not one.waits_for_people]
    asked = [approval_of(ctx, one.job, one.body, one.profile) for one in people]
    await approvals.insert_all(tx, ctx.scope, asked)
    await hand_to_holders(tx, ctx, [one.job for one in others])
    events = [
        event(EventType.APPROVAL_REQUESTED, one.job, ctx.actor, _decision(one) | {"approval_id": approval.id})
        for one, approval in zip(people, asked, strict=True)
    ]
    events += [event(EventType.REQUEST_APPROVED, one.job, ctx.actor, _decision(one)) for one in others]
    await append(tx, ctx.scope, now, *told, *events)
    await notify_all(tx, ctx.scope, now, [_notice(one) for one in people])


async def hand_to_holders(tx: Tx, ctx: Context, approved: Sequence[Job]) -> None:
    """The next step of jobs that are approved: each key holder makes its key and its CSR."""
    by_client = [job.id for job in approved if job.holder_id == CLIENT_HOLDER]
    await handoff.next_steps(tx, ctx, by_client, StepKind.PREPARE)
    by_agent = [job for job in approved if job.holder_id != CLIENT_HOLDER]
    await many_jobs.begin_steps(tx, ctx.scope, by_agent, StepKind.PREPARE, ctx.now())


def _decision(one: Allowed) -> dict[str, Any]:
    return {"job_id": one.job.id, "decision_hash": one.body.decision_hash}


def event(kind: EventType, job: Job, actor: Actor, details: dict[str, Any]) -> Event:
    """What was said of a request."""
    return Event(type=kind, subject_type="certificate", subject_id=job.certificate_id, actor=actor, details=details)


def _notice(one: Allowed) -> Notice:
    asked = f"{one.job.requested_by} asks for {one.body.common_name} under {one.profile.name}"
    return Notice(
        type="ApprovalRequested",
        certificate_id=one.job.certificate_id,
        severity="informational",
        message=f"{asked}: approve or reject it",
        dedup_key=f"approval/{one.job.id}",
    )


def approval_of(ctx: Context, job: Job, decided: RequestBody, profile: Profile) -> Approval:
    """What people are asked about a request."""
    now = ctx.now()
    return Approval(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("ar"),
        kind=ISSUANCE,
        certificate_id=job.certificate_id,
        job_id=job.id,
        profile_id=decided.profile_id,
        requested_by=job.requested_by,
        state=ApprovalState.PENDING,
        decision_hash=decided.decision_hash,
        decided_by="",
        decided_at=None,
        decision_note="",
        metadata={
            "common_name": decided.common_name,
            "names": decided.names,
            "issuer_id": decided.issuer_id,
            "profile_version": decided.profile_version,
            "validity_seconds": decided.validity_seconds,
            "key_algorithm": decided.key_algorithm,
            "job_type": str(job.type),
            "reason": decided.reason,
        },
        created_at=now,
        updated_at=now,
        required=profile.approvals_required,
    )
