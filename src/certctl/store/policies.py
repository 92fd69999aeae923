"""Rules that are in force, and who breaks them: one row a (rule, certificate), opened again when it recurs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.catalogue import PolicyRule, PolicyViolation
from certctl.core.certificate import Certificate
from certctl.core.scope import Scope
from certctl.core.status import VersionStatus
from certctl.store import certificates as certificate_rows
from certctl.store import schema
from certctl.store.schema import policy_rules, policy_violations
from certctl.store.statements import Statement
from certctl.store.tx import Tx


class Signed(Struct, frozen=True, kw_only=True):
    """The times of one current version: no certificate bytes are loaded to judge a rule."""

    certificate_id: str
    not_before: datetime
    not_after: datetime


async def in_force(tx: Tx, scope: Scope) -> list[PolicyRule]:
    """Enabled rules, by name: the order in which violations are told."""
    return await tx.all(PolicyRule, _IN_FORCE, tenant_id=scope.tenant_id)


def chosen_in_force(tenant_id: str | sa.BindParameter[str]) -> sa.ColumnElement[bool]:
    """Which rules are in force."""
    return sa.and_(policy_rules.c.tenant_id == tenant_id, policy_rules.c.enabled.is_(sa.true()))


_IN_FORCE = Statement(
    sa.select(policy_rules)
    .where(chosen_in_force(sa.bindparam("tenant_id")))
    .order_by(policy_rules.c.name, policy_rules.c.id)
)


async def due(tx: Tx, scope: Scope, before: datetime) -> PolicyRule | None:
    """A rule whose present version has not been held against the whole inventory, or not since `before`."""
    c = policy_rules.c
    stale = sa.and_(c.enabled.is_(sa.true()), c.evaluated_at < before)
    return await tx.one(
        PolicyRule,
        sa.select(policy_rules)
        .where(c.tenant_id == scope.tenant_id, sa.or_(c.evaluated_version != c.version, stale))
        .order_by(c.updated_at, c.id)
        .limit(1),
    )


async def move_scan(tx: Tx, scope: Scope, rule: PolicyRule, **values: Any) -> bool:
    """Note how far a scan has come; False when the rule was edited, or another process was there first."""
    moved = await tx.execute(
        sa.update(policy_rules)
        .where(
            policy_rules.c.tenant_id == scope.tenant_id,
            policy_rules.c.id == rule.id,
            policy_rules.c.version == rule.version,
            policy_rules.c.scan_after == rule.scan_after,
        )
        .values(values)
    )
    return moved.rowcount == 1


async def inventory_after(tx: Tx, scope: Scope, after: str, limit: int) -> list[Certificate]:
    """Certificates that the scope may see, by id, behind `after`."""
    table = schema.certificates
    return await tx.all(
        Certificate,
        sa.select(table).where(certificate_rows.in_scope(scope), table.c.id > after).order_by(table.c.id).limit(limit),
    )


async def signed(tx: Tx, scope: Scope, certificate_ids: Sequence[str]) -> dict[str, list[Signed]]:
    """The times of the current versions of many certificates."""
    c = schema.versions.c
    found: dict[str, list[Signed]] = {}
    if certificate_ids:
        for row in await tx.all(
            Signed,
            sa.select(c.certificate_id, c.not_before, c.not_after).where(
                c.tenant_id == scope.tenant_id,
                c.certificate_id.in_(tuple(certificate_ids)),
                c.status == VersionStatus.CURRENT,
            ),
        ):
            found.setdefault(row.certificate_id, []).append(row)
    return found


async def open_violations(
    tx: Tx, scope: Scope, rule_ids: Sequence[str], certificate_ids: Sequence[str]
) -> list[PolicyViolation]:
    """What is known to be broken of these rules by these certificates."""
    if not rule_ids or not certificate_ids:
        return []
    c = policy_violations.c
    return await tx.all(
        PolicyViolation,
        sa.select(policy_violations).where(
            c.tenant_id == scope.tenant_id,
            c.rule_id.in_(tuple(rule_ids)),
            c.certificate_id.in_(tuple(certificate_ids)),
            c.resolved_at.is_(None),
        ),
    )


async def write_violations(tx: Tx, scope: Scope, rows: Sequence[PolicyViolation]) -> None:
    """Open these, or open them again, or change what is told of them."""
    for row in rows:
        values = {name: getattr(row, name) for name in row.__struct_fields__} | {"tenant_id": scope.tenant_id}
        changed = {name: values[name] for name in ("message", "severity", "created_at", "resolved_at")}
        await tx.execute(
            tx.insert(policy_violations)
            .values(values)
            .on_conflict_do_update(index_elements=["tenant_id", "rule_id", "certificate_id"], set_=changed)
        )


async def resolve(tx: Tx, scope: Scope, ids: Sequence[str], now: datetime) -> None:
    """These are cured."""
    if ids:
        await tx.execute(
            sa.update(policy_violations)
            .where(policy_violations.c.tenant_id == scope.tenant_id, policy_violations.c.id.in_(tuple(ids)))
            .values(resolved_at=now)
        )


async def remove_violations(tx: Tx, scope: Scope, rule_id: str) -> None:
    """A rule that is deleted takes what was told of it along; the event log keeps it."""
    await tx.execute(
        sa.delete(policy_violations).where(
            policy_violations.c.tenant_id == scope.tenant_id, policy_violations.c.rule_id == rule_id
        )
    )
