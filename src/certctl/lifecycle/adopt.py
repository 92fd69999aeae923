"""adopt: a certificate issued elsewhere becomes an inventory entry. It is watched, never renewed or revoked here.

Writes certificate and version in one commit, known by their fingerprint; no job, no order, no CA of ours, and no key.
Claiming it (request) names the issuer of the next version; from then on it lives as any other.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from certctl.core.actor import Actor
from certctl.core.catalogue import Owner, Team
from certctl.core.certificate import EXTERNAL_HOLDER, EXTERNAL_PREFIX, Certificate, Version
from certctl.core.errors import Conflict, Malformed, NotFound, Violation
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.labels import check_label
from certctl.core.names import parse_name
from certctl.core.scope import Scope
from certctl.core.status import CertificateStatus, VersionStatus
from certctl.ledger import append
from certctl.lifecycle import standing
from certctl.lifecycle.context import Context
from certctl.pki.bundle import Bundle
from certctl.pki.fingerprints import serial_hex
from certctl.pki.pem import chain_pem
from certctl.store import catalogue, certificates
from certctl.store.tx import Tx

SOURCE = "Import"
_LONGEST_NAME = 255


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate from elsewhere and what its bringer says of it."""

    bundle: Bundle
    name: str = ""
    environment: str = ""
    owner_id: str = ""
    team_id: str = ""
    tags: dict[str, str] = {}


class Adopted(msgspec.Struct, frozen=True):
    """The entry, and whether it is new: what was known before stays as it was."""

    certificate: Certificate
    version: Version
    is_new: bool


async def adopt(ctx: Context, scope: Scope, actor: Actor, found: Found) -> Adopted:
    """Take it into the inventory once. Conflict when it is there beyond the caller's scope, or its name is taken.

    Malformed when its bringer could not see it afterwards: nobody writes beyond their own limits.
    """
    leaf = found.bundle.leaf
    async with ctx.database.begin("adopt") as tx:
        known = await certificates.version_by_fingerprint(tx, ctx.scope, leaf.fingerprint_sha256)
        if known is not None:
            return Adopted(await _seen(tx, scope, known), known, is_new=False)
        await _check_people(tx, scope, found)
        certificate = await _certificate(tx, ctx, found)
        version = _version(ctx, certificate, found.bundle)
        await certificates.insert_certificate(tx, ctx.scope, certificate, [])
        await certificates.insert_external(tx, ctx.scope, version)
        await _check_visible(tx, scope, certificate)
        details = {
            "version_id": version.id,
            "serial_number": version.serial_number,
            "fingerprint_sha256": version.fingerprint_sha256,
            "issuer": leaf.issuer[:1000],
            "not_after": version.not_after.isoformat(),
        }
        event = Event(
            type=EventType.CERTIFICATE_IMPORTED,
            subject_type="certificate",
            subject_id=certificate.id,
            actor=actor,
            details=details,
        )
        await append(tx, ctx.scope, ctx.now(), event)
        refreshed = await standing.refresh(tx, ctx, certificate.id)
    return Adopted(refreshed.certificate, version, is_new=True)


async def _seen(tx: Tx, scope: Scope, known: Version) -> Certificate:
    try:
        return await certificates.certificate(tx, scope, known.certificate_id)
    except NotFound as error:
        raise Conflict("this certificate is in the inventory already") from error


async def _check_people(tx: Tx, scope: Scope, found: Found) -> None:
    violations: list[Violation] = []
    named: tuple[tuple[type[msgspec.Struct], str, str], ...] = (
        (Owner, found.owner_id, "owner_id"),
        (Team, found.team_id, "team_id"),
    )
    for kind, record_id, field in named:
        try:
            if record_id:
                await catalogue.get(tx, scope, kind, record_id)
        except NotFound as error:
            violations.append(Violation("unknown_reference", error.message, field))
    if violations:
        raise Malformed("; ".join(each.message for each in violations), violations=tuple(violations))


async def _check_visible(tx: Tx, scope: Scope, certificate: Certificate) -> None:
    try:
        await certificates.certificate(tx, scope, certificate.id)
    except NotFound as error:
        message = (
            "this would lie outside your own limits: give it a team of yours; limits of issuers or profiles forbid it"
        )
        raise Malformed(message, violations=(Violation("outside_your_scope", message, "team_id"),)) from error


async def _certificate(tx: Tx, ctx: Context, found: Found) -> Certificate:
    now, leaf = ctx.now(), found.bundle.leaf
    names = [str(name) if parse_name(str(name)) == name else f"{name.kind}:{name}" for name in leaf.names]
    common_name = _printable(leaf.common_name) or (names[0] if names else f"serial {serial_hex(leaf.serial_number)}")
    name = check_label(found.name) if found.name else common_name
    if not found.name and await certificates.id_by_name(tx, ctx.scope, name) is not None:
        name = f"{name[: _LONGEST_NAME - 14]} {leaf.fingerprint_sha256[:12]}"
    return Certificate(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("cert"),
        name=name,
        common_name=common_name,
        sans=names,
        environment=check_label(found.environment, "environment", may_be_empty=True),
        owner_id=found.owner_id,
        team_id=found.team_id,
        issuer_id="",
        renewal_policy_id="",
        certificate_profile_id="",
        validity_seconds=None,
        status=_status(leaf.not_after, now),
        status_reason="imported",
        expires_at=leaf.not_after,
        tags={
            check_label(tag, "tags"): check_label(value, "tags", may_be_empty=True) for tag, value in found.tags.items()
        },
        last_renewal_at=None,
        last_deployment_at=None,
        revoked_at=None,
        revocation_reason="",
        next_check_at=None,
        failures=0,
        last_failure_at=None,
        source=SOURCE,
        row_version=1,
        created_at=now,
        updated_at=now,
    )


def _status(not_after: datetime, now: datetime) -> CertificateStatus:
    return CertificateStatus.EXPIRED if not_after <= now else CertificateStatus.ACTIVE


def _version(ctx: Context, certificate: Certificate, bundle: Bundle) -> Version:
    leaf, outside = bundle.leaf, f"{EXTERNAL_PREFIX}{bundle.leaf.fingerprint_sha256}"
    return Version(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("certver"),
        certificate_id=certificate.id,
        holder_id=EXTERNAL_HOLDER,
        job_id=outside,
        issuer_id="",
        # no CA of ours: what OCSP and CRL know they find by the CA's id, which this never is
        ca_certificate_id=outside,
        replaces_id="",
        status=VersionStatus.CURRENT,
        serial_number=serial_hex(leaf.serial_number),
        not_before=leaf.not_before,
        not_after=leaf.not_after,
        fingerprint_sha256=leaf.fingerprint_sha256,
        spki_sha256=leaf.spki_sha256,
        key_algorithm=leaf.key.kind,
        key_size=leaf.key.size_bits,
        leaf_der=leaf.certificate_der,
        chain_pem=chain_pem(bundle.chain_der),
        csr_der=b"",
        created_at=ctx.now(),
    )


def _printable(text: str) -> str:
    """A subject may hold anything; what people and databases read may not."""
    return "".join(character if character.isprintable() else "?" for character in text)[:_LONGEST_NAME].strip()
