"""revoke: the fact is written at once and OCSP and CRL speak of it; the CA is told after, until it has confirmed.

A certificate's every version that could still be trusted is revoked, or one named version. With `replace`, each key
holder is asked for a new key in the same transaction. Hands on to itself (tell the CA), then to publish. Of our own CA
there is nobody to tell: what it signed is revoked whole, by the hundred, in one transaction (`trigger_own`, ADR 36).
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

import structlog
from msgspec import Struct

from certctl.connectors.base.issuer import Revocation, Revokes, RevokesHere
from certctl.core.actor import Actor, ActorType
from certctl.core.catalogue import IssuerRecord
from certctl.core.certificate import CLIENT_HOLDER, EXTERNAL_HOLDER, Certificate, RevocationRecord, Version
from certctl.core.errors import CertctlError, Conflict, NotFound, Unsupported
from certctl.core.events import Event, EventType, Notice
from certctl.core.ids import new_id
from certctl.core.job import Job, Step
from certctl.core.scope import Scope
from certctl.core.status import CertificateStatus, JobStatus, JobType, StepKind, StepStatus, VersionStatus
from certctl.ledger import append, notify_all
from certctl.lifecycle import handoff, settle, standing
from certctl.lifecycle.context import Context
from certctl.pki.fingerprints import serial_int
from certctl.policy.revocation import parse_reason
from certctl.store import catalogue, certificates, jobs, revocations
from certctl.store.revocations import OwnVersion
from certctl.store.tx import WITNESS, Tx
from certctl.telemetry import points, tracing

log = structlog.get_logger(__name__)

# as many as one statement of facts takes without making the others wait long
_MOST_TOGETHER = 100


class Wish(Struct, frozen=True):
    """One certificate that somebody wants revoked, in which trace, and what is to be asked before it is committed."""

    certificate_id: str
    actor: Actor
    traceparent: str = ""
    witness: Callable[[Tx], Awaitable[None]] | None = None


async def trigger(
    ctx: Context,
    scope: Scope,
    actor: Actor,
    certificate_id: str,
    *,
    reason: str = "",
    version_id: str = "",
    replace: bool = False,
) -> Job:
    """Revoke now; revoking again adds nothing. Raises Malformed for an unknown reason, Conflict when nothing is
    left to revoke.

    Those who revoke at the same time what our own CA has signed go in one commit; whoever cannot goes alone.
    """
    if not replace and not version_id:
        wish = Wish(certificate_id, actor, tracing.traceparent(), WITNESS.get())
        job = await _together_of(ctx).revoke(ctx, scope, str(parse_reason(reason or "unspecified")), wish)
        if job is not None:
            return job
    async with ctx.database.begin("revoke") as tx:
        return await trigger_in(
            tx, ctx, scope, actor, certificate_id, reason=reason, version_id=version_id, replace=replace
        )


async def trigger_in(
    tx: Tx,
    ctx: Context,
    scope: Scope,
    actor: Actor,
    certificate_id: str,
    *,
    reason: str = "",
    version_id: str = "",
    replace: bool = False,
    once: bool = False,
) -> Job:
    """`trigger` in the caller's transaction. With `once` revoking again is a Conflict that says so."""
    parsed = parse_reason(reason or "unspecified")
    if not replace and not version_id:
        own = await trigger_own(tx, ctx, scope, actor, [certificate_id], str(parsed))
        if certificate_id in own:
            return own[certificate_id]
    certificate = await certificates.certificate(tx, scope, certificate_id, lock=True)
    chosen = await _versions(tx, ctx, certificate, version_id)
    if not replace and not version_id:
        await _stop_issuing(tx, ctx, certificate)
    revoked = [version for version in chosen if await _revoke(tx, ctx, certificate, version, actor, str(parsed))]
    if not revoked and certificate.status != CertificateStatus.REVOKED:
        raise Conflict("there is nothing to revoke: no version of this certificate is still valid")
    if not revoked and once:
        raise Conflict("it is revoked already, every version of it")
    whole = not await certificates.current_versions(tx, ctx.scope, certificate_id)
    if whole:
        await certificates.move_certificate(
            tx,
            ctx.scope,
            certificate_id,
            CertificateStatus.REVOKED,
            ctx.now(),
            revoked_at=ctx.now(),
            revocation_reason=str(parsed),
            status_reason=f"revoked: {parsed}",
            next_check_at=None,
        )
    if replace:
        await _replace(tx, ctx, certificate, revoked, actor)
    job = await handoff.revocation(tx, ctx, certificate, actor=actor, reason=str(parsed))
    await standing.refresh(tx, ctx, certificate_id)
    return job


class _Together:
    """The callers of one process that revoke at the same time. Who comes first is not kept waiting; who comes while a
    commit is out goes with the next, together with all who have the same rights and give the same reason.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[tuple[Any, ...], Context, Wish, asyncio.Future[Job | None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def revoke(self, ctx: Context, scope: Scope, reason: str, wish: Wish) -> Job | None:
        """Its job, or None when nothing was written: then its caller has to go alone, and is told what is wrong."""
        answer: asyncio.Future[Job | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(((ctx.scope, scope, reason), ctx, wish, answer))
        if self._task is None or self._task.done():
            # nobody's request in particular: it carries no request id, and no witness but those of the wishes
            self._task = asyncio.create_task(self._go(), name="revoke-together", context=contextvars.Context())
        return await asyncio.shield(answer)  # whoever goes away takes nobody's answer along

    async def _go(self) -> None:
        try:
            while self._waiting:
                await self._commit_next()
        finally:
            # the server ends: whoever waits still is told by their own way
            for _, _, _, answer in self._waiting:
                _tell(answer, None)

    async def _commit_next(self) -> None:
        key, ctx, _, _ = self._waiting[0]
        chosen: dict[str, tuple[Wish, asyncio.Future[Job | None]]] = {}
        left = []
        for waits in self._waiting:
            its_key, _, wish, answer = waits
            if its_key == key and wish.certificate_id not in chosen and len(chosen) < _MOST_TOGETHER:
                chosen[wish.certificate_id] = (wish, answer)
            else:
                left.append(waits)
        self._waiting = left
        written: Mapping[str, Job] = {}
        try:
            _, scope, reason = key
            written = await _commit_together(ctx, scope, reason, {name: one for name, (one, _) in chosen.items()})
        except CertctlError as error:
            # each goes alone, and meets it if it is theirs
            log.info("not_revoked_together", certificates=len(chosen), error=str(error))
        except Exception:
            log.exception(
                "not_revoked_together", certificates=len(chosen)
            )  # a fault of ours, which alone may not be met
        finally:
            for certificate_id, (_, answer) in chosen.items():
                _tell(answer, written.get(certificate_id))


def _tell(answer: asyncio.Future[Job | None], job: Job | None) -> None:
    if not answer.done():
        answer.set_result(job)


async def _commit_together(ctx: Context, scope: Scope, reason: str, wishes: Mapping[str, Wish]) -> dict[str, Job]:
    async with ctx.database.begin("revoke") as tx:
        written = await _revoke_own(tx, ctx, scope, reason, wishes)
        for certificate_id in written:
            witness = wishes[certificate_id].witness
            if witness is not None:
                tx.subjects = [("certificate", certificate_id)]
                await witness(tx)
        return written


# by database: what revokes is one queue a process
_TOGETHER: WeakKeyDictionary[Any, _Together] = WeakKeyDictionary()


def _together_of(ctx: Context) -> _Together:
    return _TOGETHER.setdefault(ctx.database, _Together())


async def trigger_own(
    tx: Tx, ctx: Context, scope: Scope, actor: Actor, certificate_ids: Sequence[str], reason: str
) -> dict[str, Job]:
    """Revoke those of these certificates that our own CA alone has signed and for which nothing is under way, in a few
    statements however many they are. The jobs that say so are complete: by certificate.

    Of the others nothing is written, and nothing is told: `trigger_in` does, one by one.
    """
    return await _revoke_own(tx, ctx, scope, str(parse_reason(reason or "unspecified")), _by(actor, certificate_ids))


def _by(actor: Actor, certificate_ids: Sequence[str]) -> dict[str, Wish]:
    return {certificate_id: Wish(certificate_id, actor) for certificate_id in certificate_ids}


async def _revoke_own(tx: Tx, ctx: Context, scope: Scope, reason: str, wishes: Mapping[str, Wish]) -> dict[str, Job]:
    """`trigger_own`, each certificate by who wishes it."""
    now, ids = ctx.now(), list(wishes)
    found = await revocations.lock_revocable(tx, scope, ids)
    chosen = await revocations.own_versions(tx, ctx.scope, [one.id for one in found], now)
    kinds = {version.issuer_type: version.issuer_id for of_it in chosen.values() for version in of_it}
    ours = {kind for kind, issuer_id in kinds.items() if await _revokes_here(tx, ctx, kind, issuer_id)}
    revoked = {one.id: one for one in found if one.id in chosen and {v.issuer_type for v in chosen[one.id]} <= ours}
    if not revoked:
        return {}
    by = {certificate_id: wishes[certificate_id].actor for certificate_id in revoked}
    facts = [_fact(ctx, one, version, by[one], reason, now) for one in revoked for version in chosen[one]]
    await revocations.mark_all_revoked(tx, ctx.scope, facts)
    await append(tx, ctx.scope, now, *(_told(fact, by[fact.certificate_id]) for fact in facts))
    await notify_all(tx, ctx.scope, now, [_notice(revoked[fact.certificate_id].name, fact) for fact in facts])
    traces = {certificate_id: wishes[certificate_id].traceparent for certificate_id in revoked}
    return await handoff.revoked(tx, ctx, by, reason=reason, traceparents=traces)


# by who opens issuers and their kind: no other issuer of that kind says otherwise
_HERE: WeakKeyDictionary[Any, dict[str, bool]] = WeakKeyDictionary()


async def _revokes_here(tx: Tx, ctx: Context, kind: str, issuer_id: str) -> bool:
    """Whether nobody has to be told of what issuers of this kind have signed: one of them is asked once a process."""
    known = _HERE.setdefault(ctx.open_issuer, {})
    if kind not in known:
        record = await catalogue.as_first_seen(tx, ctx.scope, IssuerRecord, issuer_id)
        known[kind] = isinstance(await ctx.open_issuer(record), RevokesHere)
    return known[kind]


async def _versions(tx: Tx, ctx: Context, certificate: Certificate, version_id: str) -> list[Version]:
    known = await certificates.versions_of(tx, ctx.scope, certificate.id)
    if version_id:
        known = [version for version in known if version.id == version_id]
        if not known:
            raise NotFound(f"certificate {certificate.id} has no version {version_id}")
    if known and all(version.holder_id == EXTERNAL_HOLDER for version in known):
        raise Conflict("certctl did not issue this certificate and cannot revoke it: revoke it at its own CA")
    known = [version for version in known if version.holder_id != EXTERNAL_HOLDER]
    # what has expired is trusted by nobody and would only swell the CRL (RFC 5280 3.3)
    return [version for version in known if version.status != VersionStatus.REVOKED and version.not_after > ctx.now()]


async def _stop_issuing(tx: Tx, ctx: Context, certificate: Certificate) -> None:
    for job in await jobs.live_jobs(tx, ctx.scope, certificate.id, (*standing.ISSUING, JobType.DEPLOYMENT)):
        await jobs.cancel_steps(tx, ctx.scope, job.id, ctx.now())
        await jobs.move_job(
            tx, ctx.scope, job.id, JobStatus.CANCELLED, ctx.now(), last_error="the certificate was revoked"
        )


async def _revoke(tx: Tx, ctx: Context, certificate: Certificate, version: Version, actor: Actor, reason: str) -> bool:
    now = ctx.now()
    fact = _fact(ctx, certificate.id, version, actor, reason, now)
    if not await revocations.mark_revoked(tx, ctx.scope, fact):
        return False
    await append(tx, ctx.scope, now, _told(fact, actor))
    await notify_all(tx, ctx.scope, now, [_notice(certificate.name, fact)])
    return True


def _fact(
    ctx: Context, certificate_id: str, version: Version | OwnVersion, actor: Actor, reason: str, now: datetime
) -> RevocationRecord:
    own = isinstance(version, OwnVersion)
    return RevocationRecord(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("rev"),
        certificate_id=certificate_id,
        version_id=version.id,
        issuer_id=version.issuer_id,
        ca_certificate_id=version.ca_certificate_id,
        serial_number=version.serial_number,
        reason=reason,
        revoked_by=actor.id,
        revoked_at=now,
        issuer_notified=own,
    )


def _told(fact: RevocationRecord, actor: Actor) -> Event:
    return Event(
        type=EventType.CERTIFICATE_REVOKED,
        subject_type="certificate",
        subject_id=fact.certificate_id,
        actor=actor,
        details={"version_id": fact.version_id, "serial_number": fact.serial_number, "reason": fact.reason},
    )


def _notice(name: str, fact: RevocationRecord) -> Notice:
    return Notice(
        type="Revocation",
        certificate_id=fact.certificate_id,
        severity="critical",
        message=f"{name} ({fact.serial_number}) was revoked: {fact.reason}",
        dedup_key=f"revoked/{fact.version_id}",
    )


async def _replace(tx: Tx, ctx: Context, certificate: Certificate, revoked: Sequence[Version], actor: Actor) -> None:
    fresh = await certificates.certificate(tx, ctx.scope, certificate.id, lock=True)
    # what a holder had until now is what is replaced, not an older version that was revoked along with it
    in_order = sorted(revoked, key=lambda one: (one.status == VersionStatus.CURRENT, one.created_at))
    for version in {version.holder_id: version for version in in_order}.values():
        if version.holder_id == CLIENT_HOLDER:
            continue  # the client holds its key; it comes back with a new CSR
        ask = handoff.Ask(
            type=JobType.RENEWAL,
            holder_id=version.holder_id,
            idempotency_key=f"replace/{version.id}",
            actor=actor,
            replaces_id=version.id,
            reason="replaces a revoked version",
        )
        await handoff.issuance(tx, ctx, fresh, ask)


async def run(ctx: Context, claimed: Sequence[Step]) -> None:
    """Tell each CA what was revoked; asked again after a crash, since revoking twice is once."""
    for step in claimed:
        async with ctx.database.read() as tx:
            job = (await jobs.jobs_by_id(tx, ctx.scope, [step.job_id]))[step.job_id]
        if "replaced" in job.body and not await _revoke_replaced(ctx, step, job):
            continue
        async with ctx.database.read() as tx:
            waiting = await revocations.revocations_to_tell(tx, ctx.scope, job.certificate_id)
        try:
            for fact in waiting:
                await _tell_ca(ctx, fact, tracing.traceparent() or job.traceparent)
        except Exception as error:
            async with ctx.database.begin("revoke.failed") as tx:
                await settle.fail(tx, ctx, step, error)
            continue
        await _confirmed(ctx, step, job, waiting)


async def _revoke_replaced(ctx: Context, step: Step, job: Job) -> bool:
    """Write the fact about a version that a reissue replaced. False, and nothing revoked, when it is in use again."""
    wish = job.body["replaced"]
    async with ctx.database.begin("revoke.replaced") as tx:
        await jobs.held_step(tx, ctx.scope, step.id, step.fence)
        certificate = await certificates.certificate(tx, ctx.scope, job.certificate_id, lock=True)
        version = await certificates.version(tx, ctx.scope, job.version_id)
        coming = await jobs.live_jobs(tx, ctx.scope, certificate.id, (JobType.DEPLOYMENT,))
        used = version.status == VersionStatus.CURRENT or any(one.version_id == version.id for one in coming)
        if used or version.not_after <= ctx.now():
            why = "not revoked: it is in use again" if used else "not revoked: it has expired"
            await jobs.end_step(tx, ctx.scope, step, StepStatus.DONE, ctx.now())
            await jobs.move_job(tx, ctx.scope, job.id, JobStatus.COMPLETED, ctx.now(), last_error=why)
            return False
        actor = Actor(wish["actor"], ActorType(wish["actor_type"]))
        await _revoke(tx, ctx, certificate, version, actor, wish["reason"])
        return True


async def _tell_ca(ctx: Context, fact: RevocationRecord, parent: str) -> None:
    async with ctx.database.read() as tx:
        issuer_record = await catalogue.get(tx, ctx.scope, IssuerRecord, fact.issuer_id)
        version = await certificates.version(tx, ctx.scope, fact.version_id)
    issuer = await ctx.open_issuer(issuer_record)
    if not isinstance(issuer, Revokes):
        raise Unsupported(
            f"issuer {fact.issuer_id} cannot revoke; revoke serial {fact.serial_number} at the CA by hand"
        )
    wish = Revocation(
        serial_number=serial_int(fact.serial_number),
        ca_certificate_id=fact.ca_certificate_id,
        leaf_der=version.leaf_der,
        reason=fact.reason,
        revoked_at=fact.revoked_at,
    )
    with tracing.span(
        "ca.revoke", parent=parent, kind="client", issuer_id=fact.issuer_id, certificate_id=fact.certificate_id
    ):
        points.reach("revoke.telling")
        await issuer.revoke(wish)
        points.reach("revoke.answered")


async def _confirmed(ctx: Context, step: Step, job: Job, told: Sequence[RevocationRecord]) -> None:
    now = ctx.now()
    async with ctx.database.begin("revoke.told") as tx:
        for fact in told:
            await revocations.confirm_revocation(tx, ctx.scope, fact.id)
        await jobs.end_step(tx, ctx.scope, step, StepStatus.DONE, now)
        await jobs.move_job(tx, ctx.scope, job.id, JobStatus.RUNNING, now)
        await jobs.add_step(tx, ctx.scope, job.id, StepKind.PUBLISH, now)
        event = Event(
            type=EventType.REVOCATION_CONFIRMED,
            subject_type="certificate",
            subject_id=job.certificate_id,
            actor=ctx.actor,
            details={"job_id": job.id, "revocations": [fact.id for fact in told]},
        )
        await append(tx, ctx.scope, now, event)
