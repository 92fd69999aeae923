"""Straight on: a request whose CSR came with it, that every rule allows and nobody has to approve, is approved and
prepared by the commit that asks for it. Only for whoever drives the job: the next step is theirs.

The verdicts are those of `approve` and `prepare`, by the same rules over the same facts, with the same events and a
step each. Whatever is not plainly yes goes the long way, stage by stage, and is settled there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from certctl.core.actor import Actor
from certctl.core.catalogue import IssuerRecord, Profile
from certctl.core.certificate import CLIENT_HOLDER, Certificate, RequestBody
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.job import Job, Step
from certctl.core.status import JobStatus, StepKind, StepStatus
from certctl.ledger import append
from certctl.lifecycle import compliance, facts
from certctl.lifecycle.context import Context, Known
from certctl.pki.csr import CsrFacts, csr_pem, read_csr
from certctl.policy.approval import needs_approval
from certctl.policy.rules.judge import Found
from certctl.store import catalogue, jobs
from certctl.store.tx import Tx

_BEHIND = (StepKind.APPROVE, StepKind.PREPARE)


class Decided(msgspec.Struct, frozen=True):
    """What the request has come to: the body, its CSR, who issues it, and what it breaks that is a mere warning."""

    body: RequestBody
    csr: CsrFacts
    issuer: IssuerRecord
    found: tuple[Found, ...]


async def decide(tx: Tx, ctx: Context, certificate: Certificate, body: RequestBody, holder_id: str) -> Decided | None:
    """The verdicts of approve and prepare, where both are yes now; None where the request goes the long way."""
    if ctx.handed is None or holder_id != CLIENT_HOLDER or not body.csr_pem:
        return None
    profile = await catalogue.as_first_seen(tx, ctx.scope, Profile, body.profile_id)
    issuer = await catalogue.as_first_seen(tx, ctx.scope, IssuerRecord, body.issuer_id)
    if needs_approval(facts.binding(profile, own_tls=body.own_tls)):
        return None
    rules = await compliance.rules_in_force(tx, ctx)
    found = await compliance.judge_request(tx, ctx, rules, certificate, body)
    csr = read_csr(body.csr_pem)
    broken = facts.csr_violations(body, profile, issuer, csr)
    if broken or compliance.blocking(found, body):
        return None
    kept = msgspec.structs.replace(
        body, csr_pem=csr_pem(csr.csr_der), decision_hash=facts.hash_of(body, profile_version=body.profile_version)
    )
    return Decided(kept, csr, issuer, found)


def begun(job: Job, decided: Decided, now: datetime) -> Job:
    """The job as prepare would have left it."""
    return msgspec.structs.replace(
        job, status=JobStatus.RUNNING, started_at=now, body=msgspec.to_builtins(decided.body)
    )


async def hand_on(
    tx: Tx, ctx: Context, certificate: Certificate, job: Job, decided: Decided, asked: Sequence[Event]
) -> None:
    """Write the steps of a job that `begun` made: two that are done and the one that its driver runs next. And the
    events of what was `asked` and decided.
    """
    now, handed = ctx.now(), ctx.handed
    if handed is None:
        raise AssertionError("only who drives a job goes straight on")
    await append(tx, ctx.scope, now, *asked, *events_of(ctx.actor, job, decided))
    await compliance.record(tx, ctx, await compliance.rules_in_force(tx, ctx), certificate, decided.found)
    steps = steps_of(ctx, job, now)
    await jobs.insert_steps(tx, ctx.scope, steps)

    def go_on() -> None:
        ctx.known[steps[-1].id] = Known(job, decided.issuer)
        handed.append(steps[-1])

    tx.after_commit(go_on)


def steps_of(ctx: Context, job: Job, now: datetime) -> list[Step]:
    """Two steps that are done, and the one that is leased to whoever drives the job."""
    kinds = (*_BEHIND, StepKind.ISSUE)
    ids = sorted(new_id("step") for _ in kinds)  # of one moment: they are told in the order of their ids
    return [_step(ctx, job, kind, step_id, now) for kind, step_id in zip(kinds, ids, strict=True)]


def events_of(actor: Actor, job: Job, decided: Decided) -> list[Event]:
    """What is told of a request that was approved, and whose CSR was taken, as it was written."""
    told: Sequence[tuple[EventType, dict[str, Any]]] = (
        (EventType.REQUEST_APPROVED, {"job_id": job.id, "decision_hash": decided.body.decision_hash}),
        (
            EventType.CSR_SUBMITTED,
            {"job_id": job.id, "holder_id": job.holder_id, "spki_sha256": decided.csr.spki_sha256},
        ),
    )
    return [
        Event(type=kind, subject_type="certificate", subject_id=job.certificate_id, actor=actor, details=details)
        for kind, details in told
    ]


def _step(ctx: Context, job: Job, kind: StepKind, step_id: str, now: datetime) -> Step:
    done = kind in _BEHIND
    return Step(
        tenant_id=ctx.scope.tenant_id,
        id=step_id,
        job_id=job.id,
        kind=kind,
        status=StepStatus.DONE if done else StepStatus.LEASED,
        agent_id="",
        run_at=now,
        attempts=1,
        lease_owner="" if done else ctx.owner,
        lease_until=None if done else now + ctx.patience.lease,
        fence=1,
        error_kind="",
        error="",
        created_at=now,
        ended_at=now if done else None,
    )
