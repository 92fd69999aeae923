"""What the standings of certificates are made of, for many at once: each kind of fact by one statement, and what comes
of it written by one.

No bytes of certificates are read here. Whoever writes holds the rows' locks, or has just written them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certctl.core.certificate import Certificate, VersionFacts
from certctl.core.job import Job
from certctl.core.scope import Scope
from certctl.core.status import LIVE_JOB, JobType, VersionStatus
from certctl.core.target import TargetRecord
from certctl.store import arrays, schema
from certctl.store.among import any_of
from certctl.store.certificates import in_scope
from certctl.store.schema import certificate_targets, certificates, jobs, versions
from certctl.store.tx import Tx

_FACTS = tuple(versions.c[name] for name in VersionFacts.__struct_fields__)


async def due(tx: Tx, scope: Scope, now: datetime, limit: int, among: Sequence[str] | None = None) -> list[Certificate]:
    """Certificates whose next check is due, oldest first, locked: an indexed range, never a scan. `among`: of these."""
    c = certificates.c
    found = sa.select(certificates).where(c.tenant_id == scope.tenant_id, c.next_check_at <= now)
    if among is not None:
        found = found.where(c.id.in_(tuple(among)))
    found = found.order_by(c.next_check_at).limit(limit).with_for_update(skip_locked=True)
    return await tx.all(Certificate, found)


async def locked(tx: Tx, scope: Scope, ids: Sequence[str]) -> dict[str, Certificate]:
    """Those of these certificates that are in scope, locked in one order whoever asks, by id."""
    if not ids:
        return {}
    c = certificates.c
    found = sa.select(certificates).where(in_scope(scope), any_of(c.id, ids)).order_by(c.id).with_for_update()
    return {row.id: row for row in await tx.all(Certificate, found)}


async def current_versions(tx: Tx, scope: Scope, ids: Sequence[str]) -> dict[str, dict[str, VersionFacts]]:
    """The current version of each key holder of each certificate: certificate id -> holder id -> version."""
    found: dict[str, dict[str, VersionFacts]] = {each: {} for each in ids}
    v = versions.c
    mine = (v.tenant_id == scope.tenant_id, any_of(v.certificate_id, ids), v.status == VersionStatus.CURRENT)
    for row in await tx.all(VersionFacts, sa.select(*_FACTS).where(*mine)):
        found[row.certificate_id][row.holder_id] = row
    return found


async def targets(tx: Tx, scope: Scope, ids: Sequence[str]) -> dict[str, list[TargetRecord]]:
    """The enabled, unretired targets that each certificate is mapped to, by its id."""
    found: dict[str, list[TargetRecord]] = {each: [] for each in ids}
    mapping, t = certificate_targets.c, schema.targets.c
    rows = await tx.execute(
        sa.select(mapping.certificate_id.label("mapped_to"), schema.targets)
        .join(schema.targets, sa.and_(mapping.tenant_id == t.tenant_id, mapping.target_id == t.id))
        .where(
            mapping.tenant_id == scope.tenant_id,
            any_of(mapping.certificate_id, ids),
            t.enabled.is_(True),
            t.retired_at.is_(None),
        )
        .order_by(t.id)
    )
    for row in rows.mappings():
        record = TargetRecord(**{name: row[name] for name in TargetRecord.__struct_fields__})
        found[row["mapped_to"]].append(record)
    return found


async def live_jobs(tx: Tx, scope: Scope, ids: Sequence[str], types: Sequence[JobType]) -> dict[str, list[Job]]:
    """The jobs of these types of each certificate that have not ended, by its id."""
    found: dict[str, list[Job]] = {each: [] for each in ids}
    j = jobs.c
    mine = (j.tenant_id == scope.tenant_id, any_of(j.certificate_id, ids))
    under_way = (j.type.in_(tuple(types)), j.status.in_(tuple(LIVE_JOB)))
    for job in await tx.all(Job, sa.select(jobs).where(*mine, *under_way)):
        found[job.certificate_id].append(job)
    return found


async def attempts(tx: Tx, scope: Scope, ids: Sequence[str], prefix: str) -> dict[str, int]:
    """How many jobs of these certificates carry an idempotency key that is a stem beginning so and a number, by stem.

    Found by the certificate: a prefix alone is no range of an index, and would cost a look at every job there is.
    """
    j = jobs.c
    stem = sa.func.rtrim(j.idempotency_key, "0123456789").label("stem")
    mine = (j.tenant_id == scope.tenant_id, any_of(j.certificate_id, ids))
    kept = j.idempotency_key.startswith(prefix, autoescape=True)
    counted = sa.select(stem, sa.func.count().label("number")).where(*mine, kept).group_by(sa.text("stem"))
    return {row.stem: row.number for row in await tx.execute(counted)}


async def wish_replaced(tx: Tx, scope: Scope, version_ids: Sequence[str], now: datetime) -> None:
    """The holders of these versions are asked to replace them; who was asked before is asked since then."""
    v = versions.c
    mine = (v.tenant_id == scope.tenant_id, v.id.in_(tuple(version_ids)), v.replacement_wished_at.is_(None))
    await tx.execute(sa.update(versions).where(*mine).values(replacement_wished_at=now))


async def write(tx: Tx, scope: Scope, now: datetime, rows: Sequence[dict[str, Any]]) -> None:
    """What certificates read as. Each row is `row_id`, `was` (the status it had, which guards it) and, the same in
    all, the columns that it writes.
    """
    if not rows:
        return
    await arrays.update(
        tx,
        certificates,
        rows,
        match={"row_id": certificates.c.id.name, "was": certificates.c.status.name},
        alike={certificates.c.updated_at.name: now},
        where={certificates.c.tenant_id.name: scope.tenant_id},
        grows=(certificates.c.row_version.name,),
    )
