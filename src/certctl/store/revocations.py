"""Revoking whole certificates by the hundred: what may be, and the facts of it. Only the lifecycle may write it.

On PostgreSQL the facts, the versions and the certificates are one statement; on SQLite, which is asked within the
process, one each.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.certificate import EXTERNAL_HOLDER, RevocationRecord
from certctl.core.scope import Scope
from certctl.core.status import CERTIFICATE, LIVE_JOB, CertificateStatus, JobType, VersionStatus, before
from certctl.store.certificates import in_scope
from certctl.store.schema import certificates, jobs, revocations, versions
from certctl.store.tx import Tx
from certctl.store.wake import REVOKED_CHANNEL

# the driver's own words, as for events: one round trip, put together once
_MARK = f"""
WITH fact AS (
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
    AS f(id, certificate_id, version_id, issuer_id, ca_certificate_id, serial_number)
), told AS (
  INSERT INTO {revocations.name} (tenant_id, id, certificate_id, version_id, issuer_id, ca_certificate_id,
    serial_number, reason, revoked_by, revoked_at, issuer_notified)
  SELECT $7::text, id, certificate_id, version_id, issuer_id, ca_certificate_id, serial_number, $8::text, $9::text,
    $10::timestamptz, $11::boolean FROM fact
), of_them AS (
  UPDATE {versions.name} v SET status = '{VersionStatus.REVOKED}'
  FROM fact WHERE v.tenant_id = $7::text AND v.id = fact.version_id
)
UPDATE {certificates.name} SET status = '{CertificateStatus.REVOKED}', revoked_at = $10::timestamptz,
  revocation_reason = $8::text, status_reason = 'revoked: ' || $8::text, next_check_at = NULL,
  updated_at = $10::timestamptz, row_version = row_version + 1
WHERE tenant_id = $7::text AND id = ANY($2::text[])
"""


class Revocable(Struct, frozen=True, kw_only=True):
    """A certificate, locked, that may be revoked from where it stands."""

    id: str
    name: str


class OwnVersion(Struct, frozen=True, kw_only=True):
    """What a revocation needs of a version that our own CA has signed."""

    id: str
    issuer_id: str
    ca_certificate_id: str
    serial_number: str


async def lock_revocable(tx: Tx, scope: Scope, ids: Sequence[str]) -> list[Revocable]:
    """Lock those of these certificates, in the order of their ids, that a scope may see and that may be revoked."""
    c = certificates.c
    return await tx.all(
        Revocable,
        sa.select(c.id, c.name)
        .where(
            in_scope(scope), c.id.in_(tuple(ids)), c.status.in_(tuple(before(CERTIFICATE, CertificateStatus.REVOKED)))
        )
        .order_by(c.id)
        .with_for_update(),
    )


async def own_versions(tx: Tx, scope: Scope, ids: Sequence[str], now: datetime) -> dict[str, list[OwnVersion]]:
    """What is to be revoked of each of these certificates, all of which our own CA has signed.

    Left out are those of which anything is signed by somebody else, imported or current although it has ended, those
    with nothing to revoke, and those for which a job is under way that would issue or deploy.
    """
    v, j = versions.c, jobs.c
    under_way = sa.select(j.certificate_id).where(
        j.tenant_id == scope.tenant_id,
        j.certificate_id.in_(tuple(ids)),
        j.status.in_(tuple(LIVE_JOB)),
        j.type.in_((JobType.ISSUANCE, JobType.RENEWAL, JobType.DEPLOYMENT)),
    )
    rows = await tx.execute(
        sa.select(
            v.certificate_id,
            v.id,
            v.issuer_id,
            v.ca_certificate_id,
            v.serial_number,
            v.holder_id,
            v.status,
            v.not_after,
        ).where(
            v.tenant_id == scope.tenant_id,
            v.certificate_id.in_(tuple(ids)),
            v.status != VersionStatus.REVOKED,
            v.certificate_id.not_in(under_way),
        )
    )
    found: dict[str, list[OwnVersion]] = {}
    others: set[str] = set()
    for row in rows:
        if row.not_after <= now:
            # what has expired is trusted by nobody and would only swell the CRL (RFC 5280 3.3)
            if row.status == VersionStatus.CURRENT:
                others.add(row.certificate_id)
        elif not row.ca_certificate_id or row.holder_id == EXTERNAL_HOLDER:
            others.add(row.certificate_id)
        else:
            version = OwnVersion(
                id=row.id,
                issuer_id=row.issuer_id,
                ca_certificate_id=row.ca_certificate_id,
                serial_number=row.serial_number,
            )
            found.setdefault(row.certificate_id, []).append(version)
    return {certificate_id: of_it for certificate_id, of_it in found.items() if certificate_id not in others}


async def mark_all_revoked(tx: Tx, scope: Scope, facts: Sequence[RevocationRecord]) -> None:
    """Write facts of one moment, reason and actor about whole certificates that this transaction has locked, and what
    their rows and versions say since. The caller writes the events, as for `certificates.mark_revoked`.
    """
    tx.wake(REVOKED_CHANNEL)
    one = facts[0]
    if tx.dialect == "postgresql":
        names = ("id", "certificate_id", "version_id", "issuer_id", "ca_certificate_id", "serial_number")
        columns = [[getattr(fact, name) for fact in facts] for name in names]
        same = (scope.tenant_id, one.reason, one.revoked_by, one.revoked_at, one.issuer_notified)
        await tx.connection.exec_driver_sql(_MARK, (*columns, *same))
        return
    rows: list[dict[str, Any]] = [{name: getattr(fact, name) for name in fact.__struct_fields__} for fact in facts]
    await tx.execute(sa.insert(revocations), rows)
    v, c = versions.c, certificates.c
    await tx.execute(
        sa.update(versions)
        .where(v.tenant_id == scope.tenant_id, v.id.in_(tuple(fact.version_id for fact in facts)))
        .values(status=VersionStatus.REVOKED)
    )
    await tx.execute(
        sa.update(certificates)
        .where(c.tenant_id == scope.tenant_id, c.id.in_(tuple({fact.certificate_id for fact in facts})))
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
