"""Health checks of endpoints: each look is claimed under a token, and settled by whoever still holds it.

A claim moves `next_check_at` to the end of its lease: what a killed process was looking at comes up again by itself,
and what it says after that is refused, for the row has another token by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certctl.core.health import HealthCheck, HealthCounts, HealthEntry
from certctl.core.scope import Scope
from certctl.core.status import DeploymentStatus, VersionStatus
from certctl.store import catalogue
from certctl.store.among import any_of
from certctl.store.schema import deployments, health_checks, health_history, versions
from certctl.store.tx import Tx, chosen_once

_C, _H = health_checks.c, health_history.c
_UNDER_WAY = (DeploymentStatus.APPLYING, DeploymentStatus.APPLIED)
_PURGED_AT_ONCE = 5_000


def _due(scope: Scope, now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(_C.tenant_id == scope.tenant_id, _C.next_check_at <= now, _C.enabled.is_(True))


async def has_due(tx: Tx, scope: Scope, now: datetime) -> bool:
    """Whether anything is to be looked at; takes no lock."""
    return await tx.scalar(sa.select(_C.id).where(_due(scope, now)).limit(1)) is not None


async def claim(tx: Tx, scope: Scope, token: str, now: datetime, until: datetime, limit: int) -> list[HealthCheck]:
    """Take up to `limit` that are due, the longest due first; nobody else gets them before `until`."""
    due = sa.select(_C.id).where(_due(scope, now)).order_by(_C.next_check_at, _C.id).limit(limit)
    due = due.with_for_update(skip_locked=True)
    taken = (
        sa.update(health_checks)
        .where(_C.tenant_id == scope.tenant_id, _C.id.in_(chosen_once(due)))
        .values(lease_owner=token, next_check_at=until)
        .returning(*_C)
    )
    return await tx.all(HealthCheck, taken)


async def held(tx: Tx, scope: Scope, token: str, ids: Sequence[str]) -> dict[str, HealthCheck]:
    """Those of `ids` that this token still holds, as they are now, locked."""
    mine = sa.and_(_C.tenant_id == scope.tenant_id, _C.lease_owner == token, _C.id.in_(tuple(ids)))
    rows = await tx.all(HealthCheck, sa.select(health_checks).where(mine).order_by(_C.id).with_for_update())
    return {row.id: row for row in rows}


async def settle(tx: Tx, scope: Scope, check_id: str, token: str, **values: Any) -> bool:
    """Write what a look found, and let it go; False when another has it by now."""
    settled = await tx.execute(
        sa.update(health_checks)
        .where(_C.tenant_id == scope.tenant_id, _C.id == check_id, _C.lease_owner == token)
        .values(lease_owner="", **values)
    )
    return settled.rowcount == 1


async def follow(tx: Tx, scope: Scope, check: HealthCheck) -> bool:
    """Write the check of a target that has none yet; False when it has."""
    row = {name: getattr(check, name) for name in check.__struct_fields__} | {"tenant_id": scope.tenant_id}
    written = await tx.execute(
        tx.insert(health_checks).values(row).on_conflict_do_nothing(index_elements=["tenant_id", "follows"])
    )
    return written.rowcount == 1


async def following(tx: Tx, scope: Scope, target_id: str) -> HealthCheck | None:
    """The check that follows a target, locked."""
    return await tx.one(
        HealthCheck,
        sa.select(health_checks).where(_C.tenant_id == scope.tenant_id, _C.follows == target_id).with_for_update(),
    )


async def following_all(tx: Tx, scope: Scope, target_ids: Sequence[str]) -> dict[str, HealthCheck]:
    """The checks that follow these targets, locked, by target."""
    mine = sa.and_(_C.tenant_id == scope.tenant_id, any_of(_C.follows, target_ids))
    rows = await tx.all(HealthCheck, sa.select(health_checks).where(mine).order_by(_C.id).with_for_update())
    return {row.follows: row for row in rows if row.follows is not None}


async def of_certificate(tx: Tx, scope: Scope, certificate_id: str) -> list[HealthCheck]:
    """Every check of one certificate, locked."""
    mine = sa.and_(_C.tenant_id == scope.tenant_id, _C.certificate_id == certificate_id)
    return await tx.all(HealthCheck, sa.select(health_checks).where(mine).order_by(_C.id).with_for_update())


async def change(tx: Tx, scope: Scope, check_id: str, **values: Any) -> None:
    """Change columns, with no edit by a person to be told of."""
    await tx.execute(sa.update(health_checks).where(_C.tenant_id == scope.tenant_id, _C.id == check_id).values(values))


async def acknowledge(tx: Tx, scope: Scope, check: HealthCheck, by: str, now: datetime) -> bool:
    """Somebody knows of it, as long as it stays what they saw; False when it has changed meanwhile."""
    said = await tx.execute(
        sa.update(health_checks)
        .where(catalogue.in_scope(HealthCheck, scope), _C.id == check.id, _C.status == check.status)
        .values(acknowledged=True, acknowledged_by=by, acknowledged_at=now)
    )
    return said.rowcount == 1


async def accepted(tx: Tx, scope: Scope, certificate_id: str, target_id: str | None, *, pinned: bool) -> set[str]:
    """Fingerprints of a certificate that may be served: of versions whose deployment (to the target, if one is named)
    is under way; unless one is `pinned` also of those that are current, or were seen deployed.
    """
    v, d = versions.c, deployments.c
    together = sa.and_(d.tenant_id == v.tenant_id, d.version_id == v.id)
    states = _UNDER_WAY if pinned else (*_UNDER_WAY, DeploymentStatus.VERIFIED)
    placed = sa.select(v.fingerprint_sha256).join(deployments, together)
    placed = placed.where(v.tenant_id == scope.tenant_id, v.certificate_id == certificate_id, d.status.in_(states))
    if target_id:
        placed = placed.where(d.target_id == target_id)
    found = {row[0] for row in await tx.execute(placed)}
    if pinned:
        return found
    current = sa.and_(
        v.tenant_id == scope.tenant_id, v.certificate_id == certificate_id, v.status == VersionStatus.CURRENT
    )
    return found | {row[0] for row in await tx.execute(sa.select(v.fingerprint_sha256).where(current))}


async def foreign_chains(tx: Tx, scope: Scope, fingerprints: Sequence[str]) -> dict[str, str]:
    """The chains (PEM) that CAs other than our own gave with these certificates, by fingerprint."""
    v = versions.c
    wanted = sa.and_(
        v.tenant_id == scope.tenant_id,
        v.fingerprint_sha256.in_(tuple(fingerprints)),
        v.ca_certificate_id == "",
        v.chain_pem != "",
    )
    rows = await tx.execute(sa.select(v.fingerprint_sha256, v.chain_pem).where(wanted))
    return {row.fingerprint_sha256: row.chain_pem for row in rows}


async def add_entry(tx: Tx, scope: Scope, entry: HealthEntry) -> None:
    """A new entry of the history."""
    row = {name: getattr(entry, name) for name in entry.__struct_fields__} | {"tenant_id": scope.tenant_id}
    await tx.execute(sa.insert(health_history).values(row))


async def extend_entry(tx: Tx, scope: Scope, entry_id: str, now: datetime, response_time_ms: int) -> None:
    """One more look that found the same."""
    await tx.execute(
        sa.update(health_history)
        .where(_H.tenant_id == scope.tenant_id, _H.id == entry_id)
        .values(last_checked_at=now, looks=_H.looks + 1, response_time_ms=response_time_ms)
    )


async def history(tx: Tx, scope: Scope, check_id: str, limit: int) -> list[HealthEntry]:
    """What the last looks found, newest first. Whether the caller may see the check is the caller's question."""
    return await tx.all(
        HealthEntry,
        sa.select(health_history)
        .where(_H.tenant_id == scope.tenant_id, _H.health_check_id == check_id)
        .order_by(_H.checked_at.desc(), _H.id.desc())
        .limit(limit),
    )


async def forget(tx: Tx, scope: Scope, check_id: str) -> None:
    """Remove a check's history."""
    mine = sa.and_(_H.tenant_id == scope.tenant_id, _H.health_check_id == check_id)
    await tx.execute(sa.delete(health_history).where(mine))


async def remove(tx: Tx, scope: Scope, check_id: str) -> None:
    """Remove a check with its history."""
    await forget(tx, scope, check_id)
    await tx.execute(sa.delete(health_checks).where(_C.tenant_id == scope.tenant_id, _C.id == check_id))


async def is_older(tx: Tx, scope: Scope, before: datetime) -> bool:
    """Whether any entry ended before then; takes no lock."""
    old = sa.select(_H.id).where(_H.tenant_id == scope.tenant_id, _H.last_checked_at < before)
    return await tx.scalar(old.limit(1)) is not None


async def purge(tx: Tx, scope: Scope, before: datetime) -> int:
    """Forget entries that ended before then, some thousand at once; returns how many."""
    old = sa.select(_H.id).where(_H.tenant_id == scope.tenant_id, _H.last_checked_at < before)
    gone = await tx.execute(
        sa.delete(health_history).where(
            _H.tenant_id == scope.tenant_id, _H.id.in_(old.limit(_PURGED_AT_ONCE).scalar_subquery())
        )
    )
    return int(gone.rowcount)


async def longest_due(tx: Tx, scope: Scope, now: datetime) -> datetime | None:
    """Since when the look that is longest due is due; None when none is."""
    found: datetime | None = await tx.scalar(sa.select(sa.func.min(_C.next_check_at)).where(_due(scope, now)))
    return found


async def counts(tx: Tx, scope: Scope) -> HealthCounts:
    """How many checks that a scope may see read what."""
    rows = await tx.execute(
        sa.select(_C.status, _C.enabled, sa.func.count().label("number"))
        .where(catalogue.in_scope(HealthCheck, scope))
        .group_by(_C.status, _C.enabled)
    )
    number: dict[str, int] = {"disabled": 0, "total": 0}
    for row in rows:
        word = row.status if row.enabled else "disabled"
        number[word] = number.get(word, 0) + row.number
        number["total"] += row.number
    return HealthCounts(**number)
