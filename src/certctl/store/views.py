"""Read models for the doors: lists, counts and joins. Nothing here writes, and no list loads certificate bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from certctl.core.certificate import Certificate, Version
from certctl.core.errors import NotFound
from certctl.core.job import Job, Step
from certctl.core.scope import Scope
from certctl.core.target import Deployment, TargetRecord
from certctl.store import catalogue, certificates, jobs, schema
from certctl.store.among import any_of
from certctl.store.listings import jobs_in_scope
from certctl.store.lists import Page, Slice
from certctl.store.tx import Tx, as_struct

RecordT = TypeVar("RecordT", bound=msgspec.Struct)


async def target_ids(tx: Tx, scope: Scope, certificate_ids: Sequence[str]) -> dict[str, list[str]]:
    """The mapped targets of many certificates."""
    mapping = schema.certificate_targets
    found: dict[str, list[str]] = {certificate_id: [] for certificate_id in certificate_ids}
    if certificate_ids:
        rows = await tx.execute(
            sa.select(mapping.c.certificate_id, mapping.c.target_id)
            .where(mapping.c.tenant_id == scope.tenant_id, any_of(mapping.c.certificate_id, certificate_ids))
            .order_by(mapping.c.target_id)
        )
        for row in rows:
            found[row.certificate_id].append(row.target_id)
    return found


async def with_targets(tx: Tx, scope: Scope, certificate_id: str) -> tuple[Certificate, list[str]]:
    """One certificate and its mapped targets, by one statement; NotFound outside the scope."""
    owned, mapping = schema.certificates, schema.certificate_targets
    together = sa.and_(mapping.c.tenant_id == owned.c.tenant_id, mapping.c.certificate_id == owned.c.id)
    found = await tx.execute(
        sa.select(owned, mapping.c.target_id)
        .select_from(owned.outerjoin(mapping, together))
        .where(certificates.in_scope(scope), owned.c.id == certificate_id)
        .order_by(mapping.c.target_id)
    )
    rows = found.mappings().all()
    if not rows:
        raise NotFound(f"no certificate {certificate_id}")
    return as_struct(Certificate, rows[0]), [row["target_id"] for row in rows if row["target_id"] is not None]


class DeploymentView(msgspec.Struct, frozen=True):
    """A mapped target and the newest deployment of the certificate on it, if there was one."""

    target: TargetRecord
    deployment: Deployment | None


async def deployments_of(tx: Tx, scope: Scope, certificate_id: str) -> list[DeploymentView]:
    """Where a certificate is mapped to, and what is known of it there."""
    await certificates.certificate(tx, scope, certificate_id)
    targets, mapping = schema.targets, schema.certificate_targets
    mapped = await tx.all(
        TargetRecord,
        sa.select(targets)
        .join(mapping, sa.and_(mapping.c.tenant_id == targets.c.tenant_id, mapping.c.target_id == targets.c.id))
        .where(mapping.c.tenant_id == scope.tenant_id, mapping.c.certificate_id == certificate_id)
        .order_by(targets.c.id),
    )
    by_target = await newest_deployments(tx, scope, certificate_id)
    return [DeploymentView(target, by_target.get(target.id)) for target in mapped]


async def newest_deployments(tx: Tx, scope: Scope, certificate_id: str) -> dict[str, Deployment]:
    """The newest deployment of a certificate on each target that it ever was on."""
    deployments = schema.deployments
    found = await tx.all(
        Deployment,
        sa.select(deployments)
        .where(deployments.c.tenant_id == scope.tenant_id, deployments.c.certificate_id == certificate_id)
        .order_by(deployments.c.created_at, deployments.c.id),
    )
    return {deployment.target_id: deployment for deployment in found}


async def current_versions(tx: Tx, scope: Scope, certificate_id: str) -> list[Version]:
    """The current version of each key holder; NotFound outside the scope."""
    await certificates.certificate(tx, scope, certificate_id)
    return list((await certificates.current_versions(tx, scope, certificate_id)).values())


async def certificate(tx: Tx, scope: Scope, certificate_id: str) -> Certificate:
    """One certificate; NotFound outside the scope."""
    return await certificates.certificate(tx, scope, certificate_id)


async def version(tx: Tx, scope: Scope, certificate_id: str, version_id: str) -> Version:
    """One version of one certificate; NotFound otherwise."""
    await certificates.certificate(tx, scope, certificate_id)
    return await certificates.version_of(tx, scope, certificate_id, version_id)


async def job_page(
    tx: Tx, scope: Scope, equal: Mapping[str, str], part: Slice, *, descending: bool = True
) -> Page[Job]:
    """One page of jobs; `equal` narrows by status, type, certificate_id, agent_id, target_id, parent_id (case
    folded).
    """
    table = schema.jobs
    conditions = [jobs_in_scope(scope)]
    for name, value in equal.items():
        folded = name in {"status", "type"}
        conditions.append(sa.func.lower(table.c[name]) == value.lower() if folded else table.c[name] == value)
    where = sa.and_(*conditions)
    order = (table.c.created_at.desc(), table.c.id.desc()) if descending else (table.c.created_at, table.c.id)
    rows = await tx.all(Job, sa.select(table).where(where).order_by(*order).limit(part.limit).offset(part.offset))
    return Page(rows, await _count(tx, table, where))


async def job(tx: Tx, scope: Scope, job_id: str) -> Job:
    """One job whose certificate the scope may see; NotFound otherwise."""
    return await jobs.visible_job(tx, scope, job_id)


async def steps_of(tx: Tx, scope: Scope, job_id: str) -> list[Step]:
    """The steps of a job, in order."""
    table = schema.steps
    return await tx.all(
        Step,
        sa.select(table)
        .where(table.c.tenant_id == scope.tenant_id, table.c.job_id == job_id)
        .order_by(table.c.created_at, table.c.id),
    )


async def record_page(tx: Tx, scope: Scope, kind: type[RecordT], part: Slice, **equal: Any) -> Page[RecordT]:
    """One page of a kind of record that operators configure, by name."""
    table, _ = catalogue.TABLES[kind]
    conditions = [table.c[name].is_(None) if value is None else table.c[name] == value for name, value in equal.items()]
    where = sa.and_(catalogue.in_scope(kind, scope), *conditions)
    order = table.c.name if "name" in table.c else table.c.created_at
    rows = await tx.all(
        kind, sa.select(table).where(where).order_by(order, table.c.id).limit(part.limit).offset(part.offset)
    )
    return Page(rows, await _count(tx, table, where))


async def _count(tx: Tx, table: sa.Table, where: sa.ColumnElement[bool]) -> int:
    return int(await tx.scalar(sa.select(sa.func.count()).select_from(table).where(where)))


class StatusCount(msgspec.Struct, frozen=True):
    """How many certificates read so."""

    status: str
    number: int


async def certificates_by_status(tx: Tx, scope: Scope) -> list[StatusCount]:
    """Counts by SQL, for the whole scope."""
    table = schema.certificates
    rows = await tx.execute(
        sa.select(table.c.status, sa.func.count().label("number"))
        .where(certificates.in_scope(scope))
        .group_by(table.c.status)
    )
    return [StatusCount(row.status, row.number) for row in rows]
