"""approve: may it be issued? Every rule of profile, issuer and organisation is judged, every violation recorded.

Approved requests carry a hash of what was decided (names, profile version, issuer, lifetime, key rule); hands on to
prepare. Pure but for the rows: after a crash the verdict is the same. Where the profile wants a person's word the job
waits for `decide`; `lapse` ends what waits too long. Waiting never turns into issuing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from certctl.core.actor import Actor
from certctl.core.approval import Approval, Holder, Word
from certctl.core.catalogue import IssuerRecord, Profile
from certctl.core.certificate import CLIENT_HOLDER, Certificate, RequestBody
from certctl.core.errors import Conflict, NotAllowed, NotFound, PolicyDenied
from certctl.core.events import EventType
from certctl.core.job import Job, Step
from certctl.core.scope import Scope
from certctl.core.status import ApprovalState, JobStatus, StepKind
from certctl.ledger import append
from certctl.lifecycle import compliance, facts, handoff, settle, standing, verdicts
from certctl.lifecycle.context import Context
from certctl.policy.issuance import judge_request
from certctl.policy.rules.judge import Found, Rule
from certctl.store import approvals, catalogue, certificates, jobs, many_jobs, standings
from certctl.store.tx import Tx


async def run(ctx: Context, claimed: Sequence[Step]) -> None:
    """Judge each request; approved ones go on to prepare, all of them by a few statements."""
    async with ctx.database.begin("approve") as tx:
        known = await jobs.jobs_by_id(tx, ctx.scope, [step.job_id for step in claimed])
        rules = await compliance.rules_in_force(tx, ctx)
        named = [known[step.job_id].certificate_id for step in claimed] if rules else []
        held = await certificates.certificates_by_id(tx, ctx.scope, named)
        allowed: list[tuple[Step, verdicts.Allowed]] = []
        refused: list[tuple[Step, PolicyDenied]] = []
        broken: list[tuple[Certificate, tuple[Found, ...]]] = []
        for step in claimed:
            job = known[step.job_id]
            try:
                allowed.append((step, await _judge(tx, ctx, job, rules, held.get(job.certificate_id), broken)))
            except PolicyDenied as denied:
                refused.append((step, denied))
        await compliance.record_all(tx, ctx, rules, broken)
        if allowed:
            await verdicts.settle(tx, ctx, [step for step, _ in allowed], [one for _, one in allowed])
        for step, refusal in refused:
            await _deny(tx, ctx, step, known[step.job_id], refusal)


async def _judge(
    tx: Tx,
    ctx: Context,
    job: Job,
    rules: Sequence[Rule],
    certificate: Certificate | None,
    broken: list[tuple[Certificate, tuple[Found, ...]]],
) -> verdicts.Allowed:
    """PolicyDenied with everything that is against it; what it breaks of the organisation's rules goes to `broken`."""
    body = msgspec.convert(job.body, RequestBody)
    profile = await catalogue.as_first_seen(tx, ctx.scope, Profile, body.profile_id)
    issuer = await catalogue.as_first_seen(tx, ctx.scope, IssuerRecord, body.issuer_id)
    violations = judge_request(facts.issuance_facts(body, profile, issuer, of_agent=bool(job.agent_id)))
    if rules:
        if certificate is None:
            raise NotFound(f"no certificate {job.certificate_id}")
        found = await compliance.judge_request(tx, ctx, rules, certificate, body)
        broken.append((certificate, found))
        violations += compliance.blocking(found, body)
    if violations:
        raise PolicyDenied(violations)
    return verdicts.allowed(job, body, profile)


async def _go_on(tx: Tx, ctx: Context, job: Job, **values: Any) -> None:
    now = ctx.now()
    by_client = job.holder_id == CLIENT_HOLDER
    status = JobStatus.RUNNING if by_client else JobStatus.AWAITING_CSR
    await jobs.move_job(tx, ctx.scope, job.id, status, now, **values)
    if by_client:
        await handoff.next_step(tx, ctx, job.id, StepKind.PREPARE)
    else:
        await jobs.add_step(tx, ctx.scope, job.id, StepKind.PREPARE, now, agent_id=job.holder_id)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a person says of a request. `decision_hash`, when given, is what they saw; another one is a Conflict."""

    approved: bool
    note: str = ""
    decision_hash: str = ""


async def decide(ctx: Context, scope: Scope, actor: Actor, job_id: str, decision: Decision, by: Holder) -> Approval:
    """A person's word on a job that waits for it. That it is another person than asked is for the caller to know.

    One no ends it; it goes on with the last of the yeses that its profile asks for. NotFound outside the scope;
    Conflict when the job does not wait, was decided, or is no longer what was judged.
    """
    async with ctx.database.begin("approve.decide") as tx:
        job = (await jobs.jobs_by_id(tx, scope, [job_id])).get(job_id)
        if job is None:
            raise NotFound(f"no job {job_id}")
        certificate = await certificates.certificate(tx, scope, job.certificate_id, lock=True)
        job = (await jobs.jobs_by_id(tx, scope, [job_id]))[job_id]
        if job.status != JobStatus.AWAITING_APPROVAL:
            raise Conflict(f"job {job_id} is {job.status} and waits for nobody's approval")
        approval = await approvals.of_job(tx, ctx.scope, job_id)
        if approval is None:
            # it began to wait under a release that kept no such rows
            body = msgspec.convert(job.body, RequestBody)
            profile = await catalogue.get(tx, ctx.scope, Profile, body.profile_id)
            await approvals.insert(tx, ctx.scope, verdicts.approval_of(ctx, job, body, profile))
            approval = await approvals.of_job(tx, ctx.scope, job_id)
            if approval is None:
                raise AssertionError("an approval just written is there")
        profile = await catalogue.get(tx, ctx.scope, Profile, approval.profile_id)
        await _check_unchanged(tx, ctx, job, certificate, approval, decision, profile)
        state = await say(tx, ctx, approval, actor, by, decision, profile)
        if state == ApprovalState.APPROVED:
            await _go_on(tx, ctx, job)
        elif state == ApprovalState.REJECTED:
            await settle.reject_job(tx, ctx, job, f"rejected by {actor.id}" + _because(decision.note), actor=actor)
        details = {"job_id": job_id, "approval_id": approval.id, "decision_hash": approval.decision_hash}
        event = verdicts.event(_SAID[state], job, actor, details | {"note": decision.note, "person": by.person})
        await append(tx, ctx.scope, ctx.now(), event)
        await standing.refresh(tx, ctx, job.certificate_id)
        decided = await approvals.of_job(tx, ctx.scope, job_id)
    if decided is None:
        raise AssertionError("a decided approval is there")
    return decided


_SAID = {
    ApprovalState.APPROVED: EventType.REQUEST_APPROVED,
    ApprovalState.REJECTED: EventType.REQUEST_DENIED,
    ApprovalState.PENDING: EventType.APPROVAL_GIVEN,
}


async def say(
    tx: Tx, ctx: Context, approval: Approval, actor: Actor, by: Holder, decision: Decision, profile: Profile
) -> ApprovalState:
    """Write one person's word; returns what the approval then is, Pending while others are to say yes.

    Conflict when it was decided, or this person said yes before. NotAllowed for whom the profile does not name, and
    where one human was shown the values of two of the keys that say yes.
    """
    _check_named(profile, by)
    now = ctx.now()
    state = ApprovalState.REJECTED
    if decision.approved:
        _check_another(await approvals.words(tx, ctx.scope, approval.id), by)
        await approvals.add_word(tx, ctx.scope, approval, _word(ctx, approval, actor, by, decision))
        approval = msgspec.structs.replace(approval, given=approval.given + 1)
        if approval.given < approval.required:
            return ApprovalState.PENDING
        state = ApprovalState.APPROVED
    await approvals.decide(tx, ctx.scope, approval, state, now, decided_by=actor.id, note=decision.note)
    return state


def _check_named(profile: Profile, by: Holder) -> None:
    if profile.approvers and by.person not in profile.approvers:
        raise NotAllowed(f"profile {profile.id} names who decides, and {by.person} is none of them")


def _check_another(said: Sequence[Word], by: Holder) -> None:
    """Whoever says yes has not said so before, and shares no key with those who did."""
    for earlier in said:
        if earlier.person == by.person:
            raise Conflict(f"{by.person} has approved this before: it takes another person")
        shared = by.known_to & set(earlier.known_to)
        if shared:
            raise NotAllowed(
                f"{', '.join(sorted(shared))} was shown a key of both {earlier.person} and {by.person}: "
                "who holds a key that another made rotates it first, and then decides"
            )


def _word(ctx: Context, approval: Approval, actor: Actor, by: Holder, decision: Decision) -> Word:
    return Word(
        tenant_id=ctx.scope.tenant_id,
        approval_id=approval.id,
        person=by.person,
        actor=actor.id,
        known_to=sorted(by.known_to),
        note=decision.note,
        created_at=ctx.now(),
    )


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What one person's yes to many requests came to: how many went on, how many wait for others too, and why each of
    the rest may not be approved.
    """

    approved: int = 0
    given: int = 0
    refused: tuple[str, ...] = ()


async def approve_all(
    ctx: Context, scope: Scope, actor: Actor, job_ids: Sequence[str], decision: Decision, by: Holder
) -> Tally:
    """`decide`, a yes, on many jobs that wait, in one commit of a few statements: each is judged as alone, and has its
    event. What may not be approved waits on; what waits no more, or lies outside the scope, is passed over.
    """
    async with ctx.database.begin("approve.decide") as tx:
        named = {job.certificate_id for job in (await jobs.jobs_by_id(tx, ctx.scope, job_ids)).values()}
        held = await standings.locked(tx, scope, sorted(named))
        # behind the locks: as `decide` reads them
        found = (await jobs.jobs_by_id(tx, ctx.scope, job_ids)).values()
        waiting = [job for job in found if job.status == JobStatus.AWAITING_APPROVAL and job.certificate_id in held]
        asked = await approvals.of_jobs(tx, ctx.scope, [job.id for job in waiting])
        said = await approvals.words_of(tx, ctx.scope, [one.id for one in asked.values()])
        agreed: list[tuple[Job, Approval]] = []
        refused: list[str] = []
        for job in waiting:
            try:
                approval = asked.get(job.id)
                agreed.append((job, await _may_say_yes(tx, ctx, job, held, approval, said, decision, by)))
            except (Conflict, NotAllowed, PolicyDenied) as error:
                refused.append(error.message)
        await _say_yes(tx, ctx, actor, agreed, held, decision, by)
    went_on = sum(_is_last(approval) for _, approval in agreed)
    return Tally(approved=went_on, given=len(agreed) - went_on, refused=tuple(refused))


async def _may_say_yes(
    tx: Tx,
    ctx: Context,
    job: Job,
    held: Mapping[str, Certificate],
    approval: Approval | None,
    said: Mapping[str, Sequence[Word]],
    decision: Decision,
    by: Holder,
) -> Approval:
    if approval is None or approval.state != ApprovalState.PENDING:
        raise Conflict(f"job {job.id} is decided by itself")
    profile = await catalogue.as_first_seen(tx, ctx.scope, Profile, approval.profile_id)
    await _check_unchanged(tx, ctx, job, held[job.certificate_id], approval, decision, profile)
    _check_named(profile, by)
    _check_another(said.get(approval.id, ()), by)
    return approval


def _is_last(approval: Approval) -> bool:
    return approval.given + 1 >= approval.required


async def _say_yes(
    tx: Tx,
    ctx: Context,
    actor: Actor,
    agreed: Sequence[tuple[Job, Approval]],
    held: Mapping[str, Certificate],
    decision: Decision,
    by: Holder,
) -> None:
    """Count each yes; those that it was the last for go on."""
    if not agreed:
        return
    now = ctx.now()
    await approvals.add_words(tx, ctx.scope, [_word(ctx, one, actor, by, decision) for _, one in agreed])
    asked = [one for _, one in agreed]
    await approvals.count_yes(tx, ctx.scope, asked, _is_last, now, decided_by=actor.id, note=decision.note)
    done = [job for job, one in agreed if _is_last(one)]
    for by_client, status in ((True, JobStatus.RUNNING), (False, JobStatus.AWAITING_CSR)):
        these = [job for job in done if (job.holder_id == CLIENT_HOLDER) == by_client]
        await many_jobs.move_live(tx, ctx.scope, status, these, {job.id: job.body for job in these}, now)
    await verdicts.hand_to_holders(tx, ctx, done)
    told = [
        verdicts.event(
            _SAID[ApprovalState.APPROVED if _is_last(one) else ApprovalState.PENDING],
            job,
            actor,
            {
                "job_id": job.id,
                "approval_id": one.id,
                "decision_hash": one.decision_hash,
                "note": decision.note,
                "person": by.person,
            },
        )
        for job, one in agreed
    ]
    await append(tx, ctx.scope, now, *told)
    moved = [held[each] for each in dict.fromkeys(job.certificate_id for job in done)]
    await standing.write_all(tx, ctx, await standing.load_all(tx, ctx, moved) if moved else [])


def _because(note: str) -> str:
    return f": {note}" if note else ""


async def _check_unchanged(
    tx: Tx,
    ctx: Context,
    job: Job,
    certificate: Certificate,
    approval: Approval,
    decision: Decision,
    profile: Profile,
) -> None:
    """An approval covers what was judged and shown, and nothing that has changed since."""
    if decision.decision_hash and decision.decision_hash != approval.decision_hash:
        raise Conflict("this is not what you decided about: the request has another decision hash; look at it again")
    if not decision.approved:
        return
    body = msgspec.convert(job.body, RequestBody)
    if facts.hash_of(body, profile_version=profile.version) != approval.decision_hash:
        message = f"profile {body.profile_id} was changed after this was judged; reject it and let it be asked anew"
        raise Conflict(message)
    asked_now = handoff.as_it_would_be_asked(body, certificate, profile)
    if facts.hash_of(asked_now, profile_version=profile.version) != approval.decision_hash:
        message = f"certificate {certificate.id} was changed after this was judged; reject it and let it be asked anew"
        raise Conflict(message)
    rules = await compliance.rules_in_force(tx, ctx)
    broken = compliance.blocking(await compliance.judge_request(tx, ctx, rules, certificate, body), body)
    if broken:
        raise PolicyDenied(broken)


async def _deny(tx: Tx, ctx: Context, step: Step, job: Job, denied: PolicyDenied) -> None:
    told = [msgspec.to_builtins(violation) for violation in denied.violations]
    details = {"job_id": job.id, "violations": told}
    await append(tx, ctx.scope, ctx.now(), verdicts.event(EventType.REQUEST_DENIED, job, ctx.actor, details))
    await settle.fail(tx, ctx, step, denied)
