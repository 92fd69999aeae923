"""Roles that operators make, and what they hold. Built-in roles never change; one that somebody has is not deleted."""

from __future__ import annotations

from typing import Any

from certctl.control import access
from certctl.control.access import Giver
from certctl.control.changes import check_name, fault, note
from certctl.core.actor import Actor
from certctl.core.catalogue import Role, RolePermission
from certctl.core.errors import Conflict, NotFound
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.permissions import BUILT_IN_SINCE, PERMISSIONS, ROLES, limited, limits_of
from certctl.core.revision import Expected
from certctl.core.scope import GLOBAL, Scope
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.store import catalogue, identity
from certctl.store.tx import Tx


def built_in(scope: Scope, role_id: str) -> Role | None:
    """A built-in role as a record; None for any other."""
    role = ROLES.get(role_id)
    if role is None:
        return None
    return Role(
        tenant_id=scope.tenant_id,
        id=role.id,
        name=role.name,
        description=role.description,
        created_at=BUILT_IN_SINCE,
        updated_at=BUILT_IN_SINCE,
        row_version=0,
    )


async def get(tx: Tx, scope: Scope, role_id: str) -> tuple[Role, list[RolePermission]]:
    """A role and what it holds; NotFound otherwise."""
    known = ROLES.get(role_id)
    record = built_in(scope, role_id)
    if known is not None and record is not None:
        return record, [RolePermission(role_id, name, GLOBAL, "") for name in sorted(known.permissions)]
    return await catalogue.get(tx, scope, Role, role_id), await identity.held_by(tx, scope, [role_id])


async def create(ctx: Context, actor: Actor, name: str, description: str) -> Role:
    """A new role that holds nothing yet. Conflict when the name is taken."""
    now = ctx.now()
    role = Role(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("r"),
        name=_check_role_name(name),
        description=description,
        created_at=now,
        updated_at=now,
    )
    async with ctx.database.begin("role.change") as tx:
        await catalogue.insert(tx, ctx.scope, role)
        await note(tx, ctx, actor, EventType.CONFIG_CREATED, "role", role.id)
    return role


async def update(ctx: Context, actor: Actor, role_id: str, changes: dict[str, Any], expected: Expected = None) -> Role:
    """Change `name` or `description`; absent fields stay."""
    _refuse_built_in(role_id)
    changes = {name: "" if value is None else value for name, value in changes.items()}
    if "name" in changes:
        changes = changes | {"name": _check_role_name(changes["name"])}
    async with ctx.database.begin("role.change") as tx:
        await catalogue.change(tx, ctx.scope, Role, role_id, expected=expected, updated_at=ctx.now(), **changes)
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "role", role_id, changes)
        return await catalogue.get(tx, ctx.scope, Role, role_id)


async def delete(ctx: Context, actor: Actor, role_id: str, expected: Expected = None) -> None:
    """Delete a role that nobody has; Conflict otherwise."""
    _refuse_built_in(role_id)
    async with ctx.database.begin("role.change") as tx:
        await identity.lock(tx)
        await catalogue.get(tx, ctx.scope, Role, role_id, expected=expected)
        count = await identity.holders(tx, ctx.scope, role_id)
        if count:
            raise Conflict(f"role {role_id} is still held; take it away from its holders first")
        await identity.remove_role(tx, ctx.scope, role_id)
        identity.changed(tx)
        await note(tx, ctx, actor, EventType.CONFIG_DELETED, "role", role_id)


async def add_permission(
    ctx: Context, giver: Giver, role_id: str, permission: str, scope_type: str, scope_id: str
) -> None:
    """Put a permission into a role, for all who have it; twice is once. Nobody adds what they lack."""
    _refuse_built_in(role_id)
    if permission not in PERMISSIONS:
        raise fault("unknown_permission", f"{permission[:100]} is no permission", "permission")
    async with ctx.database.begin("role.change") as tx:
        await identity.lock(tx)
        await catalogue.get(tx, ctx.scope, Role, role_id)
        asked = access.read_reach(scope_type, scope_id)
        reach = limited(permission, asked)
        if reach is None:
            by = ", ".join(sorted(limits_of(permission))) or "nothing"
            raise fault("scope_does_not_fit", f"{permission} can be limited by {by}", "scope_type")
        giver.check_gives({permission: Scope.union(ctx.scope.tenant_id, [reach])}, None)
        await access.check_reach(tx, ctx.scope, asked)
        held = RolePermission(role_id, permission, scope_type, scope_id)
        if await identity.add_permission(tx, ctx.scope, held):
            await _note_permission(tx, ctx, giver.actor, "added", held)


async def remove_permission(
    ctx: Context,
    actor: Actor,
    role_id: str,
    permission: str,
    scope_type: str,
    scope_id: str,
    expected: Expected = None,
) -> None:
    """Take a permission out of a role, in one scope or in all; NotFound when it is not in there."""
    _refuse_built_in(role_id)
    async with ctx.database.begin("role.change") as tx, access.keeping_an_admin(tx, ctx):
        await catalogue.get(tx, ctx.scope, Role, role_id, expected=expected)
        if not await identity.remove_permission(tx, ctx.scope, role_id, permission, scope_type, scope_id):
            raise NotFound(f"role {role_id} does not hold {permission[:100]} there")
        held = RolePermission(role_id, permission, scope_type or "any", scope_id)
        await _note_permission(tx, ctx, actor, "removed", held)


async def _note_permission(tx: Tx, ctx: Context, actor: Actor, done: str, held: RolePermission) -> None:
    identity.changed(tx)
    # what a role holds is part of what somebody read of it
    await catalogue.change(tx, ctx.scope, Role, held.role_id, updated_at=ctx.now())
    event = Event(
        type=EventType.CONFIG_UPDATED,
        subject_type="role",
        subject_id=held.role_id,
        actor=actor,
        details={
            "fields": ["permissions"],
            done: held.permission,
            "scope_type": held.scope_type,
            "scope_id": held.scope_id,
        },
    )
    await append(tx, ctx.scope, ctx.now(), event)


def _refuse_built_in(role_id: str) -> None:
    if role_id in ROLES:
        raise Conflict(f"{role_id} is a built-in role and never changes; make a role of your own")


def _check_role_name(name: str) -> str:
    checked = check_name(name)
    if checked.casefold() in {role.name for role in ROLES.values()}:
        raise Conflict(f"{checked} is the name of a built-in role")
    return checked
