"""Writes the rows of a sample fleet, many at once, and remembers how far it has come. Only `certctl.sample` may.

No status is guarded and no row is locked here: nobody else is at work on an installation that has no server yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certctl.core.certificate import OWN_TLS_SOURCE, Certificate, Version
from certctl.core.scope import Scope
from certctl.core.status import VersionStatus
from certctl.store import schema
from certctl.store.tx import Tx

_TABLES: Mapping[str, sa.Table] = {
    table.name: table
    for table in (
        schema.agents,
        schema.targets,
        schema.certificates,
        schema.certificate_targets,
        schema.certificate_names,
        schema.versions,
        schema.orders,
        schema.revocations,
        schema.jobs,
        schema.steps,
        schema.deployments,
        schema.observations,
    )
}
# what one statement may hold of values, on both databases
_AT_ONCE = 1000


async def insert(tx: Tx, scope: Scope, rows: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """Write rows by the names of their tables; each row of a table has the same columns."""
    for name, many in rows.items():
        for start in range(0, len(many), _AT_ONCE):
            part = [row | {"tenant_id": scope.tenant_id} for row in many[start : start + _AT_ONCE]]
            await tx.execute(sa.insert(_TABLES[name]), part)


async def write_fact(tx: Tx, scope: Scope, name: str, value: bytes, now: datetime) -> None:
    """Keep a fact of the installation in place of the one before."""
    c = schema.installation.c
    await tx.execute(sa.delete(schema.installation).where(c.tenant_id == scope.tenant_id, c.name == name))
    row = {"tenant_id": scope.tenant_id, "name": name, "value": value, "created_at": now}
    await tx.execute(sa.insert(schema.installation).values(row))


async def somebodys(tx: Tx, scope: Scope) -> str:
    """What an installation holds that is somebody's, in words; empty when it is as it was made."""
    found = []
    for table, word, column in (
        (schema.certificates, "certificates", schema.certificates.c.source != OWN_TLS_SOURCE),
        (schema.agents, "agents", sa.true()),
        (schema.targets, "targets", sa.true()),
        (schema.teams, "teams", sa.true()),
        (schema.owners, "owners", sa.true()),
    ):
        mine = sa.select(sa.func.count()).select_from(table).where(table.c.tenant_id == scope.tenant_id, column)
        if number := await tx.scalar(mine):
            found.append(f"{number} {word}")
    return ", ".join(found)


async def settle(tx: Tx, scope: Scope, rows: Sequence[dict[str, Any]]) -> None:
    """What certificates read as, once their histories are written: each row is `row_id` and the same columns."""
    if rows:
        c = schema.certificates.c
        columns: dict[str, Any] = {name: sa.bindparam(name) for name in rows[0] if name != "row_id"}
        mine = sa.and_(c.tenant_id == scope.tenant_id, c.id == sa.bindparam("row_id"))
        await tx.execute(sa.update(schema.certificates).where(mine).values(columns), list(rows))


async def current(tx: Tx, scope: Scope, certificate_ids: Sequence[str]) -> list[Version]:
    """The current versions of many certificates."""
    v = schema.versions.c
    mine = sa.and_(v.tenant_id == scope.tenant_id, v.certificate_id.in_(tuple(certificate_ids)))
    return await tx.all(Version, sa.select(schema.versions).where(mine, v.status == VersionStatus.CURRENT))


async def certificates_of(tx: Tx, scope: Scope, ids: Sequence[str]) -> dict[str, Certificate]:
    """Certificates by id, those that are there."""
    c = schema.certificates.c
    mine = sa.and_(c.tenant_id == scope.tenant_id, c.id.in_(tuple(ids)))
    return {row.id: row for row in await tx.all(Certificate, sa.select(schema.certificates).where(mine))}


async def is_named(tx: Tx, scope: Scope, name: str) -> bool:
    """Whether a certificate has this name."""
    c = schema.certificates.c
    return bool(await tx.scalar(sa.select(c.id).where(c.tenant_id == scope.tenant_id, c.name == name)))


async def refresh_statistics(tx: Tx) -> None:
    """Let the database's planner know what has come in."""
    await tx.execute(sa.text("ANALYZE"))
