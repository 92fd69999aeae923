"""Roles that operators make, what they hold, and who holds them; API keys as their makers see them.

Every function works within one tenant. Whoever changes what somebody may do calls `changed`, so that no process goes
on with what it remembers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from certctl.core.catalogue import ActorRole, ApiKey, RolePermission
from certctl.core.scope import Scope
from certctl.store.schema import actor_roles, api_keys, role_permissions, roles
from certctl.store.tx import Tx

# the wake-up channel on which every process hears that what it remembers of callers is stale
CHANNEL = "identity"
_ADVISORY_LOCK = 0x69646E74  # "idnt"


def changed(tx: Tx) -> None:
    """After the commit, every process forgets what callers may do (and within a second even if it hears nothing)."""
    tx.wake(CHANNEL, within=True)


async def lock(tx: Tx) -> None:
    """One change of who may do what at a time, so that two people cannot each remove the other's last right."""
    if tx.dialect == "postgresql":
        await tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))


async def key_by_secret(tx: Tx, hashed: str) -> ApiKey | None:
    """Whose API key this is, by its present value or the one before its rotation."""
    one = sa.or_(api_keys.c.key_hash == hashed, api_keys.c.previous_hash == hashed)
    return await tx.one(ApiKey, sa.select(api_keys).where(one))


async def key_by_id_or_name(tx: Tx, scope: Scope, key: str) -> ApiKey | None:
    """A key by its id, or by its name, which is what events and the reference product call it."""
    one = sa.or_(api_keys.c.id == key, api_keys.c.name == key)
    order = sa.case((api_keys.c.id == key, 0), else_=1)
    return await tx.one(
        ApiKey, sa.select(api_keys).where(api_keys.c.tenant_id == scope.tenant_id, one).order_by(order).limit(1)
    )


async def lasting_keys(tx: Tx, scope: Scope) -> list[ApiKey]:
    """Keys that nothing will end by itself and that no agent is bound to."""
    return await tx.all(
        ApiKey,
        sa.select(api_keys).where(
            api_keys.c.tenant_id == scope.tenant_id,
            api_keys.c.revoked_at.is_(None),
            api_keys.c.expires_at.is_(None),
            api_keys.c.agent_id == "",
        ),
    )


async def held_by(tx: Tx, scope: Scope, role_ids: Sequence[str]) -> list[RolePermission]:
    """What these roles hold, in order."""
    if not role_ids:
        return []
    table = role_permissions
    return await tx.all(
        RolePermission,
        sa.select(table)
        .where(table.c.tenant_id == scope.tenant_id, table.c.role_id.in_(tuple(role_ids)))
        .order_by(table.c.role_id, table.c.permission, table.c.scope_type, table.c.scope_id),
    )


async def add_permission(tx: Tx, scope: Scope, held: RolePermission) -> bool:
    """Put a permission into a role; False when it was there."""
    row = {"tenant_id": scope.tenant_id} | {name: getattr(held, name) for name in held.__struct_fields__}
    inserted = await tx.execute(tx.insert(role_permissions).values(row).on_conflict_do_nothing())
    return inserted.rowcount == 1


async def remove_permission(
    tx: Tx, scope: Scope, role_id: str, permission: str, scope_type: str = "", scope_id: str = ""
) -> int:
    """Take a permission out of a role, in one scope or (without a `scope_type`) in all; returns how many rows went."""
    table = role_permissions
    conditions = [table.c.tenant_id == scope.tenant_id, table.c.role_id == role_id, table.c.permission == permission]
    if scope_type:
        conditions += [table.c.scope_type == scope_type, table.c.scope_id == scope_id]
    return (await tx.execute(sa.delete(table).where(*conditions))).rowcount


async def remove_role(tx: Tx, scope: Scope, role_id: str) -> None:
    """Delete a role and what it holds."""
    held = role_permissions
    await tx.execute(sa.delete(held).where(held.c.tenant_id == scope.tenant_id, held.c.role_id == role_id))
    await tx.execute(sa.delete(roles).where(roles.c.tenant_id == scope.tenant_id, roles.c.id == role_id))


async def holders(tx: Tx, scope: Scope, role_id: str) -> int:
    """How many grants and unrevoked keys name this role."""
    granted = (
        sa.select(sa.func.count())
        .select_from(actor_roles)
        .where(actor_roles.c.tenant_id == scope.tenant_id, actor_roles.c.role_id == role_id)
    )
    named = sa.cast(api_keys.c.role_ids, sa.Text).contains(f'"{role_id}"', autoescape=True)
    made_with = (
        sa.select(sa.func.count())
        .select_from(api_keys)
        .where(api_keys.c.tenant_id == scope.tenant_id, api_keys.c.revoked_at.is_(None), named)
    )
    return int(await tx.scalar(granted)) + int(await tx.scalar(made_with))


async def grants_of(tx: Tx, scope: Scope, actor_type: str, actor_ids: Sequence[str] | None = None) -> list[ActorRole]:
    """The grants of some actors, or of all of this type; expired ones too."""
    table = actor_roles
    conditions = [table.c.tenant_id == scope.tenant_id, table.c.actor_type == actor_type]
    if actor_ids is not None:
        conditions.append(table.c.actor_id.in_(tuple(actor_ids)))
    order = (table.c.actor_id, table.c.role_id, table.c.scope_type, table.c.scope_id)
    return await tx.all(ActorRole, sa.select(table).where(*conditions).order_by(*order))


async def put_grant(tx: Tx, scope: Scope, grant: ActorRole) -> None:
    """Write a grant; the same one again changes when it ends."""
    row = {name: getattr(grant, name) for name in grant.__struct_fields__}
    if row["tenant_id"] != scope.tenant_id:
        raise ValueError("a grant of another tenant")
    unique = ["tenant_id", "actor_id", "actor_type", "role_id", "scope_type", "scope_id"]
    renewed = {"expires_at": grant.expires_at, "granted_by": grant.granted_by}
    await tx.execute(tx.insert(actor_roles).values(row).on_conflict_do_update(index_elements=unique, set_=renewed))


async def remove_grants(
    tx: Tx,
    scope: Scope,
    actor_id: str,
    actor_type: str = "",
    *,
    role_id: str = "",
    scope_type: str = "",
    scope_id: str = "",
) -> int:
    """Take grants away: all of an actor, or those of one role, or of one role in one scope; returns how many."""
    table = actor_roles
    conditions = [table.c.tenant_id == scope.tenant_id, table.c.actor_id == actor_id]
    if actor_type:
        conditions.append(table.c.actor_type == actor_type)
    if role_id:
        conditions.append(table.c.role_id == role_id)
    if scope_type:
        conditions += [table.c.scope_type == scope_type, table.c.scope_id == scope_id]
    return (await tx.execute(sa.delete(table).where(*conditions))).rowcount


async def touch_key(tx: Tx, scope: Scope, key_id: str, now: datetime) -> None:
    """When a key was last used."""
    await tx.execute(
        sa.update(api_keys)
        .where(api_keys.c.tenant_id == scope.tenant_id, api_keys.c.id == key_id)
        .values(last_used_at=now)
    )
