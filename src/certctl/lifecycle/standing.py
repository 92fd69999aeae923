"""What a certificate's row says of it, recomputed from its versions, policy and live jobs after every change.

Status, expires_at and next_check_at are never set by hand elsewhere: one truth, one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from msgspec import Struct, structs

from certctl.core.catalogue import RenewalPolicy
from certctl.core.certificate import CLIENT_HOLDER, EXTERNAL_HOLDER, Certificate, Version, VersionFacts
from certctl.core.errors import NotFound
from certctl.core.events import Event, EventType, Notice
from certctl.core.job import Job
from certctl.core.status import CERTIFICATE, CertificateStatus, DeploymentStatus, JobType
from certctl.core.target import Deployment, TargetRecord
from certctl.ledger import append, notify_all
from certctl.lifecycle import facts, incidents
from certctl.lifecycle.context import Context
from certctl.policy import renewal
from certctl.store import asked, catalogue, certificates, deployments, jobs, standings
from certctl.store.asked import SuggestionRecord
from certctl.store.tx import Tx

ISSUING = (JobType.ISSUANCE, JobType.RENEWAL)
_FIRST_RETRY = timedelta(minutes=1)
_LONGEST_RETRY = timedelta(days=1)
# a deployment that was given up is tried again by itself: the host may be mended, and the old certificate still ends
_FIRST_REDEPLOY = timedelta(minutes=10)
_LONGEST_REDEPLOY = timedelta(hours=6)
_NOT_OURS = frozenset({CLIENT_HOLDER, EXTERNAL_HOLDER})
_UNSERVED = frozenset({DeploymentStatus.FAILED, DeploymentStatus.DRIFTED})


class Unserved(Struct, frozen=True):
    """A target whose last deployment of its holder's current version failed; tried again at `again_at`."""

    target: TargetRecord
    version: VersionFacts
    attempts: int
    again_at: datetime


class Standing(Struct, frozen=True):
    """A certificate with everything its next decision needs."""

    certificate: Certificate
    policy: RenewalPolicy
    current: Mapping[str, VersionFacts]
    live: tuple[Job, ...]
    holders: tuple[str, ...]
    unserved: tuple[Unserved, ...]
    suggested: Mapping[str, SuggestionRecord]
    targets: tuple[TargetRecord, ...] = ()
    # whether anybody was told of something that has begun with it
    was_told_of: bool = True

    def holder_is_busy(self, holder_id: str) -> bool:
        """Whether an issuing job of this key holder is under way."""
        return any(job.holder_id == holder_id for job in self.live)


class Need(Struct, frozen=True):
    """One key holder that should get a new version now, and why. `replaces_id` is empty for a first one."""

    holder_id: str
    replaces_id: str
    reason: str


class Due(Struct, frozen=True):
    """What is to be done for a certificate now, and when to look again."""

    issue: tuple[Need, ...]
    deploy: tuple[Unserved, ...]
    next_check_at: datetime | None


async def load(tx: Tx, ctx: Context, certificate: Certificate) -> Standing:
    """Gather a certificate's standing."""
    (found,) = await load_all(tx, ctx, [certificate])
    return found


async def load_all(tx: Tx, ctx: Context, found: Sequence[Certificate]) -> list[Standing]:
    """Gather the standings of many certificates, in order, each kind of fact by one statement for all."""
    ids = [certificate.id for certificate in found]
    policies = [await _policy(tx, ctx, certificate) for certificate in found]
    current = await standings.current_versions(tx, ctx.scope, ids)
    targets = await standings.targets(tx, ctx.scope, ids)
    live = await standings.live_jobs(tx, ctx.scope, ids, ISSUING)
    holders = {each: dict.fromkeys(target.agent_id for target in targets[each] if target.agent_id) for each in ids}
    for each, known in holders.items():
        if known:
            # a host that no longer serves the certificate is neither renewed for nor counted in when it ends
            current[each] = {holder_id: version for holder_id, version in current[each].items() if holder_id in known}
    done = await _deployments(tx, ctx, targets, current)
    versions = [version for each in ids for version in current[each].values()]
    suggested = await _suggested(tx, ctx, versions)
    return [
        Standing(
            certificate=certificate,
            policy=policy,
            current=current[certificate.id],
            live=tuple(live[certificate.id]),
            holders=tuple(holders[certificate.id]),
            unserved=_unserved(targets[certificate.id], current[certificate.id], done),
            suggested=suggested,
            targets=tuple(targets[certificate.id]),
        )
        for certificate, policy in zip(found, policies, strict=True)
    ]


async def of_new(tx: Tx, ctx: Context, certificate: Certificate) -> Standing:
    """The standing of a certificate that this transaction has just written, with no target."""
    return _unread(certificate, await _policy(tx, ctx, certificate), {})


def of_watched(certificate: Certificate, version: VersionFacts) -> Standing:
    """The standing of an unclaimed certificate with this version: nobody holds or serves it here, nothing is read."""
    return _unread(certificate, _watching(certificate), {version.holder_id: version})


def _unread(certificate: Certificate, policy: RenewalPolicy, current: Mapping[str, VersionFacts]) -> Standing:
    """Of what this transaction itself writes, with no target: there is nothing else to read of it."""
    return Standing(
        certificate=certificate,
        policy=policy,
        current=current,
        live=(),
        holders=(),
        unserved=(),
        suggested={},
    )


async def _suggested(tx: Tx, ctx: Context, versions: Sequence[VersionFacts]) -> Mapping[str, SuggestionRecord]:
    """What CAs said of the versions that came from one that is not ours."""
    foreign = tuple(version.id for version in versions if not version.ca_certificate_id)
    return await asked.suggestions(tx, ctx.scope, foreign)


async def _policy(tx: Tx, ctx: Context, certificate: Certificate) -> RenewalPolicy:
    policy_id = certificate.renewal_policy_id
    if policy_id or not certificate.is_unclaimed:
        try:
            return await catalogue.as_first_seen(tx, ctx.scope, RenewalPolicy, policy_id)
        except NotFound as error:
            raise NotFound(f"certificate {certificate.id} names renewal policy {policy_id}, which is gone") from error
    return _watching(certificate)


def _watching(certificate: Certificate) -> RenewalPolicy:
    """Nobody has said when it is renewed, and nobody here could: it is only watched."""
    return RenewalPolicy(
        tenant_id=certificate.tenant_id,
        id="",
        name="",
        renewal_window_days=None,
        renewal_window_fraction=None,
        auto_renew=False,
        max_retries=0,
        retry_interval_seconds=0,
        alert_thresholds_days=[30, 14, 7, 0],
        alert_channels={},
        alert_severity_map={},
        certificate_profile_id="",
        created_at=certificate.created_at,
        updated_at=certificate.updated_at,
    )


async def _deployments(
    tx: Tx,
    ctx: Context,
    targets: Mapping[str, Sequence[TargetRecord]],
    current: Mapping[str, Mapping[str, VersionFacts]],
) -> Mapping[tuple[str, str], list[Deployment]]:
    """Every deployment of what targets are to serve, oldest first, by (target, version)."""
    served = [version.id for each, versions in current.items() if targets[each] for version in versions.values()]
    found: dict[tuple[str, str], list[Deployment]] = {}
    for one in await deployments.deployments_of_versions(tx, ctx.scope, served):
        found.setdefault((one.target_id, one.version_id), []).append(one)
    return found


def _unserved(
    targets: Sequence[TargetRecord],
    current: Mapping[str, VersionFacts],
    done: Mapping[tuple[str, str], Sequence[Deployment]],
) -> tuple[Unserved, ...]:
    found: list[Unserved] = []
    for target in targets:
        version = current.get(target.agent_id)
        if version is None:
            continue
        tried = done.get((target.id, version.id), ())
        if tried and tried[-1].status in _UNSERVED:
            wait = min(_FIRST_REDEPLOY * (1 << min(len(tried) - 1, 8)), _LONGEST_REDEPLOY)
            found.append(Unserved(target, version, len(tried), tried[-1].updated_at + wait))
    return tuple(found)


def due(standing: Standing, now: datetime, known: Mapping[str, renewal.Assessment] | None = None) -> Due:
    """Who should get a new version now, what should be deployed again, and when to look again. `known` is what is
    judged of its current versions already, by holder.
    """
    found: list[Need] = []
    moments: list[datetime] = []
    certificate = standing.certificate
    if certificate.status in {CertificateStatus.ARCHIVED, CertificateStatus.REVOKED}:
        return Due((), (), None)
    for holder_id, version in standing.current.items():
        judged = known[holder_id] if known else renewal.assess(_facts(standing, version, now))
        moments.append(version.not_after)
        if (crossing := incidents.next_threshold(standing.policy, version, now)) is not None:
            moments.append(crossing)
        if judged.next_check_at is not None:
            moments.append(judged.next_check_at)
        # a client holds its own key and comes with a new CSR; who holds an imported one's key nobody knows
        if judged.decision == "renew" and holder_id not in _NOT_OURS and not standing.holder_is_busy(holder_id):
            found.append(Need(holder_id, version.id, judged.reason))
    for holder_id in standing.holders:
        if holder_id not in standing.current and not standing.holder_is_busy(holder_id):
            again: datetime = _first_issue_again_at(certificate)
            if again <= now:
                found.append(Need(holder_id, "", "holder_has_no_certificate"))
            else:
                moments.append(again)
    moments += [unserved.again_at for unserved in standing.unserved]
    again_now = tuple(unserved for unserved in standing.unserved if unserved.again_at <= now)
    later = min((moment for moment in moments if moment > now), default=None)
    return Due(tuple(found), again_now, now if found or again_now else later)


def _facts(standing: Standing, version: VersionFacts, now: datetime) -> renewal.RenewalFacts:
    busy = standing.holder_is_busy(version.holder_id)
    return facts.renewal_facts(
        standing.certificate,
        version,
        standing.policy,
        live_job=busy,
        now=now,
        suggestion=standing.suggested.get(version.id),
    )


def _first_issue_again_at(certificate: Certificate) -> datetime:
    """A first issuance that failed is tried again with doubling patience, up to a day."""
    if certificate.failures == 0 or certificate.last_failure_at is None:
        return certificate.created_at
    wait = min(_FIRST_RETRY * (1 << min(certificate.failures - 1, 12)), _LONGEST_RETRY)
    return certificate.last_failure_at + wait


async def refresh(tx: Tx, ctx: Context, certificate_id: str, known: Standing | None = None) -> Standing:
    """Recompute and write what the row says; returns the standing it was computed from.

    `known` is what this transaction loaded under the row's lock, or wrote, when it has written nothing but jobs since.
    """
    if known is None:
        certificate = await certificates.certificate(tx, ctx.scope, certificate_id, lock=True)
        standing = await load(tx, ctx, certificate)
    else:
        live = tuple(await jobs.live_jobs(tx, ctx.scope, certificate_id, ISSUING))
        standing = structs.replace(known, live=live)
    await write_all(tx, ctx, [standing])
    return standing


async def write_all(
    tx: Tx, ctx: Context, stands: Sequence[Standing], *, also: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Write what the rows of many certificates say, with their events and alerts: each kind by one statement. `also`:
    columns that are the same in all of them, whatever their status.

    They are locked, or written by this transaction, and each standing holds what has been written since.
    """
    now = ctx.now()
    rows: list[dict[str, Any]] = []
    events: list[Event] = []
    notices: list[Notice] = []
    for standing in stands:
        certificate = standing.certificate
        if certificate.status == CertificateStatus.ARCHIVED:
            continue
        reads = written(standing, now)
        status = reads["status"]
        happened, alerts = _to_tell(ctx, standing, status)
        events += happened
        notices += alerts
        if status in (certificate.status, *CERTIFICATE[certificate.status]):
            failed = {"failures": certificate.failures, "last_failure_at": certificate.last_failure_at}
            rows.append(reads | failed | dict(also) | {"row_id": certificate.id, "was": certificate.status})
        elif also:
            await certificates.change_certificate(tx, ctx.scope, certificate.id, now, **also)
    await append(tx, ctx.scope, now, *events)
    await notify_all(tx, ctx.scope, now, notices)
    await standings.write(tx, ctx.scope, now, rows)


async def _write(tx: Tx, ctx: Context, standing: Standing, before: CertificateStatus, changes: dict[str, Any]) -> None:
    """What the row, in status `before`, says of a standing, and `changes`: one statement where the statuses allow."""
    certificate, now = standing.certificate, ctx.now()
    if certificate.status == CertificateStatus.ARCHIVED:
        await certificates.change_certificate(tx, ctx.scope, certificate.id, now, **changes)
        return
    reads = written(standing, now)
    status = reads.pop("status")
    events, notices = _to_tell(ctx, standing, status)
    await append(tx, ctx.scope, now, *events)
    await notify_all(tx, ctx.scope, now, notices)
    if status not in (before, *CERTIFICATE[before]):
        # the way leads over the status that it has meanwhile
        await certificates.move_certificate(tx, ctx.scope, certificate.id, certificate.status, now)
    if not await certificates.move_certificate(tx, ctx.scope, certificate.id, status, now, **changes, **reads):
        await certificates.change_certificate(tx, ctx.scope, certificate.id, now, **changes)


def _to_tell(ctx: Context, standing: Standing, status: CertificateStatus) -> tuple[list[Event], list[Notice]]:
    """The events and alerts of a certificate that is about to read `status`."""
    certificate = standing.certificate
    is_new = status == CertificateStatus.EXPIRED and certificate.status != CertificateStatus.EXPIRED
    events = [_expired(ctx, certificate)] if is_new else []
    if status == CertificateStatus.REVOKED:
        return events, []
    return events, incidents.ending(certificate, standing.policy, list(standing.current.values()), ctx.now())


async def renewed(tx: Tx, ctx: Context, job: Job, version: Version) -> Standing:
    """`refresh` behind the version that this transaction has made current for `job`, which has ended: the certificate
    is active again, if it may be, and has failed of nothing.
    """
    now, certificate_id = ctx.now(), job.certificate_id
    before = await certificates.certificate(tx, ctx.scope, certificate_id, lock=True)
    # behind the lock: what another transaction has written of it meanwhile is seen
    around, policy = await certificates.around(tx, ctx.scope, before, version.id, ISSUING)
    if policy is not None:
        catalogue.saw(tx, ctx.scope, policy, policy.id)
    if around.other_versions:
        await certificates.make_current(tx, ctx.scope, version)
    changes = _renewed(now)
    may = CertificateStatus.ACTIVE in (before.status, *CERTIFICATE[before.status])
    status = CertificateStatus.ACTIVE if may else before.status
    certificate = structs.replace(before, status=status, **changes)
    if around.is_bare:
        now_stands = _unread(certificate, await _policy(tx, ctx, certificate), {version.holder_id: version})
        suggested = await _suggested(tx, ctx, [version])
        now_stands = structs.replace(now_stands, suggested=suggested, was_told_of=around.was_told_of)
    else:
        now_stands = structs.replace(await load(tx, ctx, certificate), was_told_of=around.was_told_of)
    await _write(tx, ctx, now_stands, before.status, changes)
    return now_stands


class Renewed(Struct, frozen=True):
    """What a new version makes of its certificate: the row, what is written of it, what is told, and how it stands."""

    certificate: Certificate
    columns: dict[str, Any]
    notices: list[Notice]
    stands: Standing


def with_first(ctx: Context, before: Certificate, policy: RenewalPolicy, version: Version) -> Renewed | None:
    """`renewed`, for a certificate that waited for this version, its first, and has neither target nor other job; reads
    and writes nothing. None where its status may not follow at once.
    """
    return _with(ctx, _unread(before, policy, {version.holder_id: version}))


def with_next(ctx: Context, before: Standing, job: Job, version: Version) -> Renewed | None:
    """`renewed`, for a certificate that stands so behind its lock; reads and writes nothing. None as above."""
    counts = not before.holders or version.holder_id in before.holders
    replaced = (version.holder_id, EXTERNAL_HOLDER)
    others = {holder_id: one for holder_id, one in before.current.items() if holder_id not in replaced}
    stands = structs.replace(
        before,
        current=others | ({version.holder_id: version} if counts else {}),
        live=tuple(one for one in before.live if one.id != job.id),
        unserved=tuple(one for one in before.unserved if one.version.holder_id not in replaced),
    )
    return _with(ctx, stands)


def _with(ctx: Context, stands: Standing) -> Renewed | None:
    now, before = ctx.now(), stands.certificate
    follows = (before.status, *CERTIFICATE[before.status])
    if CertificateStatus.ACTIVE not in follows:
        return None
    changes = _renewed(now)
    stands = structs.replace(stands, certificate=structs.replace(before, status=CertificateStatus.ACTIVE, **changes))
    columns = changes | written(stands, now)
    status = columns["status"]
    if status not in follows or status == CertificateStatus.EXPIRED:
        return None
    _, notices = _to_tell(ctx, stands, status)
    columns["updated_at"] = now
    row = structs.replace(before, **columns, row_version=before.row_version + 1)
    return Renewed(row, columns, notices, stands)


def _renewed(now: datetime) -> dict[str, Any]:
    """What a version that was recorded changes of its certificate's row, whatever else it says."""
    return {
        "failures": 0,
        "last_failure_at": None,
        "last_renewal_at": now,
        "revoked_at": None,
        "revocation_reason": "",
    }


def written(standing: Standing, now: datetime) -> dict[str, Any]:
    """What the row says of a standing: `status`, `status_reason`, `expires_at`, `next_check_at`."""
    judged = {holder_id: renewal.assess(_facts(standing, each, now)) for holder_id, each in standing.current.items()}
    status, reason = _status(standing, now, list(judged.values()))
    return {
        "status": status,
        "status_reason": reason,
        "expires_at": facts.earliest_end(list(standing.current.values())) or standing.certificate.expires_at,
        "next_check_at": due(standing, now, judged).next_check_at,
    }


def _expired(ctx: Context, certificate: Certificate) -> Event:
    return Event(
        type=EventType.CERTIFICATE_EXPIRED,
        subject_type="certificate",
        subject_id=certificate.id,
        actor=ctx.actor,
        details={"expires_at": certificate.expires_at.isoformat() if certificate.expires_at else ""},
    )


def _status(standing: Standing, now: datetime, judged: Sequence[renewal.Assessment]) -> tuple[CertificateStatus, str]:
    certificate = standing.certificate
    if certificate.status == CertificateStatus.REVOKED and not standing.current and not standing.live:
        return CertificateStatus.REVOKED, certificate.status_reason
    if any(job.type == JobType.RENEWAL for job in standing.live):
        return CertificateStatus.RENEWAL_IN_PROGRESS, _live_reason(standing)
    if certificate.revoked_at is not None and not standing.current:
        return CertificateStatus.REVOKED, certificate.status_reason
    end = facts.earliest_end(list(standing.current.values()))
    if end is None:
        if certificate.failures:
            return CertificateStatus.FAILED, certificate.status_reason
        waiting = _live_reason(standing) if standing.live else "no key holder: map a target or send a CSR"
        return CertificateStatus.PENDING, waiting
    if end <= now:
        return CertificateStatus.EXPIRED, certificate.status_reason if certificate.failures else "not_after has passed"
    if certificate.failures:
        return CertificateStatus.FAILED, certificate.status_reason
    held = next(
        (
            f"{one.held_by} holds its renewal back until {one.held_until:%Y-%m-%d %H:%M} UTC"
            for one in judged
            if one.held_by
        ),
        "",
    )
    held = held or _wish(standing)
    if CertificateStatus.EXPIRING in {one.status for one in judged}:
        return CertificateStatus.EXPIRING, held or "within its renewal window"
    return CertificateStatus.ACTIVE, held


def _wish(standing: Standing) -> str:
    since = min(
        (one.replacement_wished_at for one in standing.current.values() if one.replacement_wished_at), default=None
    )
    return f"its holder is asked to replace it since {since:%Y-%m-%d %H:%M} UTC" if since else ""


def _live_reason(standing: Standing) -> str:
    job, certificate = standing.live[0], standing.certificate
    if job.last_error:
        return job.last_error
    return certificate.status_reason if certificate.failures else f"job {job.id} is under way"
