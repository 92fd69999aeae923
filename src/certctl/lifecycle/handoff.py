"""Hands a certificate on: writes the jobs and first steps that other stages will run. Acts on nothing itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from certctl.core.actor import Actor, ActorType
from certctl.core.catalogue import IssuerRecord, Profile
from certctl.core.certificate import CLIENT_HOLDER, OWN_TLS_SOURCE, Certificate, RequestBody, VersionFacts
from certctl.core.errors import Conflict, Malformed, PolicyDenied, Violation
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.job import Job
from certctl.core.names import parse_names
from certctl.core.status import DeploymentStatus, JobStatus, JobType, StepKind, VersionStatus
from certctl.core.target import TargetRecord
from certctl.ledger import append
from certctl.lifecycle import compliance, facts, straight
from certctl.lifecycle.context import Context
from certctl.pki.csr import read_csr
from certctl.policy.issuance import choose_key_algorithm, judge_request
from certctl.store import catalogue, certificates, deployments, jobs
from certctl.store.tx import Tx
from certctl.telemetry import tracing

_DEFAULT_VALIDITY = 90 * 86400
REVOKE_REPLACED = "revoke_replaced"


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One new version asked for: by whom, for which key holder, why, replacing what."""

    type: JobType
    holder_id: str
    idempotency_key: str
    actor: Actor
    replaces_id: str = ""
    reason: str = ""
    csr_pem: str = ""
    extra: dict[str, Any] = {}
    # the batch that asks
    parent_id: str = ""
    # what is told before it, with it
    first: tuple[Event, ...] = ()


async def _refuse(
    tx: Tx, ctx: Context, certificate: Certificate, body: RequestBody, broken: Sequence[Violation]
) -> None:
    """Tell at once everything that profile, issuer and the organisation's rules have against it."""
    rules = await compliance.rules_in_force(tx, ctx)
    found = await compliance.judge_request(tx, ctx, rules, certificate, body)
    violations = (*broken, *compliance.blocking(found, body))
    if violations:
        raise PolicyDenied(violations)


async def request_body(tx: Tx, ctx: Context, certificate: Certificate, ask: Ask) -> RequestBody:
    """What will be approved: names, lifetime and key rule as profile and certificate say now."""
    own_tls = certificate.source == OWN_TLS_SOURCE and ask.actor.type is ActorType.SYSTEM
    known = await catalogue.as_first_seen(tx, ctx.scope, Profile, certificate.certificate_profile_id)
    profile = facts.binding(known, own_tls=own_tls)
    issuer = await catalogue.as_first_seen(tx, ctx.scope, IssuerRecord, certificate.issuer_id)
    body = RequestBody(
        common_name=certificate.common_name,
        names=_names(certificate),
        validity_seconds=_validity(certificate, profile),
        ekus=profile.allowed_ekus or ["serverAuth"],
        must_staple=profile.must_staple,
        key_algorithm=str(choose_key_algorithm(facts.profile_facts(profile))),
        profile_id=profile.id,
        profile_version=profile.version,
        issuer_id=issuer.id,
        csr_pem=ask.csr_pem,
        replaces_id=ask.replaces_id,
        reason=ask.reason,
        extra=ask.extra,
        own_tls=own_tls,
    )
    of_agent = ask.holder_id not in ("", CLIENT_HOLDER)
    asked = facts.issuance_facts(body, profile, issuer, of_agent=of_agent)
    if ask.csr_pem:  # refused now rather than by the job
        asked = msgspec.structs.replace(asked, csr_holds=facts.csr_holds(read_csr(ask.csr_pem)))
    await _refuse(tx, ctx, certificate, body, judge_request(asked))
    return body


def as_it_would_be_asked(body: RequestBody, certificate: Certificate, profile: Profile) -> RequestBody:
    """A request, as far as a decision binds to it, by what its certificate says now."""
    return msgspec.structs.replace(
        body,
        common_name=certificate.common_name,
        names=_names(certificate),
        validity_seconds=_validity(certificate, profile),
        profile_id=certificate.certificate_profile_id,
        issuer_id=certificate.issuer_id,
    )


def _names(certificate: Certificate) -> list[str]:
    return [f"{name.kind}:{name.value}" for name in parse_names(certificate.sans)]


def _validity(certificate: Certificate, profile: Profile) -> int:
    return certificate.validity_seconds or profile.max_ttl_seconds or _DEFAULT_VALIDITY


async def judge(tx: Tx, ctx: Context, certificate: Certificate, ask: Ask) -> None:
    """Refuse now what would be refused later: the request by every rule and, when it is there, its CSR."""
    body = await request_body(tx, ctx, certificate, ask)
    if not ask.csr_pem:
        return
    csr = read_csr(ask.csr_pem)
    profile = await catalogue.as_first_seen(tx, ctx.scope, Profile, body.profile_id)
    issuer = await catalogue.as_first_seen(tx, ctx.scope, IssuerRecord, body.issuer_id)
    violations = facts.csr_violations(body, profile, issuer, csr)
    if violations:
        raise PolicyDenied(violations)


class Draft(msgspec.Struct, frozen=True):
    """An issuing job that was judged and is yet to be written, and what asked for it; `decided` when it goes the short
    way.
    """

    job: Job
    certificate: Certificate
    ask: Ask
    decided: straight.Decided | None = None


async def issuance(tx: Tx, ctx: Context, certificate: Certificate, ask: Ask) -> Job:
    """Write an issuing job and its approve step; the same idempotency key gives the job already there."""
    (job,) = await write_drafts(tx, ctx, [await draft(tx, ctx, certificate, ask)])
    if job is None:
        raise Conflict(jobs.UNDER_WAY)
    return job


async def draft(tx: Tx, ctx: Context, certificate: Certificate, ask: Ask) -> Draft:
    """Judge what is asked for; writes nothing. PolicyDenied with everything that is against it."""
    now = ctx.now()
    with tracing.span("request", certificate_id=certificate.id, job_type=str(ask.type)) as span:
        body = await request_body(tx, ctx, certificate, ask)
        job = new_job(
            ctx,
            now,
            type=ask.type,
            certificate_id=certificate.id,
            holder_id=ask.holder_id,
            parent_id=ask.parent_id,
            agent_id="" if ask.holder_id == CLIENT_HOLDER else ask.holder_id,
            idempotency_key=ask.idempotency_key,
            body=msgspec.to_builtins(body),
            requested_by=ask.actor.id,
            max_attempts=8,
        )
        decided = await straight.decide(tx, ctx, certificate, body, ask.holder_id)
        if decided is not None:
            job = straight.begun(job, decided, now)
        span.note(job_id=job.id)
    return Draft(job, certificate, ask, decided)


async def write_drafts(tx: Tx, ctx: Context, drafts: Sequence[Draft]) -> list[Job | None]:
    """Write many issuing jobs, each with its approve step and its events; returns, in order, the jobs that stand: those
    already there by their idempotency keys, and None for whom another is under way.
    """
    made = [(each.job, live_key(each)) for each in drafts]
    stand = await jobs.create_jobs(tx, ctx.scope, made)
    fresh: list[str] = []
    told: list[Event] = []
    for each, job in zip(drafts, stand, strict=True):
        if job is None:
            continue
        if job is not each.job:
            told += each.ask.first
        elif each.decided is not None:
            events = (*each.ask.first, asked_event(each))
            await straight.hand_on(tx, ctx, each.certificate, job, each.decided, events)
        else:
            fresh.append(job.id)
            told += (*each.ask.first, asked_event(each))
    await next_steps(tx, ctx, fresh, StepKind.APPROVE)
    await append(tx, ctx.scope, ctx.now(), *told)
    return stand


def live_key(made: Draft) -> str:
    """One issuing job a key holder of a certificate is under way at a time."""
    return f"issue/{made.certificate.id}/{made.ask.holder_id}"


def asked_event(made: Draft) -> Event:
    """That it was asked for."""
    job, ask = made.job, made.ask
    return Event(
        type=EventType.RENEWAL_JOB_CREATED if ask.type == JobType.RENEWAL else EventType.ISSUANCE_REQUESTED,
        subject_type="certificate",
        subject_id=job.certificate_id,
        actor=ask.actor,
        details={"job_id": job.id, "holder_id": ask.holder_id, "reason": ask.reason},
    )


async def next_step(tx: Tx, ctx: Context, job_id: str, kind: StepKind) -> None:
    """Write a job's next step for a server. Whoever drives the job has it leased at once and runs it next.

    The lease is the one that a claim would have written in a transaction of its own: it lapses if the driver dies.
    """
    await next_steps(tx, ctx, [job_id], kind)


async def next_steps(tx: Tx, ctx: Context, job_ids: Sequence[str], kind: StepKind) -> None:
    """`next_step` for many jobs that go on alike."""
    now, handed = ctx.now(), ctx.handed
    if handed is None:
        await jobs.add_steps(tx, ctx.scope, job_ids, kind, now)
        return
    for job_id in job_ids:
        step = await jobs.add_leased_step(tx, ctx.scope, job_id, kind, now, owner=ctx.owner, lease=ctx.patience.lease)
        tx.after_commit(partial(handed.append, step))


async def revoke_replaced(tx: Tx, ctx: Context, version: VersionFacts) -> None:
    """Where a reissue asked for it: once all targets of the holder serve the new version, the old one is to go.

    Writes the job, once a version; the fact itself is written when that runs, if the old version is still not in use.
    """
    issued_by = (await jobs.jobs_by_id(tx, ctx.scope, [version.job_id])).get(version.job_id)
    wish = (issued_by.body.get("extra") or {}).get(REVOKE_REPLACED) if issued_by is not None else None
    if not wish or not version.replaces_id or version.status != VersionStatus.CURRENT:
        return
    certificate = await certificates.certificate(tx, ctx.scope, version.certificate_id)
    targets = await holder_targets(tx, ctx, certificate, version.holder_id)
    done = await deployments.deployments_of_versions(tx, ctx.scope, [version.id])
    seen = {one.target_id for one in done if one.status == DeploymentStatus.VERIFIED}
    if any(target.id not in seen for target in targets):
        return
    now = ctx.now()
    job = new_job(
        ctx,
        now,
        type=JobType.REVOCATION,
        certificate_id=certificate.id,
        holder_id=version.holder_id,
        version_id=version.replaces_id,
        idempotency_key=f"revoke-replaced/{version.id}",
        body={"reason": wish["reason"], "replaced": wish},
        requested_by=wish["actor"],
        max_attempts=50,
    )
    written = await jobs.create_job(tx, ctx.scope, job, live_key=None)
    if written.id == job.id:
        await jobs.add_step(tx, ctx.scope, job.id, StepKind.REVOKE, now)


async def revoke_all_replaced(tx: Tx, ctx: Context, versions: Sequence[VersionFacts]) -> None:
    """`revoke_replaced` for many versions: nothing more is read of those for which nobody wished it."""
    issued_by = await jobs.jobs_by_id(tx, ctx.scope, [version.job_id for version in versions if version.replaces_id])
    for version in versions:
        job = issued_by.get(version.job_id)
        if job is not None and REVOKE_REPLACED in (job.body.get("extra") or {}):
            await revoke_replaced(tx, ctx, version)


async def revocation(tx: Tx, ctx: Context, certificate: Certificate, *, actor: Actor, reason: str) -> Job:
    """Write the job that tells the CA and publishes the CRL; the facts themselves are already written."""
    now = ctx.now()
    job = new_job(
        ctx,
        now,
        type=JobType.REVOCATION,
        certificate_id=certificate.id,
        idempotency_key=f"revoke/{certificate.id}/{new_id('cycle')}",
        body={"reason": reason},
        requested_by=actor.id,
        max_attempts=50,
    )
    await jobs.create_job(tx, ctx.scope, job, live_key=None)
    await jobs.add_step(tx, ctx.scope, job.id, StepKind.REVOKE, now)
    return job


async def revoked(
    tx: Tx, ctx: Context, by: Mapping[str, Actor], *, reason: str, traceparents: Mapping[str, str]
) -> dict[str, Job]:
    """Write the jobs of revocations of which nobody has to be told: complete as the facts are, by certificate; each by
    whom and of which trace, or else of the one that is open here.
    """
    now = ctx.now()
    made = {
        certificate_id: new_job(
            ctx,
            now,
            type=JobType.REVOCATION,
            certificate_id=certificate_id,
            idempotency_key=f"revoke/{certificate_id}/{new_id('cycle')}",
            body={"reason": reason},
            requested_by=actor.id,
            max_attempts=1,
            status=JobStatus.COMPLETED,
            started_at=now,
            completed_at=now,
            traceparent=traceparents.get(certificate_id) or tracing.traceparent(),
        )
        for certificate_id, actor in by.items()
    }
    await jobs.insert_ended(tx, ctx.scope, list(made.values()))
    return made


async def holder_targets(tx: Tx, ctx: Context, certificate: Certificate, holder_id: str) -> list[TargetRecord]:
    """The targets of a certificate that one key holder serves."""
    targets = await certificates.targets_of(tx, ctx.scope, certificate.id)
    return [target for target in targets if target.agent_id == holder_id]


def require_known_holder(holder_id: str) -> None:
    """A request must say who holds the key."""
    if not holder_id:
        message = "nobody holds a key for this certificate: map a target to it (target_ids) or send a CSR"
        raise Malformed(message, violations=(Violation("no_key_holder", message, "target_ids"),))


def new_job(ctx: Context, now: datetime, **facts_of_job: object) -> Job:
    """A job that is yet to be written, with the trace that is open here."""
    blank: dict[str, object] = {
        "tenant_id": ctx.scope.tenant_id,
        "id": new_id("job"),
        "holder_id": "",
        "version_id": "",
        "target_id": "",
        "agent_id": "",
        "parent_id": "",
        "status": JobStatus.PENDING,
        "attempts": 0,
        "last_error": "",
        "error_kind": "",
        "scheduled_at": now,
        "started_at": None,
        "completed_at": None,
        "verification_status": "pending" if facts_of_job["type"] == JobType.DEPLOYMENT else "",
        "verified_at": None,
        "verification_error": "",
        "verification_fingerprint": "",
        "created_at": now,
        "traceparent": tracing.traceparent(),
    }
    return Job(**(blank | facts_of_job))  # type: ignore[arg-type]  # one blank for the four kinds of job
