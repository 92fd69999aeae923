"""request: a certificate is wanted. Every door comes through here; nothing is written unless the rules allow it.

Reads nothing outside; writes the certificate, its targets and one issuing job a key holder; hands on to approve.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from certctl.core.actor import Actor
from certctl.core.certificate import CLIENT_HOLDER, Certificate
from certctl.core.difference import difference
from certctl.core.errors import Conflict, Malformed, PreconditionFailed, Violation
from certctl.core.events import Event, EventType
from certctl.core.ids import check_id, new_id
from certctl.core.job import Job
from certctl.core.labels import check_label, check_tags
from certctl.core.names import parse_name, parse_names, spelled
from certctl.core.revision import Expected, changed_meanwhile
from certctl.core.scope import Scope
from certctl.core.status import CertificateStatus, DeploymentStatus, JobStatus, JobType
from certctl.core.target import TargetRecord
from certctl.ledger import append
from certctl.lifecycle import compliance, endpoints, handoff, references, rollout, standing
from certctl.lifecycle.context import Context
from certctl.pki.csr import read_csr
from certctl.store import certificates, deployments, jobs
from certctl.store.tx import Tx

DEFAULT_ISSUER = "iss-local"
DEFAULT_POLICY = "rp-default"
DEFAULT_PROFILE = "prof-default"
# what no rule of issuance looks at: an owner may change though the profile has since come to forbid the names. The
# organisation's rules look at it afterwards: one violation after the other can be cured
_NOT_JUDGED = frozenset({"name", "environment", "owner_id", "team_id", "tags", "renewal_policy_id"})

_CLAIM_FIRST = "it was imported and nobody has claimed it; POST .../claim says who issues it from now on"


class NewCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks for. Only `common_name` has no default; `csr_pem` makes the caller the key holder."""

    common_name: str
    id: str = ""
    name: str = ""
    sans: list[str] = []
    environment: str = ""
    owner_id: str = ""
    team_id: str = ""
    issuer_id: str = DEFAULT_ISSUER
    renewal_policy_id: str = DEFAULT_POLICY
    certificate_profile_id: str = DEFAULT_PROFILE
    target_ids: list[str] = []
    tags: dict[str, str] = {}
    validity_seconds: int | None = None
    csr_pem: str = ""
    source: str = "api"


async def create(ctx: Context, scope: Scope, actor: Actor, wanted: NewCertificate) -> tuple[Certificate, list[Job]]:
    """Write certificate and issuing jobs in one transaction; raises CallerError with every violation."""
    async with ctx.database.begin("request") as tx:
        return await create_in(tx, ctx, scope, actor, wanted)


async def create_in(
    tx: Tx, ctx: Context, scope: Scope, actor: Actor, wanted: NewCertificate
) -> tuple[Certificate, list[Job]]:
    """`create` in the caller's transaction."""
    certificate, targets, created = await _asked_for(tx, ctx, scope, actor, wanted)
    if wanted.csr_pem and not wanted.target_ids:
        return await _create_for_client(tx, ctx, certificate, actor, wanted.csr_pem, created)
    await certificates.insert_certificate(tx, ctx.scope, certificate, wanted.target_ids)
    await append(tx, ctx.scope, ctx.now(), created)
    written = await _ask_holders(tx, ctx, certificate, targets, actor, wanted.csr_pem)
    if not written:
        # nobody to issue to yet, but what could never be issued is refused now rather than later
        await _judge(tx, ctx, certificate, actor, "")
    before = None if wanted.target_ids else await standing.of_new(tx, ctx, certificate)
    return (await standing.refresh(tx, ctx, certificate.id, before)).certificate, written


async def _asked_for(
    tx: Tx, ctx: Context, scope: Scope, actor: Actor, wanted: NewCertificate
) -> tuple[Certificate, list[TargetRecord], Event]:
    """The certificate as it was asked for, what it is to be mapped to, and the event of it; writes nothing."""
    certificate = _certificate(ctx, wanted)
    _check_scope(scope, certificate)
    targets = await references.check(tx, scope, certificate, wanted.target_ids)
    if wanted.csr_pem:
        read_csr(wanted.csr_pem)
        certificate = msgspec.structs.replace(certificate, source=wanted.source)
    told = {name: value for name, value in msgspec.to_builtins(wanted).items() if value not in ("", [], {}, None)}
    return certificate, targets, _event(EventType.CERTIFICATE_CREATED, certificate.id, actor, told)


async def draft_for_client(
    tx: Tx, ctx: Context, scope: Scope, actor: Actor, wanted: NewCertificate
) -> tuple[Certificate, handoff.Draft]:
    """Judge what a client asks for that sends its CSR and names no target, and say what `create` would write of it: its
    row as it stands with its job. Writes nothing; whether id and name are free is not looked at.
    """
    if not wanted.csr_pem or wanted.target_ids:
        raise AssertionError("a client sends its CSR, and deploys by itself")
    certificate, _, created = await _asked_for(tx, ctx, scope, actor, wanted)
    ask = _first_of(certificate, CLIENT_HOLDER, actor, wanted.csr_pem, created)
    made = await handoff.draft(tx, ctx, certificate, ask)
    stands = msgspec.structs.replace(await standing.of_new(tx, ctx, certificate), live=(made.job,))
    return msgspec.structs.replace(certificate, **standing.written(stands, ctx.now())), made


async def _create_for_client(
    tx: Tx, ctx: Context, certificate: Certificate, actor: Actor, csr_pem: str, created: Event
) -> tuple[Certificate, list[Job]]:
    """A certificate of one holder and no target: its row is written once, as it stands with its job."""
    job = await handoff.issuance(tx, ctx, certificate, _first_of(certificate, CLIENT_HOLDER, actor, csr_pem, created))
    now_stands = msgspec.structs.replace(await standing.of_new(tx, ctx, certificate), live=(job,))
    certificate = msgspec.structs.replace(certificate, **standing.written(now_stands, ctx.now()))
    await certificates.insert_certificate(tx, ctx.scope, certificate, ())
    return certificate, [job]


async def judge(tx: Tx, ctx: Context, scope: Scope, actor: Actor, wanted: NewCertificate) -> None:
    """Refuse what would be refused sooner or later; writes nothing. PolicyDenied with every violation."""
    certificate = _certificate(ctx, wanted)
    _check_scope(scope, certificate)
    await references.check(tx, scope, certificate, wanted.target_ids)
    await _judge(tx, ctx, certificate, actor, wanted.csr_pem)


async def _judge(tx: Tx, ctx: Context, certificate: Certificate, actor: Actor, csr_pem: str) -> None:
    ask = handoff.Ask(type=JobType.ISSUANCE, holder_id="", idempotency_key="", actor=actor, csr_pem=csr_pem)
    await handoff.judge(tx, ctx, certificate, ask)


async def _ask_holders(
    tx: Tx, ctx: Context, certificate: Certificate, targets: Sequence[TargetRecord], actor: Actor, csr_pem: str
) -> list[Job]:
    holders = (
        [CLIENT_HOLDER] if csr_pem else list(dict.fromkeys(target.agent_id for target in targets if target.agent_id))
    )
    return [
        await handoff.issuance(tx, ctx, certificate, _first_of(certificate, holder, actor, csr_pem))
        for holder in holders
    ]


def _first_of(certificate: Certificate, holder_id: str, actor: Actor, csr_pem: str, *first: Event) -> handoff.Ask:
    return handoff.Ask(
        type=JobType.ISSUANCE,
        holder_id=holder_id,
        idempotency_key=f"first/{certificate.id}/{holder_id}",
        actor=actor,
        reason="requested",
        csr_pem=csr_pem,
        first=first,
    )


async def submit_csr(ctx: Context, scope: Scope, actor: Actor, certificate_id: str, csr_pem: str) -> Job:
    """A client that holds its own key asks for a (further) version of its certificate, once a key."""
    csr = read_csr(csr_pem)
    async with ctx.database.begin("request") as tx:
        certificate = await certificates.certificate(tx, scope, certificate_id, lock=True)
        _refuse_archived(certificate)
        if certificate.is_unclaimed:
            raise Conflict(_CLAIM_FIRST)
        for live in await jobs.live_jobs(tx, ctx.scope, certificate_id, standing.ISSUING):
            # also what `create` wrote: a client whose answer was lost asks here again
            asked = str(live.body.get("csr_pem", "")) if live.holder_id == CLIENT_HOLDER else ""
            if asked and read_csr(asked).spki_sha256 == csr.spki_sha256:
                return live
        current = (await certificates.current_versions(tx, ctx.scope, certificate_id)).get(CLIENT_HOLDER)
        stem = f"csr/{certificate_id}/{csr.spki_sha256}/{current.id if current else ''}/"
        key = f"{stem}{await jobs.ended_badly(tx, ctx.scope, certificate_id, stem)}"
        return await _ask_client(tx, ctx, certificate, actor, csr_pem, key)


async def next_version_in(
    tx: Tx, ctx: Context, scope: Scope, actor: Actor, certificate_id: str, csr_pem: str, idempotency_key: str
) -> Job | None:
    """A client's next version of a certificate of its own, in the caller's transaction, once by `idempotency_key`.

    None when the certificate takes none now: it is revoked, archived, or one is being issued.
    """
    read_csr(csr_pem)
    certificate = await certificates.certificate(tx, scope, certificate_id, lock=True)
    ended = certificate.is_unclaimed or certificate.status in {CertificateStatus.ARCHIVED, CertificateStatus.REVOKED}
    if ended or await jobs.live_jobs(tx, ctx.scope, certificate_id, standing.ISSUING):
        return None
    return await _ask_client(tx, ctx, certificate, actor, csr_pem, idempotency_key)


async def _ask_client(
    tx: Tx, ctx: Context, certificate: Certificate, actor: Actor, csr_pem: str, idempotency_key: str
) -> Job:
    current = (await certificates.current_versions(tx, ctx.scope, certificate.id)).get(CLIENT_HOLDER)
    ask = handoff.Ask(
        type=JobType.RENEWAL if current else JobType.ISSUANCE,
        holder_id=CLIENT_HOLDER,
        idempotency_key=idempotency_key,
        actor=actor,
        replaces_id=current.id if current else "",
        reason="csr submitted",
        csr_pem=csr_pem,
    )
    job = await handoff.issuance(tx, ctx, certificate, ask)
    await standing.refresh(tx, ctx, certificate.id)
    return job


class CertificateChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What an update may change; None leaves a field as it is. Names change with the next version."""

    name: str | None = None
    common_name: str | None = None
    sans: list[str] | None = None
    environment: str | None = None
    owner_id: str | None = None
    team_id: str | None = None
    issuer_id: str | None = None
    renewal_policy_id: str | None = None
    certificate_profile_id: str | None = None
    target_ids: list[str] | None = None
    tags: dict[str, str] | None = None
    # None lets profile and default decide
    validity_seconds: int | msgspec.UnsetType | None = msgspec.UNSET


async def update(
    ctx: Context,
    scope: Scope,
    actor: Actor,
    certificate_id: str,
    changes: CertificateChanges,
    expected: Expected = None,
) -> Certificate:
    """Change a certificate's record; targets newly mapped on a host without a key get a first version there."""
    async with ctx.database.begin("request") as tx:
        return await update_in(tx, ctx, scope, actor, certificate_id, changes, expected)


async def update_in(
    tx: Tx,
    ctx: Context,
    scope: Scope,
    actor: Actor,
    certificate_id: str,
    changes: CertificateChanges,
    expected: Expected = None,
) -> Certificate:
    """`update` in the caller's transaction."""
    before = await certificates.certificate(tx, scope, certificate_id, lock=True)
    _check_expected(before, expected)
    _refuse_archived(before)
    if before.is_unclaimed:
        _refuse_unclaimed(before, changes)
    return await _write_changes(tx, ctx, scope, actor, before, changes, EventType.CERTIFICATE_UPDATED)


async def claim(
    ctx: Context, scope: Scope, actor: Actor, certificate_id: str, changes: CertificateChanges
) -> Certificate:
    """Say who owns and issues an imported certificate from now on; targets named get a version of ours at once.

    What is not said is as for a new certificate. Conflict when it was claimed, or was never imported.
    """
    async with ctx.database.begin("request") as tx:
        before = await certificates.certificate(tx, scope, certificate_id, lock=True)
        _refuse_archived(before)
        if not before.is_unclaimed:
            raise Conflict(f"certificate {certificate_id} is issued by {before.issuer_id}: there is nothing to claim")
        said = msgspec.structs.replace(
            changes,
            issuer_id=changes.issuer_id or DEFAULT_ISSUER,
            renewal_policy_id=changes.renewal_policy_id or DEFAULT_POLICY,
            certificate_profile_id=changes.certificate_profile_id or DEFAULT_PROFILE,
            # read again: a claimed certificate's names have to be such as certctl issues
            common_name=changes.common_name or before.common_name,
        )
        return await _write_changes(tx, ctx, scope, actor, before, said, EventType.CERTIFICATE_CLAIMED)


async def _write_changes(
    tx: Tx,
    ctx: Context,
    scope: Scope,
    actor: Actor,
    before: Certificate,
    changes: CertificateChanges,
    kind: EventType,
) -> Certificate:
    now, certificate_id = ctx.now(), before.id
    given = _seen(_given(changes))
    target_ids = given.pop("target_ids", None)
    _canonical_names(given, before)
    after = msgspec.structs.replace(before, **given)
    mapped = await certificates.targets_of(tx, ctx.scope, certificate_id)
    wanted = target_ids if target_ids is not None else [target.id for target in mapped]
    _check_scope(scope, after)
    targets = await references.check(tx, scope, after, wanted)
    await compliance.check_move(tx, ctx, before, after)
    if not after.is_unclaimed and (target_ids is not None or not set(given) <= _NOT_JUDGED):
        await _judge(tx, ctx, after, actor, "")
    await _check_name_is_free(tx, ctx, after)
    if given or target_ids is not None:
        await certificates.change_certificate(tx, ctx.scope, certificate_id, now, **given)
    if target_ids is not None:
        await certificates.map_targets(tx, ctx.scope, certificate_id, target_ids)
        await endpoints.unmapped(tx, ctx, actor, certificate_id, {one.id for one in mapped} - set(target_ids))
        await _serve_new_targets(tx, ctx, after, targets, {target.id for target in mapped}, actor)
    changed: dict[str, Any] = given | ({"target_ids": target_ids} if target_ids is not None else {})
    changed |= difference(before, after)
    await append(tx, ctx.scope, now, _event(kind, certificate_id, actor, changed))
    await standing.refresh(tx, ctx, certificate_id)
    updated = await certificates.certificate(tx, scope, certificate_id)
    await compliance.look_again(tx, ctx, updated)
    return updated


def _given(changes: CertificateChanges) -> dict[str, Any]:
    said = {name: getattr(changes, name) for name in changes.__struct_fields__}
    given = {name: value for name, value in said.items() if value is not None and value is not msgspec.UNSET}
    return given | ({"validity_seconds": None} if changes.validity_seconds is None else {})


def _seen(given: dict[str, Any]) -> dict[str, Any]:
    """The texts that people read, in one form."""
    if "name" in given:
        given["name"] = check_label(given["name"])
    if "environment" in given:
        given["environment"] = check_label(given["environment"], "environment", may_be_empty=True)
    if "tags" in given:
        given["tags"] = check_tags(given["tags"])
    return given


def _check_expected(certificate: Certificate, expected: Expected) -> None:
    """The row is locked: nobody changes it between this and the change."""
    if expected is not None and certificate.row_version not in expected:
        raise PreconditionFailed(changed_meanwhile(f"certificate {certificate.id}"))


async def _serve_new_targets(
    tx: Tx, ctx: Context, certificate: Certificate, targets: Sequence[TargetRecord], known: set[str], actor: Actor
) -> None:
    current = await certificates.current_versions(tx, ctx.scope, certificate.id)
    for target in targets:
        version = current.get(target.agent_id)
        if target.id not in known and version is not None:
            await rollout.deploy_to(tx, ctx, certificate, version, [target], actor=actor, attempt=new_id("map"))
    missing = [target for target in targets if target.agent_id and target.agent_id not in current]
    busy = {job.holder_id for job in await jobs.live_jobs(tx, ctx.scope, certificate.id, standing.ISSUING)}
    await _ask_holders(tx, ctx, certificate, [target for target in missing if target.agent_id not in busy], actor, "")


async def archive(ctx: Context, scope: Scope, actor: Actor, certificate_id: str, expected: Expected = None) -> None:
    """Stop looking after a certificate: live jobs end, nothing is renewed. What was issued stays valid until
    revoked.
    """
    now = ctx.now()
    async with ctx.database.begin("request") as tx:
        certificate = await certificates.certificate(tx, scope, certificate_id, lock=True)
        _check_expected(certificate, expected)
        if certificate.status == CertificateStatus.ARCHIVED:
            return
        for job in await jobs.live_jobs(tx, ctx.scope, certificate_id, (*standing.ISSUING, JobType.DEPLOYMENT)):
            await cancel_job(tx, ctx, job, actor, "the certificate was archived")
        await certificates.move_certificate(
            tx, ctx.scope, certificate_id, CertificateStatus.ARCHIVED, now, next_check_at=None, status_reason="archived"
        )
        await endpoints.unmapped(tx, ctx, actor, certificate_id, None)
        await append(tx, ctx.scope, now, _event(EventType.CERTIFICATE_ARCHIVED, certificate_id, actor, {}))


async def cancel(ctx: Context, scope: Scope, actor: Actor, job_id: str) -> None:
    """Cancel a job that has not ended; Conflict when it has, or when its target is being changed this moment."""
    async with ctx.database.begin("request") as tx:
        job = await jobs.visible_job(tx, scope, job_id)
        await cancel_job(tx, ctx, job, actor, "cancelled by request")
        await standing.refresh(tx, ctx, job.certificate_id)


async def cancel_job(tx: Tx, ctx: Context, job: Job, actor: Actor, reason: str) -> None:
    """Cancel a job and its steps in the caller's transaction. A result that comes later meets a stale fence."""
    now = ctx.now()
    if job.status in {JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED}:
        raise Conflict(f"job {job.id} has already ended as {job.status}")
    await jobs.cancel_steps(tx, ctx.scope, job.id, now)
    await jobs.move_job(tx, ctx.scope, job.id, JobStatus.CANCELLED, now, last_error=reason)
    deployment = (await deployments.deployments_of_jobs(tx, ctx.scope, [job.id])).get(job.id)
    if deployment is not None and deployment.status != DeploymentStatus.VERIFIED:
        await deployments.move_deployment(tx, ctx.scope, deployment.id, DeploymentStatus.SUPERSEDED, now, error=reason)
    details = {"job_id": job.id, "reason": reason}
    await append(tx, ctx.scope, now, _event(EventType.JOB_CANCELLED, job.certificate_id, actor, details))


async def agent_left(
    tx: Tx, ctx: Context, agent_id: str, certificate_ids: Sequence[str], actor: Actor, reason: str
) -> None:
    """A host is gone for good: what it had in hand is cancelled, and its certificates are looked at without it."""
    left = await jobs.live_jobs_of_agent(tx, ctx.scope, agent_id)
    for job in left:
        await cancel_job(tx, ctx, job, actor, reason)
    # in one order, so that two agents that leave at once do not wait for each other
    for certificate_id in sorted({*certificate_ids, *(job.certificate_id for job in left)}):
        await standing.refresh(tx, ctx, certificate_id)


def _certificate(ctx: Context, wanted: NewCertificate) -> Certificate:
    now = ctx.now()
    values: dict[str, Any] = {"common_name": wanted.common_name, "sans": wanted.sans}
    _canonical_names(values, None)
    if wanted.validity_seconds is not None and wanted.validity_seconds < 1:
        message = "validity_seconds must be at least 1"
        raise Malformed(message, violations=(Violation("lifetime_is_too_short", message, "validity_seconds"),))
    return Certificate(
        tenant_id=ctx.scope.tenant_id,
        id=check_id(wanted.id) if wanted.id else new_id("cert"),
        name=check_label(wanted.name or wanted.common_name),
        common_name=values["common_name"],
        sans=values["sans"],
        environment=check_label(wanted.environment, "environment", may_be_empty=True),
        owner_id=wanted.owner_id,
        team_id=wanted.team_id,
        issuer_id=wanted.issuer_id or DEFAULT_ISSUER,
        renewal_policy_id=wanted.renewal_policy_id or DEFAULT_POLICY,
        certificate_profile_id=wanted.certificate_profile_id or DEFAULT_PROFILE,
        validity_seconds=wanted.validity_seconds,
        status=CertificateStatus.PENDING,
        status_reason="requested",
        expires_at=None,
        tags=check_tags(wanted.tags),
        last_renewal_at=None,
        last_deployment_at=None,
        revoked_at=None,
        revocation_reason="",
        next_check_at=None,
        failures=0,
        last_failure_at=None,
        source=wanted.source,
        row_version=1,
        created_at=now,
        updated_at=now,
    )


def _canonical_names(values: dict[str, Any], before: Certificate | None) -> None:
    """Canonical common name and SANs; the common name is always among the SANs (RFC 6125: nobody reads the CN)."""
    if "common_name" not in values and "sans" not in values:
        return
    common = parse_name(values.get("common_name", before.common_name if before else ""), "common_name")
    given = values.get("sans", before.sans if before else [])
    names = dict.fromkeys([common, *parse_names(given)])
    values["common_name"] = common.value
    values["sans"] = [spelled(name) for name in names]


def _check_scope(scope: Scope, certificate: Certificate) -> None:
    """What is written must be visible to its writer: nobody creates beyond their own scope."""
    scope.check_admits(
        teams=certificate.team_id, profiles=certificate.certificate_profile_id, issuers=certificate.issuer_id
    )


async def _check_name_is_free(tx: Tx, ctx: Context, certificate: Certificate) -> None:
    taken = (await certificates.ids_by_name(tx, ctx.scope, [certificate.name])).get(certificate.name)
    if taken is not None and taken != certificate.id:
        raise Conflict(f"a certificate named {certificate.name} already exists")


def _refuse_archived(certificate: Certificate) -> None:
    if certificate.status == CertificateStatus.ARCHIVED:
        raise Conflict(f"certificate {certificate.id} is archived")


def _refuse_unclaimed(certificate: Certificate, changes: CertificateChanges) -> None:
    """What is only watched may be renamed and given to people; who issues it is said by a claim."""
    given = _given(changes)
    targets = given.pop("target_ids", None)
    changed = {name for name, value in given.items() if value != getattr(certificate, name)}
    if targets or not changed <= _NOT_JUDGED - {"renewal_policy_id"}:
        raise Conflict(_CLAIM_FIRST)


def _event(kind: EventType, certificate_id: str, actor: Actor, details: dict[str, Any]) -> Event:
    return Event(type=kind, subject_type="certificate", subject_id=certificate_id, actor=actor, details=details)
