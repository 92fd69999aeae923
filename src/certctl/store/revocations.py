"""Revocations: one version, or whole certificates by the hundred: what may be revoked, and the facts of it. Only the
lifecycle may write it.

Of a hundred, on PostgreSQL, the facts, the versions, the certificates and whatever else the transaction writes are one
statement; on SQLite, which is asked within the process, one each.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from msgspec import Struct, structs

from certctl.core.certificate import EXTERNAL_HOLDER, RevocationRecord
from certctl.core.scope import Scope
from certctl.core.status import CERTIFICATE, LIVE_JOB, CertificateStatus, JobType, VersionStatus, before
from certctl.store import arrays
from certctl.store.among import any_given
from certctl.store.certificates import in_scope
from certctl.store.schema import certificates, issuers, jobs, revocations, versions
from certctl.store.statements import Statement
from certctl.store.statuses import is_one_of
from certctl.store.tx import Tx
from certctl.store.wake import REVOKED_CHANNEL

# the driver's own words, as for events; what each writes needs nothing of the other
_MARK_VERSIONS = f"""
UPDATE {versions.name} SET status = '{VersionStatus.REVOKED}' WHERE tenant_id = $1::text AND id = ANY($2::text[])
"""
_MARK_CERTIFICATES = f"""
UPDATE {certificates.name} SET status = '{CertificateStatus.REVOKED}', revoked_at = $1::timestamptz,
  revocation_reason = $2::text, status_reason = 'revoked: ' || $2::text, next_check_at = NULL,
  updated_at = $1::timestamptz, row_version = row_version + 1
WHERE tenant_id = $3::text AND id = ANY($4::text[])
"""
# of an array PostgreSQL expects many, and plans anew each time when there is but one
_MARK_ONE_VERSION = _MARK_VERSIONS.replace("= ANY($2::text[])", "= $2::text")
_MARK_ONE_CERTIFICATE = _MARK_CERTIFICATES.replace("= ANY($4::text[])", "= $4::text")


class Revocable(Struct, frozen=True, kw_only=True):
    """A certificate, locked, that may be revoked from where it stands."""

    id: str
    name: str


class OwnVersion(Struct, frozen=True, kw_only=True):
    """What a revocation needs of a version that our own CA has signed."""

    id: str
    issuer_id: str
    issuer_type: str
    ca_certificate_id: str
    serial_number: str


def _revocable(seen: sa.ColumnElement[bool]) -> sa.Select[tuple[str, str]]:
    c = certificates.c
    return (
        sa.select(c.id, c.name)
        .where(
            seen,
            any_given(c.id, "ids"),
            is_one_of(c.status, before(CERTIFICATE, CertificateStatus.REVOKED)),
        )
        .order_by(c.id)
        .with_for_update()
    )


_REVOCABLE = Statement(_revocable(certificates.c.tenant_id == sa.bindparam("tenant_id")))


async def lock_revocable(tx: Tx, scope: Scope, ids: Sequence[str]) -> list[Revocable]:
    """Lock those of these certificates, in the order of their ids, that a scope may see and that may be revoked."""
    if scope.is_whole:
        return await tx.all(Revocable, _REVOCABLE, tenant_id=scope.tenant_id, ids=ids)
    return await tx.all(Revocable, Statement(_revocable(in_scope(scope))), ids=ids)


def _own_versions() -> Statement:
    v, j = versions.c, jobs.c
    under_way = sa.select(j.certificate_id).where(
        j.tenant_id == sa.bindparam("tenant_id"),
        any_given(j.certificate_id, "ids"),
        is_one_of(j.status, LIVE_JOB),
        is_one_of(j.type, (JobType.ISSUANCE, JobType.RENEWAL, JobType.DEPLOYMENT)),
    )
    return Statement(
        sa.select(
            v.certificate_id,
            v.id,
            v.issuer_id,
            issuers.c.type.label("issuer_type"),
            v.ca_certificate_id,
            v.serial_number,
            v.holder_id,
            v.status,
            v.not_after,
        )
        .join(issuers, sa.and_(issuers.c.tenant_id == v.tenant_id, issuers.c.id == v.issuer_id), isouter=True)
        .where(
            v.tenant_id == sa.bindparam("tenant_id"),
            any_given(v.certificate_id, "ids"),
            v.status != VersionStatus.REVOKED,
            v.certificate_id.not_in(under_way),
        )
    )


_OWN_VERSIONS = _own_versions()


async def own_versions(tx: Tx, scope: Scope, ids: Sequence[str], now: datetime) -> dict[str, list[OwnVersion]]:
    """What is to be revoked of each of these certificates, all of which our own CA has signed.

    Left out are those of which anything is signed by somebody else, imported or current although it has ended, those
    with nothing to revoke, and those for which a job is under way that would issue or deploy.
    """
    if not ids:
        return {}
    rows = await tx.execute(_OWN_VERSIONS, tenant_id=scope.tenant_id, ids=ids)
    found: dict[str, list[OwnVersion]] = {}
    others: set[str] = set()
    for row in rows:
        if row.not_after <= now:
            # what has expired is trusted by nobody and would only swell the CRL (RFC 5280 3.3)
            if row.status == VersionStatus.CURRENT:
                others.add(row.certificate_id)
        elif not row.ca_certificate_id or row.issuer_type is None or row.holder_id == EXTERNAL_HOLDER:
            others.add(row.certificate_id)
        else:
            version = OwnVersion(
                id=row.id,
                issuer_id=row.issuer_id,
                issuer_type=row.issuer_type,
                ca_certificate_id=row.ca_certificate_id,
                serial_number=row.serial_number,
            )
            found.setdefault(row.certificate_id, []).append(version)
    return {certificate_id: of_it for certificate_id, of_it in found.items() if certificate_id not in others}


async def mark_all_revoked(tx: Tx, scope: Scope, facts: Sequence[RevocationRecord]) -> None:
    """Write facts of one moment, reason and actor about whole certificates that this transaction has locked, and what
    their rows and versions say since. The caller writes the events, as for `mark_revoked`.
    """
    tx.wake(REVOKED_CHANNEL)
    one = facts[0]
    version_ids, ids = [fact.version_id for fact in facts], list({fact.certificate_id for fact in facts})
    await arrays.insert(tx, revocations, [structs.asdict(fact) for fact in facts])
    if tx.dialect == "postgresql":
        if len(facts) == 1:
            await tx.write(_MARK_ONE_VERSION, (scope.tenant_id, one.version_id))
            await tx.write(_MARK_ONE_CERTIFICATE, (one.revoked_at, one.reason, scope.tenant_id, one.certificate_id))
            return
        await tx.write(_MARK_VERSIONS, (scope.tenant_id, version_ids))
        await tx.write(_MARK_CERTIFICATES, (one.revoked_at, one.reason, scope.tenant_id, ids))
        return
    v, c = versions.c, certificates.c
    await tx.execute(
        sa.update(versions)
        .where(v.tenant_id == scope.tenant_id, v.id.in_(version_ids))
        .values(status=VersionStatus.REVOKED)
    )
    await tx.execute(
        sa.update(certificates)
        .where(c.tenant_id == scope.tenant_id, c.id.in_(ids))
        .values(
            status=CertificateStatus.REVOKED,
            revoked_at=one.revoked_at,
            revocation_reason=one.reason,
            status_reason=f"revoked: {one.reason}",
            next_check_at=None,
            updated_at=one.revoked_at,
            row_version=c.row_version + 1,
        )
    )


async def mark_revoked(tx: Tx, scope: Scope, record: RevocationRecord) -> bool:
    """Write the fact and the version's status; False when it was revoked before.

    Answers that were signed before are kept by processes (`protocols.pki.answers`): the caller writes the event
    `certificate_revoked` in the same transaction, by which they hear of it.
    """
    tx.wake(REVOKED_CHANNEL)
    row = {name: getattr(record, name) for name in record.__struct_fields__}
    inserted = await tx.execute(tx.insert(revocations).values(row).on_conflict_do_nothing())
    await tx.execute(
        sa.update(versions)
        .where(versions.c.tenant_id == scope.tenant_id, versions.c.id == record.version_id)
        .values(status=VersionStatus.REVOKED)
    )
    return inserted.rowcount == 1


async def revocations_to_tell(tx: Tx, scope: Scope, certificate_id: str) -> list[RevocationRecord]:
    """Revocations of a certificate that its CA has not confirmed."""
    return await tx.all(
        RevocationRecord,
        sa.select(revocations).where(
            revocations.c.tenant_id == scope.tenant_id,
            revocations.c.certificate_id == certificate_id,
            revocations.c.issuer_notified.is_(False),
        ),
    )


async def confirm_revocation(tx: Tx, scope: Scope, revocation_id: str) -> None:
    """The CA knows."""
    await tx.execute(
        sa.update(revocations)
        .where(revocations.c.tenant_id == scope.tenant_id, revocations.c.id == revocation_id)
        .values(issuer_notified=True)
    )
