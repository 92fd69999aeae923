"""Certificates, versions and orders: what only the lifecycle may write.

Current versions: one a (certificate, key holder). Orders keep serial and TBS before anything is signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from msgspec import Struct, structs

from certctl.core.catalogue import RenewalPolicy
from certctl.core.certificate import (
    EXTERNAL_HOLDER,
    Certificate,
    OrderRecord,
    Version,
    VersionFacts,
)
from certctl.core.errors import Conflict, NotFound
from certctl.core.scope import Reach, Scope
from certctl.core.status import (
    CERTIFICATE,
    LIVE_JOB,
    CertificateStatus,
    OrderStatus,
    VersionStatus,
    before,
)
from certctl.core.target import TargetRecord
from certctl.store import arrays, copied, names, schema, together
from certctl.store.among import any_of
from certctl.store.schema import (
    certificate_names,
    certificate_targets,
    certificates,
    orders,
    versions,
)
from certctl.store.statements import Statement
from certctl.store.statuses import is_one_of
from certctl.store.tx import Tx

_LIMITED_BY = {
    "teams": certificates.c.team_id,
    "profiles": certificates.c.certificate_profile_id,
    "issuers": certificates.c.issuer_id,
}


def in_scope(scope: Scope) -> sa.ColumnElement[bool]:
    """The rows of `managed_certificates` that a scope may see."""
    mine = certificates.c.tenant_id == scope.tenant_id
    if scope.is_whole:
        return mine
    return sa.and_(mine, sa.or_(sa.false(), *(_within(reach) for reach in scope.reaches)))


def _within(reach: Reach) -> sa.ColumnElement[bool]:
    return sa.and_(*(_LIMITED_BY[field].in_(ids) for field, ids in reach.limits()))


async def insert_certificate(tx: Tx, scope: Scope, certificate: Certificate, target_ids: Sequence[str]) -> None:
    """A new certificate with its target mapping; Conflict when id or name is taken."""
    row = {name: getattr(certificate, name) for name in certificate.__struct_fields__}
    inserted = await tx.execute(tx.insert(certificates).on_conflict_do_nothing(), [row])
    if inserted.rowcount != 1:
        raise Conflict(f"a certificate with id {certificate.id} or name {certificate.name} already exists")
    await names.write(tx, own_names(certificate))
    if target_ids:
        await map_targets(tx, scope, certificate.id, target_ids)


async def map_targets(tx: Tx, scope: Scope, certificate_id: str, target_ids: Sequence[str]) -> None:
    """Replace the targets a certificate is deployed to."""
    mapping = certificate_targets
    await tx.execute(
        sa.delete(mapping).where(mapping.c.tenant_id == scope.tenant_id, mapping.c.certificate_id == certificate_id)
    )
    rows = [
        {"tenant_id": scope.tenant_id, "certificate_id": certificate_id, "target_id": target_id}
        for target_id in dict.fromkeys(target_ids)
    ]
    if rows:
        await tx.execute(sa.insert(mapping), rows)


_BY_ID = Statement(
    sa.select(certificates).where(
        certificates.c.tenant_id == sa.bindparam("tenant_id"), certificates.c.id == sa.bindparam("certificate_id")
    )
)
_BY_ID_LOCKED = Statement(_BY_ID.clause.with_for_update())


async def certificate(tx: Tx, scope: Scope, certificate_id: str, *, lock: bool = False) -> Certificate:
    """One certificate, locked for the transaction when asked; NotFound outside the scope."""
    if scope.is_whole:
        kept = _BY_ID_LOCKED if lock else _BY_ID
        found = await tx.one(Certificate, kept, tenant_id=scope.tenant_id, certificate_id=certificate_id)
    else:
        built = sa.select(certificates).where(in_scope(scope), certificates.c.id == certificate_id)
        found = await tx.one(Certificate, built.with_for_update() if lock else built)
    if found is None:
        raise NotFound(f"no certificate {certificate_id}")
    return found


async def ids_by_name(tx: Tx, scope: Scope, names: Sequence[str]) -> dict[str, str]:
    """The ids of the certificates that have these names, by name."""
    if not names:
        return {}
    c = certificates.c
    found = await tx.execute(sa.select(c.name, c.id).where(c.tenant_id == scope.tenant_id, any_of(c.name, names)))
    return {row.name: row.id for row in found}


async def certificates_by_id(tx: Tx, scope: Scope, ids: Sequence[str]) -> dict[str, Certificate]:
    """Many certificates at once."""
    if not ids:
        return {}
    rows = await tx.all(Certificate, sa.select(certificates).where(in_scope(scope), any_of(certificates.c.id, ids)))
    return {row.id: row for row in rows}


async def visible_ids(tx: Tx, scope: Scope, ids: Sequence[str]) -> set[str]:
    """Those of these certificates that a scope may see."""
    if not ids:
        return set()
    found = await tx.execute(sa.select(certificates.c.id).where(in_scope(scope), any_of(certificates.c.id, ids)))
    return set(found.scalars())


async def change_certificate(tx: Tx, scope: Scope, certificate_id: str, now: datetime, **values: Any) -> None:
    """Change facts of a certificate that are not its status."""
    await tx.execute(
        sa.update(certificates)
        .where(certificates.c.tenant_id == scope.tenant_id, certificates.c.id == certificate_id)
        .values(values | {"updated_at": now, "row_version": certificates.c.row_version + 1})
    )
    if {"name", "common_name", "sans"} & values.keys():
        renamed = await certificate(tx, Scope.whole(scope.tenant_id), certificate_id)
        await names.replace_own(tx, scope, certificate_id, own_names(renamed))


def own_names(certificate: Certificate) -> list[dict[str, str]]:
    """What a search finds it by, versions apart."""
    tenant_id, certificate_id = certificate.tenant_id, certificate.id
    return names.own_rows(tenant_id, certificate_id, certificate.name, certificate.common_name, certificate.sans)


async def move_certificate(
    tx: Tx, scope: Scope, certificate_id: str, status: CertificateStatus, now: datetime, **values: Any
) -> bool:
    """Guarded change of status; False when the certificate stands where it may not move so (revoked, archived)."""
    allowed = {*before(CERTIFICATE, status), str(status)}
    moved = await tx.execute(
        sa.update(certificates)
        .where(
            certificates.c.tenant_id == scope.tenant_id,
            certificates.c.id == certificate_id,
            is_one_of(certificates.c.status, allowed),
        )
        .values(values | {"status": status, "updated_at": now, "row_version": certificates.c.row_version + 1})
    )
    return moved.rowcount == 1


async def targets_of(tx: Tx, scope: Scope, certificate_id: str) -> list[TargetRecord]:
    """The enabled, unretired targets a certificate is mapped to."""
    targets, mapping = schema.targets, certificate_targets
    return await tx.all(
        TargetRecord,
        sa.select(targets)
        .join(
            mapping,
            sa.and_(mapping.c.tenant_id == targets.c.tenant_id, mapping.c.target_id == targets.c.id),
        )
        .where(
            mapping.c.tenant_id == scope.tenant_id,
            mapping.c.certificate_id == certificate_id,
            targets.c.enabled.is_(True),
            targets.c.retired_at.is_(None),
        )
        .order_by(targets.c.id),
    )


async def other_certificates_of(tx: Tx, scope: Scope, certificate_id: str, target_ids: Sequence[str]) -> dict[str, str]:
    """Which of these targets already carry another living certificate: target id -> its id, empty when it is out of
    sight.
    """
    if not target_ids:
        return {}
    mapping = certificate_targets
    rows = await tx.execute(
        sa.select(mapping.c.target_id, sa.case((in_scope(scope), mapping.c.certificate_id), else_="").label("seen"))
        .join(
            certificates,
            sa.and_(certificates.c.tenant_id == mapping.c.tenant_id, certificates.c.id == mapping.c.certificate_id),
        )
        .where(
            mapping.c.tenant_id == scope.tenant_id,
            mapping.c.target_id.in_(tuple(target_ids)),
            mapping.c.certificate_id != certificate_id,
            certificates.c.status != CertificateStatus.ARCHIVED,
        )
    )
    return {row.target_id: row.seen for row in rows}


async def look_again(tx: Tx, scope: Scope, renewal_policy_id: str, now: datetime) -> None:
    """Every certificate under this policy is looked at by the next tick: its decision may have changed."""
    await tx.execute(
        sa.update(certificates)
        .where(
            certificates.c.tenant_id == scope.tenant_id,
            certificates.c.renewal_policy_id == renewal_policy_id,
            certificates.c.status.not_in((CertificateStatus.ARCHIVED, CertificateStatus.REVOKED)),
        )
        .values(next_check_at=now, row_version=certificates.c.row_version + 1)
    )


async def insert_order(tx: Tx, scope: Scope, order: OrderRecord) -> OrderRecord:
    """Write an intent once a job: what is already there wins, so that no second serial is ever drawn for it."""
    row = {name: getattr(order, name) for name in order.__struct_fields__}
    row["serial_number"] = order.serial_number or None
    once = tx.insert(orders).on_conflict_do_nothing(index_elements=["tenant_id", "job_id"])
    if (await tx.execute(once, [row])).rowcount == 1:
        return order
    found = (await orders_of_jobs(tx, scope, [order.job_id])).get(order.job_id)
    if found is None:
        raise Conflict(f"the serial number drawn for job {order.job_id} is taken")
    return found


async def orders_of_jobs(tx: Tx, scope: Scope, job_ids: Sequence[str]) -> dict[str, OrderRecord]:
    """The orders of many jobs, by job id."""
    if not job_ids:
        return {}
    columns = [column for column in orders.c if column.name != "serial_number"]
    rows = await tx.all(
        OrderRecord,
        sa.select(*columns, sa.func.coalesce(orders.c.serial_number, "").label("serial_number")).where(
            orders.c.tenant_id == scope.tenant_id, orders.c.job_id.in_(tuple(job_ids))
        ),
    )
    return {row.job_id: row for row in rows}


async def change_order(tx: Tx, scope: Scope, order_id: str, status: OrderStatus, **values: Any) -> None:
    """Write what became of an order."""
    await tx.execute(
        sa.update(orders)
        .where(orders.c.tenant_id == scope.tenant_id, orders.c.id == order_id)
        .values(values | {"status": status})
    )


async def insert_version(tx: Tx, scope: Scope, version: Version) -> Version:
    """Write a version once a job; returns the one that stands."""
    row = {name: getattr(version, name) for name in version.__struct_fields__}
    once = tx.insert(versions).values(row).on_conflict_do_nothing(index_elements=["tenant_id", "job_id"])
    stands: Version | None = version
    if (await tx.execute(once)).rowcount != 1:
        of_job = sa.and_(versions.c.tenant_id == scope.tenant_id, versions.c.job_id == version.job_id)
        stands = await tx.one(Version, sa.select(versions).where(of_job))
    if stands is None:
        raise Conflict("a certificate with these very bytes is already recorded for another job")
    found_by = (stands.tenant_id, stands.certificate_id, stands.serial_number, stands.fingerprint_sha256)
    await names.write(tx, names.version_rows(*found_by))
    return stands


async def insert_current(tx: Tx, scope: Scope, version: Version) -> Version:
    """Write a version once a job and make it the current one of its holder; returns the one that stands.

    An imported one beside it is left as it is: `around` tells of it, `make_current` supersedes it.
    """
    row = structs.asdict(version) | {"status": VersionStatus.CURRENT}
    if (await tx.execute(tx.insert(versions).on_conflict_do_nothing(), [row])).rowcount == 1:
        found_by = (version.tenant_id, version.certificate_id, version.serial_number, version.fingerprint_sha256)
        await names.write(tx, names.version_rows(*found_by))
        return structs.replace(version, status=VersionStatus.CURRENT)
    # its holder has one already, or it was recorded before
    stands = await insert_version(tx, scope, version)
    await make_current(tx, scope, stands)
    return stands


class Around(Struct, frozen=True, kw_only=True):
    """What there is beside the one current version of a certificate."""

    other_versions: bool
    targets: bool
    live_jobs: bool
    was_told_of: bool

    @property
    def is_bare(self) -> bool:
        """Nothing that says how the certificate stands."""
        return not (self.other_versions or self.targets or self.live_jobs)


async def around(
    tx: Tx, scope: Scope, certificate: Certificate, version_id: str, types: Sequence[str]
) -> tuple[Around, RenewalPolicy | None]:
    """Whether a certificate has current versions but this one, targets, live jobs of these types, or told incidents;
    and its renewal policy.
    """
    asked = {
        "tenant": scope.tenant_id,
        "certificate": certificate.id,
        "version": version_id,
        "policy": certificate.renewal_policy_id,
    }
    row = (await tx.execute(_around(tuple(types)), [asked])).one()
    looks = Around.__struct_fields__
    (policy,) = together.taken_apart(row[len(looks) :], RenewalPolicy)
    return Around(**dict(zip(looks, row, strict=False))), policy


@lru_cache(maxsize=4)
def _around(types: tuple[str, ...]) -> sa.Select[Any]:
    jobs, told, policies = schema.jobs, schema.notifications, schema.renewal_policies
    tenant: sa.BindParameter[str] = sa.bindparam("tenant")
    beside: dict[str, tuple[sa.Table, list[sa.ColumnElement[bool]]]] = {
        "other_versions": (
            versions,
            [versions.c.status == VersionStatus.CURRENT, versions.c.id != sa.bindparam("version")],
        ),
        "targets": (certificate_targets, []),
        "live_jobs": (jobs, [is_one_of(jobs.c.type, types), is_one_of(jobs.c.status, LIVE_JOB)]),
        "was_told_of": (told, [told.c.incident != ""]),
    }
    looks = [
        sa.exists()
        .where(table.c.tenant_id == tenant, table.c.certificate_id == sa.bindparam("certificate"), *more)
        .label(name)
        for name, (table, more) in beside.items()
    ]
    one = sa.select(*looks).subquery("one")
    mine = sa.and_(policies.c.tenant_id == tenant, policies.c.id == sa.bindparam("policy"))
    return sa.select(*one.c, *together.columns(RenewalPolicy, policies, "policy")).select_from(
        one.outerjoin(policies, mine)
    )


async def insert_imported(tx: Tx, scope: Scope, entries: Sequence[tuple[Certificate, Version]]) -> None:
    """Write imported certificates, each with its one version; Conflict when a name is taken or these very bytes are
    in the inventory.
    """
    del scope
    if not entries:
        return
    # in one order, whoever brings them: two calls with the same certificates queue and do not deadlock
    entries = sorted(entries, key=lambda entry: entry[1].fingerprint_sha256)
    found_by: list[dict[str, str]] = []
    for one, version in entries:
        found_by += own_names(one)
        found_by += names.version_rows(one.tenant_id, one.id, version.serial_number, version.fingerprint_sha256)
    try:
        if copied.is_worth_it(tx, len(entries)):
            told = [structs.astuple(one) for one, _ in entries]
            await copied.insert(tx, certificates, Certificate.__struct_fields__, told)
            told = [structs.astuple(version) for _, version in entries]
            await copied.insert(tx, versions, Version.__struct_fields__, told)
            await copied.insert(tx, certificate_names, names.COLUMNS, [tuple(row.values()) for row in found_by])
            return
        await arrays.insert(tx, certificates, [structs.asdict(certificate) for certificate, _ in entries])
        await arrays.insert(tx, versions, [structs.asdict(version) for _, version in entries])
        await names.write(tx, found_by)
        await tx.send()  # a conflict is told here
    except sa.exc.IntegrityError as error:
        what = f"the name {entries[0][0].name} is taken, or this certificate is in the inventory already"
        raise Conflict(what) from error


async def versions_by_fingerprint(tx: Tx, scope: Scope, fingerprints: Sequence[str]) -> dict[str, Version]:
    """The versions with these very bytes, by SHA-256, whoever may see their certificates."""
    known = (versions.c.tenant_id == scope.tenant_id, versions.c.fingerprint_sha256.in_(tuple(fingerprints)))
    return {row.fingerprint_sha256: row for row in await tx.all(Version, sa.select(versions).where(*known))}


async def facts_by_fingerprint(tx: Tx, scope: Scope, fingerprints: Sequence[str]) -> dict[str, VersionFacts]:
    """`versions_by_fingerprint` of any number, without their bytes."""
    columns = [versions.c[name] for name in VersionFacts.__struct_fields__]
    known = (versions.c.tenant_id == scope.tenant_id, any_of(versions.c.fingerprint_sha256, fingerprints))
    return {row.fingerprint_sha256: row for row in await tx.all(VersionFacts, sa.select(*columns).where(*known))}


async def versions_by_id(tx: Tx, scope: Scope, ids: Sequence[str]) -> dict[str, Version]:
    """Many versions at once, by id; those that are missing are missing."""
    if not ids:
        return {}
    mine = (versions.c.tenant_id == scope.tenant_id, any_of(versions.c.id, ids))
    return {row.id: row for row in await tx.all(Version, sa.select(versions).where(*mine))}


async def version(tx: Tx, scope: Scope, version_id: str) -> Version:
    """One version by id; NotFound otherwise."""
    found = await tx.one(
        Version, sa.select(versions).where(versions.c.tenant_id == scope.tenant_id, versions.c.id == version_id)
    )
    if found is None:
        raise NotFound(f"no certificate version {version_id}")
    return found


async def version_of(tx: Tx, scope: Scope, certificate_id: str, version_id: str) -> Version:
    """One version of one certificate; NotFound alike for none, and for one of another certificate."""
    mine = sa.and_(versions.c.tenant_id == scope.tenant_id, versions.c.certificate_id == certificate_id)
    found = await tx.one(Version, sa.select(versions).where(mine, versions.c.id == version_id))
    if found is None:
        raise NotFound(f"certificate {certificate_id} has no version {version_id}")
    return found


async def versions_of(tx: Tx, scope: Scope, certificate_id: str) -> list[Version]:
    """All versions of a certificate, newest first."""
    return await tx.all(
        Version,
        sa.select(versions)
        .where(versions.c.tenant_id == scope.tenant_id, versions.c.certificate_id == certificate_id)
        .order_by(versions.c.created_at.desc(), versions.c.id.desc()),
    )


async def current_versions(tx: Tx, scope: Scope, certificate_id: str) -> dict[str, Version]:
    """The current version of each key holder, by holder id."""
    rows = await tx.all(
        Version,
        sa.select(versions).where(
            versions.c.tenant_id == scope.tenant_id,
            versions.c.certificate_id == certificate_id,
            versions.c.status == VersionStatus.CURRENT,
        ),
    )
    return {row.holder_id: row for row in rows}


async def make_way(tx: Tx, scope: Scope, coming: Sequence[Version]) -> None:
    """The current versions that these will be written in place of, and imported ones beside them, are superseded."""
    await arrays.update(
        tx,
        versions,
        [
            {"of": version.certificate_id, "by": holder_id}
            for version in coming
            for holder_id in dict.fromkeys((version.holder_id, EXTERNAL_HOLDER))
        ],
        match={"of": versions.c.certificate_id.name, "by": versions.c.holder_id.name},
        alike={"status": VersionStatus.SUPERSEDED},
        where={"tenant_id": scope.tenant_id, "status": VersionStatus.CURRENT},
    )


async def make_current(tx: Tx, scope: Scope, chosen: Version) -> None:
    """Make one version the current one of its holder; the one before it, and an imported one, are superseded."""
    of_it = sa.and_(
        versions.c.tenant_id == scope.tenant_id,
        versions.c.certificate_id == chosen.certificate_id,
        versions.c.holder_id.in_((chosen.holder_id, EXTERNAL_HOLDER)),
    )
    await tx.execute(
        sa.update(versions)
        .where(of_it, versions.c.status == VersionStatus.CURRENT, versions.c.id != chosen.id)
        .values(status=VersionStatus.SUPERSEDED)
    )
    await tx.execute(
        sa.update(versions)
        .where(of_it, versions.c.id == chosen.id, versions.c.status != VersionStatus.REVOKED)
        .values(status=VersionStatus.CURRENT)
    )
