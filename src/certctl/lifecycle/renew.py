"""renew: whose next check is due? Each decision is the policy's; each renewal is a new request linked to what it
renews.

Reads an indexed range of `next_check_at`, never the whole inventory; writes jobs (unique per version and attempt) and
the next moment to look. Hands on to approve.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from msgspec import structs

from certctl.core.actor import Actor
from certctl.core.certificate import ACME_SOURCE, CLIENT_HOLDER, Certificate
from certctl.core.errors import CertctlError, Conflict, Malformed, NotFound, Temporary
from certctl.core.events import Event, EventType, Notice
from certctl.core.job import Job
from certctl.core.notification import incident
from certctl.core.scope import Scope
from certctl.core.status import LIVE_JOB, CertificateStatus, JobStatus, JobType
from certctl.ledger import append, notify_all
from certctl.lifecycle import handoff, rollout, standing, verdicts
from certctl.lifecycle.context import Context
from certctl.policy.revocation import parse_reason
from certctl.store import certificates, jobs, standings
from certctl.store.tx import Tx
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

_TOGETHER = 250
_LANES = 2
# what cannot even be looked at is looked at again after so long: it must not stand before the others for ever
_LOOK_AGAIN = timedelta(hours=1)

Extra = Mapping[str, Any]
_NOTHING: Extra = MappingProxyType({})


async def tick(ctx: Context) -> int:
    """Look at a page of the certificates whose check is due, longest due first; returns how many were looked at. Call
    again while it is not 0.

    A page is one commit: the facts of all are read together, and what is decided is written together. Where that fails
    the page is halved until the fault stands alone, so that it costs the others a few tries and holds none of them up.
    """
    seen: list[str] = []
    try:
        return await _page(ctx, None, seen)
    except Temporary:
        raise
    except Exception as error:
        if not seen:
            raise
        return await _halving(ctx, seen, error)


async def tick_all(ctx: Context) -> int:
    """Look at all whose check is due; returns how many were looked at.

    Two pages are under way at a time where the database takes two writers: while it writes one, the next is decided.
    No page holds a certificate of another's.
    """
    try:
        async with asyncio.TaskGroup() as group:
            lanes = [group.create_task(_lane(ctx)) for _ in range(_LANES)]
    except ExceptionGroup as failed:
        # what ended one ends both: one reason is told, as by a single lane
        raise failed.exceptions[0] from failed
    return sum(lane.result() for lane in lanes)


async def _lane(ctx: Context) -> int:
    looked = 0
    while found := await tick(ctx):
        looked += found
    return looked


async def _page(ctx: Context, among: Sequence[str] | None, seen: list[str]) -> int:
    """Look at those that are due (of `among`, when given); `seen` then holds their ids, whatever comes of it."""
    async with ctx.database.begin("renew") as tx:
        due = await standings.due(tx, ctx.scope, ctx.now(), _TOGETHER, among)
        seen[:] = [certificate.id for certificate in due]
        await _look(tx, ctx, due)
    return len(due)


async def _halving(ctx: Context, ids: Sequence[str], error: Exception) -> int:
    if len(ids) == 1:
        await _cannot_look(ctx, ids[0], error)
        return 1
    looked, half = 0, len(ids) // 2
    for part in (ids[:half], ids[half:]):
        try:
            looked += await _page(ctx, part, [])
        except Temporary:
            raise
        except Exception as again:
            looked += await _halving(ctx, part, again)
    return looked


async def _look(tx: Tx, ctx: Context, found: Sequence[Certificate]) -> None:
    """Decide about each, and write what was decided about all."""
    if not found:
        return
    stands = await standing.load_all(tx, ctx, found)
    due = [standing.due(one, ctx.now()) for one in stands]
    stands = await _deploy_again(tx, ctx, stands, due)
    needs = [(one, need) for one, of_it in zip(stands, due, strict=True) for need in of_it.issue]
    drafts = await _drafts(tx, ctx, needs, ctx.actor, _NOTHING)
    written = iter(await handoff.write_drafts(tx, ctx, [one for one in drafts if isinstance(one, handoff.Draft)]))
    asked: dict[str, list[Job]] = defaultdict(list)
    refused: list[tuple[Certificate, CertctlError]] = []
    for (one, _need), made in zip(needs, drafts, strict=True):
        job = made if isinstance(made, CertctlError) else next(written) or Conflict(jobs.UNDER_WAY)
        if isinstance(job, CertctlError):
            refused.append((one.certificate, job))
        else:
            asked[one.certificate.id].append(job)
    changed = await _cannot(tx, ctx, refused)
    stands = [_after(one, changed.get(one.certificate.id), asked[one.certificate.id]) for one in stands]
    await standing.write_all(tx, ctx, stands)


async def _deploy_again(
    tx: Tx, ctx: Context, stands: Sequence[standing.Standing], due: Sequence[standing.Due]
) -> list[standing.Standing]:
    """Deploy what is due to be deployed again; the standings as they are then."""
    again = [one.certificate for one, of_it in zip(stands, due, strict=True) if of_it.deploy]
    for one, of_it in zip(stands, due, strict=True):
        for unserved in of_it.deploy:
            await rollout.deploy_to(
                tx,
                ctx,
                one.certificate,
                unserved.version,
                [unserved.target],
                actor=ctx.actor,
                attempt=f"again-{unserved.attempts}",
            )
    reloaded = {one.certificate.id: one for one in await standing.load_all(tx, ctx, again)} if again else {}
    return [reloaded.get(one.certificate.id, one) for one in stands]


def _after(one: standing.Standing, changed: Certificate | None, written: Sequence[Job]) -> standing.Standing:
    live = tuple(job for job in written if job.status in LIVE_JOB)
    return structs.replace(one, certificate=changed or one.certificate, live=one.live + live)


async def _drafts(
    tx: Tx,
    ctx: Context,
    needs: Sequence[tuple[standing.Standing, standing.Need]],
    actor: Actor,
    extra: Extra,
    parent_id: str = "",
) -> list[handoff.Draft | CertctlError]:
    """What is to be asked for each need, judged, or why it may not be asked for. Writes nothing."""
    ids = list(dict.fromkeys(one.certificate.id for one, _ in needs))
    tried = await standings.attempts(tx, ctx.scope, ids, "renew/") if ids else {}
    made: list[handoff.Draft | CertctlError] = []
    for one, need in needs:
        stem = f"renew/{one.certificate.id}/{need.holder_id}/{need.replaces_id}/"
        ask = handoff.Ask(
            type=JobType.RENEWAL if need.replaces_id else JobType.ISSUANCE,
            holder_id=need.holder_id,
            idempotency_key=f"{stem}{tried.get(stem, 0)}",
            actor=actor,
            replaces_id=need.replaces_id,
            reason=need.reason,
            extra=dict(extra),
            parent_id=parent_id,
        )
        try:
            made.append(await handoff.draft(tx, ctx, one.certificate, ask))
        except CertctlError as error:
            made.append(error)
    return made


async def _cannot(tx: Tx, ctx: Context, refused: Sequence[tuple[Certificate, CertctlError]]) -> dict[str, Certificate]:
    """The profile no longer allows it, or its issuer is gone: told, and visible on the certificate, which is tried
    again later. Returns the certificates as they are to be written.
    """
    now = ctx.now()
    changed: dict[str, Certificate] = {}
    events: list[Event] = []
    notices: list[Notice] = []
    for certificate, error in refused:
        message = f"renewal cannot be requested: {error.message}"
        failures = certificate.failures + 1
        changed[certificate.id] = structs.replace(
            certificate, failures=failures, last_failure_at=now, status_reason=message
        )
        events.append(_failed(ctx, certificate.id, error.message, error.code))
        notice = Notice(
            type="RenewalFailure",
            certificate_id=certificate.id,
            severity="warning",
            message=f"{certificate.name} cannot be renewed: {error.message}",
            dedup_key=f"renewal-refused/{certificate.id}/{failures}/{now.isoformat()}",
            incident=incident("renew", certificate.id),
        )
        notices.append(notice)
    await append(tx, ctx.scope, now, *events)
    await notify_all(tx, ctx.scope, now, notices)
    return changed


async def _cannot_look(ctx: Context, certificate_id: str, error: Exception) -> None:
    """One whose facts do not hold together: told, and looked at again later, behind the others."""
    if isinstance(error, CertctlError):
        code, message = error.code, error.message
        log.warning("certificate_not_looked_at", certificate_id=certificate_id, error=message)
    else:
        code, message = "internal", f"unexpected {type(error).__name__}; see the server's log"
        log.error("certificate_not_looked_at", certificate_id=certificate_id, exc_info=error)
    now = ctx.now()
    async with ctx.database.begin("renew") as tx:
        still = await standings.due(tx, ctx.scope, now, 1, [certificate_id])
        if not still:  # another has come to it meanwhile
            return
        certificate = still[0]
        await certificates.change_certificate(
            tx,
            ctx.scope,
            certificate_id,
            now,
            failures=certificate.failures + 1,
            last_failure_at=now,
            next_check_at=now + _LOOK_AGAIN,
            status_reason=f"its renewal cannot be decided: {message}",
        )
        await append(tx, ctx.scope, now, _failed(ctx, certificate_id, message, code))
        notice = Notice(
            type="RenewalFailure",
            certificate_id=certificate_id,
            severity="warning",
            message=f"whether {certificate.name} is to be renewed cannot be decided: {message}",
            dedup_key=f"renewal-undecided/{certificate_id}/{certificate.failures + 1}/{now.isoformat()}",
            incident=incident("renew", certificate_id),
        )
        await notify_all(tx, ctx.scope, now, [notice])


def _failed(ctx: Context, certificate_id: str, message: str, code: str) -> Event:
    return Event(
        type=EventType.RENEWAL_JOB_FAILED,
        subject_type="certificate",
        subject_id=certificate_id,
        actor=ctx.actor,
        details={"error": message, "error_kind": code},
    )


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
    extra: Extra = _NOTHING,
) -> list[Job]:
    """`trigger` in the caller's transaction, so that whatever asked for it is written with it or not at all.

    `extra` is kept with each request for the stages that come after.
    """
    made = (await trigger_all(tx, ctx, scope, actor, [certificate_id], force=force, extra=extra))[certificate_id]
    if isinstance(made, CertctlError):
        raise made
    return made


async def trigger_all(
    tx: Tx,
    ctx: Context,
    scope: Scope,
    actor: Actor,
    ids: Sequence[str],
    *,
    force: bool = False,
    extra: Extra = _NOTHING,
    wish: bool = False,
    parent_id: str = "",
) -> dict[str, list[Job] | CertctlError]:
    """`trigger_in` for many, in the caller's transaction: the jobs of each, or why it has none, by certificate. Of one
    that is refused nothing is written.

    With `wish`, one that an ACME client holds has no jobs: its holder is asked to replace it (RFC 9773). What a batch
    (`parent_id`) asks for is approved with the commit that asks, or begins to wait for people with it.
    """
    found = await standings.locked(tx, scope, ids)
    done: dict[str, list[Job] | CertctlError] = {
        each: NotFound(f"no certificate {each}") for each in ids if each not in found
    }
    done |= {each: error for each, one in found.items() if (error := _out_of_reach(one)) is not None}
    stands = await standing.load_all(tx, ctx, [one for each, one in found.items() if each not in done])
    if wish:
        theirs = [one for one in stands if _is_told(one)]
        await _ask_holders(tx, ctx, theirs, actor)
        done |= {one.certificate.id: [] for one in theirs}
        stands = [one for one in stands if one.certificate.id not in done]
    done |= {one.certificate.id: error for one in stands if (error := _not_now(one, force=force)) is not None}
    stands = [one for one in stands if one.certificate.id not in done]
    needs = [(one, need) for one in stands for need in _everyone(one)]
    drafts: dict[str, list[handoff.Draft]] = {one.certificate.id: [] for one in stands}
    for (one, _need), made in zip(needs, await _drafts(tx, ctx, needs, actor, extra, parent_id), strict=True):
        if isinstance(made, CertctlError):
            done.setdefault(one.certificate.id, made)
        else:
            drafts[one.certificate.id].append(made)
    stands = [one for one in stands if one.certificate.id not in done]
    stands = [await _without_live(tx, ctx, one) for one in stands]
    write = verdicts.ask if parent_id else handoff.write_drafts
    written = await write(tx, ctx, [each for one in stands for each in drafts[one.certificate.id]])
    asked: dict[str, list[Job]] = defaultdict(list)
    for job in written:
        if job is None:
            raise Conflict(jobs.UNDER_WAY)
        asked[job.certificate_id].append(job)
    await append(tx, ctx.scope, ctx.now(), *(_triggered(actor, each, made, force) for each, made in asked.items()))
    await standing.write_all(tx, ctx, [_after(one, None, asked[one.certificate.id]) for one in stands])
    return done | asked


def _is_told(one: standing.Standing) -> bool:
    """Whether somebody who asks for renewal information holds the key; whoever sends a CSR by himself never would."""
    return one.certificate.source == ACME_SOURCE and not one.holders and CLIENT_HOLDER in one.current


async def _ask_holders(tx: Tx, ctx: Context, stands: Sequence[standing.Standing], actor: Actor) -> None:
    """The clients that hold these keys are asked to replace what they have; renewal information tells them."""
    now = ctx.now()
    if not stands:
        return
    wished: list[standing.Standing] = []
    events: list[Event] = []
    for one in stands:
        version = one.current[CLIENT_HOLDER]
        told = structs.replace(version, replacement_wished_at=version.replacement_wished_at or now)
        wished.append(structs.replace(one, current={**one.current, CLIENT_HOLDER: told}))
        event = Event(
            type=EventType.REPLACEMENT_WISHED,
            subject_type="certificate",
            subject_id=one.certificate.id,
            actor=actor,
            details={"version_id": version.id, "serial_number": version.serial_number},
        )
        events.append(event)
    await standings.wish_replaced(tx, ctx.scope, [one.current[CLIENT_HOLDER].id for one in stands], now)
    await append(tx, ctx.scope, now, *events)
    await standing.write_all(tx, ctx, wished)


def _out_of_reach(certificate: Certificate) -> CertctlError | None:
    if certificate.status == CertificateStatus.ARCHIVED:
        return Malformed(f"certificate {certificate.id} is archived; create a new one instead")
    if certificate.is_unclaimed:
        return Conflict("it was imported and nobody has claimed it; POST .../claim says who issues it from now on")
    return None


def _not_now(one: standing.Standing, *, force: bool) -> CertctlError | None:
    if one.live and not force:
        return Conflict(f"an issuance is already under way (job {one.live[0].id}); force=true replaces it")
    if not _everyone(one):
        return Conflict("nobody holds a key for this certificate: map a target to it, or send a CSR")
    return None


async def _without_live(tx: Tx, ctx: Context, one: standing.Standing) -> standing.Standing:
    """What is under way is cancelled: it is replaced."""
    for job in one.live:
        await jobs.cancel_steps(tx, ctx.scope, job.id, ctx.now())
        await jobs.move_job(
            tx, ctx.scope, job.id, JobStatus.CANCELLED, ctx.now(), last_error="replaced by a forced renewal"
        )
    return structs.replace(one, live=()) if one.live else one


def _triggered(actor: Actor, certificate_id: str, written: Sequence[Job], force: bool) -> Event:
    return Event(
        type=EventType.RENEWAL_TRIGGERED,
        subject_type="certificate",
        subject_id=certificate_id,
        actor=actor,
        details={"jobs": [job.id for job in written], "force": force},
    )


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
