"""renew: whose next check is due? Each decision is the policy's; each renewal is a new request linked to what it
renews.

Reads an indexed range of `next_check_at`, never the whole inventory; writes jobs (unique per version and attempt) and
the next moment to look. Hands on to approve.
"""

from __future__ import annotations

from typing import Any

from certctl.core.actor import Actor
from certctl.core.certificate import Certificate
from certctl.core.errors import CertctlError, Conflict, Malformed
from certctl.core.events import Event, EventType, Notice
from certctl.core.job import Job
from certctl.core.notification import incident
from certctl.core.scope import Scope
from certctl.core.status import CertificateStatus, JobStatus, JobType
from certctl.ledger import append, notify
from certctl.lifecycle import handoff, standing
from certctl.lifecycle.context import Context
from certctl.policy.revocation import parse_reason
from certctl.store import certificates, jobs
from certctl.store.tx import Tx

_BATCH = 200


async def tick(ctx: Context) -> int:
    """Look at every certificate whose check is due; returns how many were looked at. Call again while it is not 0."""
    async with ctx.database.begin("renew") as tx:
        due = await certificates.due_for_check(tx, ctx.scope, ctx.now(), _BATCH)
        for certificate in due:
            await _look(tx, ctx, certificate)
        return len(due)


async def _look(tx: Tx, ctx: Context, certificate: Certificate) -> None:
    now = ctx.now()
    current = await standing.load(tx, ctx, certificate)
    due = standing.due(current, now)
    # what was read under the row's lock stands for as long as nothing but jobs is written
    stands = not due.deploy
    for unserved in due.deploy:
        await handoff.deploy_to(
            tx,
            ctx,
            certificate,
            unserved.version,
            [unserved.target],
            actor=ctx.actor,
            attempt=f"again-{unserved.attempts}",
        )
    for need in due.issue:
        try:
            await _ask(tx, ctx, certificate, need, ctx.actor)
        except CertctlError as error:
            # the profile no longer allows it, or its issuer is gone: visible on the certificate, tried again later
            stands = False
            await _cannot(tx, ctx, certificate, error)
    await standing.refresh(tx, ctx, certificate.id, current if stands else None)


async def _ask(
    tx: Tx,
    ctx: Context,
    certificate: Certificate,
    need: standing.Need,
    actor: Actor,
    extra: dict[str, Any] | None = None,
) -> Job:
    stem = f"renew/{certificate.id}/{need.holder_id}/{need.replaces_id}/"
    attempt = await jobs.job_count(tx, ctx.scope, certificate.id, stem)
    return await handoff.issuance(
        tx,
        ctx,
        certificate,
        handoff.Ask(
            type=JobType.RENEWAL if need.replaces_id else JobType.ISSUANCE,
            holder_id=need.holder_id,
            idempotency_key=f"{stem}{attempt}",
            actor=actor,
            replaces_id=need.replaces_id,
            reason=need.reason,
            extra=extra or {},
        ),
    )


async def _cannot(tx: Tx, ctx: Context, certificate: Certificate, error: CertctlError) -> None:
    now = ctx.now()
    await certificates.change_certificate(
        tx,
        ctx.scope,
        certificate.id,
        now,
        failures=certificate.failures + 1,
        last_failure_at=now,
        status_reason=f"renewal cannot be requested: {error.message}",
    )
    event = Event(
        type=EventType.RENEWAL_JOB_FAILED,
        subject_type="certificate",
        subject_id=certificate.id,
        actor=ctx.actor,
        details={"error": error.message, "error_kind": error.code},
    )
    await append(tx, ctx.scope, now, event)
    notice = Notice(
        type="RenewalFailure",
        certificate_id=certificate.id,
        severity="warning",
        message=f"{certificate.name} cannot be renewed: {error.message}",
        dedup_key=f"renewal-refused/{certificate.id}/{certificate.failures + 1}/{now.isoformat()}",
        incident=incident("renew", certificate.id),
    )
    await notify(tx, ctx.scope, now, notice)


async def policy_changed(tx: Tx, ctx: Context, renewal_policy_id: str) -> None:
    """An edited policy decides anew for each of its certificates, from the next tick on."""
    await certificates.look_again(tx, ctx.scope, renewal_policy_id, ctx.now())


async def trigger(ctx: Context, scope: Scope, actor: Actor, certificate_id: str, *, force: bool = False) -> list[Job]:
    """Renew now, every key holder. Conflict while an issuance is under way, unless `force` cancels and replaces it."""
    async with ctx.database.begin("renew") as tx:
        return await trigger_in(tx, ctx, scope, actor, certificate_id, force=force)


async def trigger_in(
    tx: Tx,
    ctx: Context,
    scope: Scope,
    actor: Actor,
    certificate_id: str,
    *,
    force: bool = False,
    extra: dict[str, Any] | None = None,
) -> list[Job]:
    """`trigger` in the caller's transaction, so that whatever asked for it is written with it or not at all.

    `extra` is kept with each request for the stages that come after.
    """
    certificate = await certificates.certificate(tx, scope, certificate_id, lock=True)
    if certificate.status == CertificateStatus.ARCHIVED:
        raise Malformed(f"certificate {certificate_id} is archived; create a new one instead")
    if certificate.is_unclaimed:
        raise Conflict("it was imported and nobody has claimed it; POST .../claim says who issues it from now on")
    before = await standing.load(tx, ctx, certificate)
    if before.live and not force:
        raise Conflict(f"an issuance is already under way (job {before.live[0].id}); force=true replaces it")
    for job in before.live:
        await jobs.cancel_steps(tx, ctx.scope, job.id, ctx.now())
        await jobs.move_job(
            tx, ctx.scope, job.id, JobStatus.CANCELLED, ctx.now(), last_error="replaced by a forced renewal"
        )
    needed = _everyone(before)
    if not needed:
        raise Conflict("nobody holds a key for this certificate: map a target to it, or send a CSR")
    written = [await _ask(tx, ctx, certificate, need, actor, extra) for need in needed]
    event = Event(
        type=EventType.RENEWAL_TRIGGERED,
        subject_type="certificate",
        subject_id=certificate_id,
        actor=actor,
        details={"jobs": [job.id for job in written], "force": force},
    )
    await append(tx, ctx.scope, ctx.now(), event)
    await standing.refresh(tx, ctx, certificate_id, before)
    return written


async def reissue(
    ctx: Context, scope: Scope, actor: Actor, certificate_id: str, *, revoke_old: bool, reason: str, force: bool = False
) -> list[Job]:
    """A new key and version for every holder; with `revoke_old` each old one is revoked once its successor is seen
    served on all of its holder's targets, never before.
    """
    parsed = parse_reason(reason or "superseded")
    wish = {"reason": str(parsed), "actor": actor.id, "actor_type": str(actor.type)}
    async with ctx.database.begin("renew") as tx:
        extra = {handoff.REVOKE_REPLACED: wish} if revoke_old else {}
        written = await trigger_in(tx, ctx, scope, actor, certificate_id, force=force, extra=extra)
        event = Event(
            type=EventType.REISSUE_TRIGGERED,
            subject_type="certificate",
            subject_id=certificate_id,
            actor=actor,
            details={"jobs": [job.id for job in written], "revoke_old": revoke_old, "reason": str(parsed)},
        )
        await append(tx, ctx.scope, ctx.now(), event)
    return written


def _everyone(found: standing.Standing) -> list[standing.Need]:
    return [
        standing.Need(holder_id, found.current[holder_id].id if holder_id in found.current else "", "asked for")
        for holder_id in found.holders
    ]
