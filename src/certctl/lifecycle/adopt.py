"""adopt: a certificate issued elsewhere becomes an inventory entry. It is watched, never renewed or revoked here.

Writes certificate and version in one commit, known by their fingerprint; no job, no order, no CA of ours, and no key.
Claiming it (request) names the issuer of the next version; from then on it lives as any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import structs

from certctl.core.actor import Actor
from certctl.core.catalogue import Owner, Team
from certctl.core.certificate import EXTERNAL_HOLDER, EXTERNAL_PREFIX, Certificate, Version, VersionFacts
from certctl.core.errors import CallerError, Conflict, Malformed, NotFound, Violation
from certctl.core.events import Event, EventType, Notice
from certctl.core.ids import new_id
from certctl.core.labels import check_label, check_tags
from certctl.core.names import spelled
from certctl.core.scope import Scope
from certctl.core.status import CertificateStatus, VersionStatus
from certctl.ledger import append, notify_all
from certctl.lifecycle import incidents, standing
from certctl.lifecycle.context import Context
from certctl.pki.bundle import Bundle
from certctl.pki.certs import CertificateFacts
from certctl.pki.fingerprints import serial_hex
from certctl.pki.pem import chain_pem
from certctl.store import catalogue, certificates, statistics
from certctl.store.tx import Tx

SOURCE = "Import"
_LONGEST_NAME = 255
# what a call may bring at most
_TOGETHER = 500
# more than so many at once may be most of a table: what the planner believes of it is out of date
_MANY = 100


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

    certificate_id: str
    version_id: str
    fingerprint_sha256: str
    is_new: bool


class _Entry(msgspec.Struct, frozen=True):
    """What is written of one, and what is told of an end that is near or over."""

    certificate: Certificate
    version: Version
    notices: list[Notice]


async def adopt(ctx: Context, scope: Scope, actor: Actor, found: Found) -> Adopted:
    """Take it into the inventory once. Conflict when it is there beyond the caller's scope, or its name is taken.

    Malformed when its bringer could not see it afterwards: nobody writes beyond their own limits.
    """
    (done,) = await adopt_all(ctx, scope, actor, [found])
    if isinstance(done, CallerError):
        raise done
    return done


async def known(ctx: Context, scope: Scope, prints: Sequence[str]) -> dict[str, Adopted | CallerError]:
    """What is in the inventory already of certificates with these SHA-256 fingerprints, by fingerprint: nobody needs to
    read those any more. A Conflict for one that is there beyond the caller's scope.
    """
    async with ctx.database.read() as tx:
        versions = await certificates.facts_by_fingerprint(tx, ctx.scope, prints)
        visible = await _visible(tx, scope, [version.certificate_id for version in versions.values()])
    return {
        print_: _as_known(version) if version.certificate_id in visible else _elsewhere()
        for print_, version in versions.items()
    }


async def adopt_all(
    ctx: Context, scope: Scope, actor: Actor, found: Sequence[Found], *, unknown: bool = False
) -> list[Adopted | CallerError]:
    """What becomes of each, in the order given: as `adopt`, or why not. Five hundred share a commit.

    What nothing is wrong with goes in together; where something is wrong they are halved until it stands alone, so that
    a fault is its own item's and costs the others a few tries. `unknown`: none was there a moment ago (`known`), so
    that nobody looks again before their keys tell that one came meanwhile.
    """
    done: list[Adopted | CallerError] = []
    for start in range(0, len(found), _TOGETHER):
        done += await _halving(ctx, scope, actor, found[start : start + _TOGETHER], unknown=unknown)
        if len(found) > _MANY:
            await statistics.keep_up(ctx.database, ctx.scope)
    return done


async def _halving(
    ctx: Context, scope: Scope, actor: Actor, found: Sequence[Found], *, unknown: bool = False
) -> list[Adopted | CallerError]:
    try:
        return list(await _together(ctx, scope, actor, found, unknown=unknown))
    except CallerError as error:
        if len(found) == 1 and not isinstance(error, Conflict):
            return [error]
    if len(found) == 1:
        # somebody may have brought the same bytes at the same moment: by now they are here, or the fault is its own
        try:
            return list(await _together(ctx, scope, actor, found))
        except Conflict as error:
            return [error]
    half = len(found) // 2
    first = await _halving(ctx, scope, actor, found[:half])
    return first + await _halving(ctx, scope, actor, found[half:])


async def _together(
    ctx: Context, scope: Scope, actor: Actor, found: Sequence[Found], *, unknown: bool = False
) -> list[Adopted]:
    """All of them or none, in one commit."""
    prints = [each.bundle.leaf.fingerprint_sha256 for each in found]
    async with ctx.database.begin("adopt") as tx:
        there = {} if unknown else await certificates.facts_by_fingerprint(tx, ctx.scope, prints)
        if not await _visible(tx, scope, ids := [each.certificate_id for each in there.values()]) >= set(ids):
            raise _elsewhere()
        # of the same bytes twice in one call, what is said with the first counts
        firsts = {each.bundle.leaf.fingerprint_sha256: each for each in reversed(found)}
        fresh = [firsts[print_] for print_ in dict.fromkeys(prints) if print_ not in there]
        await _check_people(tx, scope, fresh)
        new = [_entry(ctx, each, name) for each, name in zip(fresh, await _names(tx, ctx, fresh), strict=True)]
        events = [_event(actor, each, one) for each, one in zip(fresh, new, strict=True)]
        await append(tx, ctx.scope, ctx.now(), *events)  # goes with what it tells
        await certificates.insert_imported(tx, ctx.scope, [(one.certificate, one.version) for one in new])
        await _check_visible(tx, scope, [one.certificate.id for one in new])
        await notify_all(tx, ctx.scope, ctx.now(), [notice for one in new for notice in one.notices])
    done = {print_: _as_known(version) for print_, version in there.items()}
    done |= {one.version.fingerprint_sha256: _as_new(one) for one in new}
    told: list[Adopted] = []
    for print_ in prints:
        told.append(done[print_])
        done[print_] = structs.replace(done[print_], is_new=False)
    return told


def _as_known(version: VersionFacts) -> Adopted:
    return Adopted(version.certificate_id, version.id, version.fingerprint_sha256, is_new=False)


def _as_new(entry: _Entry) -> Adopted:
    return structs.replace(_as_known(entry.version), is_new=True)


def _elsewhere() -> Conflict:
    return Conflict("this certificate is in the inventory already")


async def _visible(tx: Tx, scope: Scope, ids: Sequence[str]) -> set[str]:
    """Those of certificates that are there which the caller may see."""
    return set(ids) if scope.is_whole else await certificates.visible_ids(tx, scope, ids)


async def _check_people(tx: Tx, scope: Scope, found: Sequence[Found]) -> None:
    violations: list[Violation] = []
    named: dict[tuple[type[msgspec.Struct], str, str], None] = {}
    for each in found:
        named[Owner, each.owner_id, "owner_id"] = None
        named[Team, each.team_id, "team_id"] = None
    for kind, record_id, field in named:
        try:
            if record_id:
                await catalogue.get(tx, scope, kind, record_id)
        except NotFound as error:
            violations.append(Violation("unknown_reference", error.message, field))
    if violations:
        raise Malformed("; ".join(each.message for each in violations), violations=tuple(violations))


async def _check_visible(tx: Tx, scope: Scope, ids: Sequence[str]) -> None:
    if await _visible(tx, scope, ids) >= set(ids):
        return
    message = "this would lie outside your own limits: give it a team of yours; limits of issuers or profiles forbid it"
    raise Malformed(message, violations=(Violation("outside_your_scope", message, "team_id"),))


async def _names(tx: Tx, ctx: Context, found: Sequence[Found]) -> list[str]:
    """What each is called: as its bringer says, else by its common name, with its fingerprint when that is taken."""
    by_default = [_common_name(each.bundle.leaf) for each in found if not each.name]
    taken = set(await certificates.ids_by_name(tx, ctx.scope, by_default))
    names = []
    for each in found:
        name = check_label(each.name) if each.name else _common_name(each.bundle.leaf)
        if not each.name and name in taken:
            name = f"{name[: _LONGEST_NAME - 14]} {each.bundle.leaf.fingerprint_sha256[:12]}"
        taken.add(name)
        names.append(name)
    return names


def _entry(ctx: Context, found: Found, name: str) -> _Entry:
    """Its rows as they are written, with the status that time gives it today."""
    now, leaf = ctx.now(), found.bundle.leaf
    certificate = Certificate(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("cert"),
        name=name,
        common_name=_common_name(leaf),
        sans=_sans(leaf),
        environment=check_label(found.environment, "environment", may_be_empty=True),
        owner_id=found.owner_id,
        team_id=found.team_id,
        issuer_id="",
        renewal_policy_id="",
        certificate_profile_id="",
        validity_seconds=None,
        status=CertificateStatus.ACTIVE,
        status_reason="imported",
        expires_at=leaf.not_after,
        tags=check_tags(found.tags),
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
    version = _version(ctx, certificate, found.bundle)
    watched = standing.of_watched(certificate, version)
    certificate = structs.replace(certificate, **standing.written(watched, now))
    return _Entry(certificate, version, incidents.ending(certificate, watched.policy, [version], now))


def _sans(leaf: CertificateFacts) -> list[str]:
    return [spelled(name) for name in leaf.names]


def _common_name(leaf: CertificateFacts) -> str:
    named = _printable(leaf.common_name)
    return named or next(iter(_sans(leaf)), f"serial {serial_hex(leaf.serial_number)}")


def _event(actor: Actor, found: Found, done: _Entry) -> Event:
    version = done.version
    details = {
        "version_id": version.id,
        "serial_number": version.serial_number,
        "fingerprint_sha256": version.fingerprint_sha256,
        "issuer": found.bundle.leaf.issuer[:1000],
        "not_after": version.not_after.isoformat(),
    }
    return Event(
        type=EventType.CERTIFICATE_IMPORTED,
        subject_type="certificate",
        subject_id=done.certificate.id,
        actor=actor,
        details=details,
    )


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
    if not text.isprintable():
        text = "".join(character if character.isprintable() else "?" for character in text)
    return text[:_LONGEST_NAME].strip()
