"""/api/v1/auth/roles: the built-in roles and those that operators make, and what they hold."""

from __future__ import annotations

from litestar import delete, get, post, put
from litestar.params import FromPath, JSONBody

from certctl.api.guard import edits, needs
from certctl.api.lists import answer_whole, in_one_piece
from certctl.api.patching import patched
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.api.v1.keys import ScopeId, ScopeType
from certctl.client.models.auth import (
    HeldPermission,
    PermissionWrite,
    RemovedAnswer,
    RoleAnswer,
    RolesAnswer,
    RoleView,
    RoleWrite,
)
from certctl.control import grants, roles
from certctl.core.catalogue import Role
from certctl.core.permissions import ROLES, permission_id
from certctl.store.whole_listings import EVERY_ROLE


def _view(role: Role) -> RoleView:
    return shown(RoleView, role, built_in=role.id in ROLES)


@get("/auth/roles", opt=needs("auth.role.list") | in_one_piece(EVERY_ROLE), summary="List roles")
async def list_roles(request: ApiRequest) -> RolesAnswer:
    """The built-in ones first."""
    tenant_id = request.ctx.scope.tenant_id
    return await answer_whole(
        request, RolesAnswer, RoleView, show=lambda role: shown(RoleView, role, tenant_id=tenant_id)
    )


@post("/auth/roles", status_code=201, opt=needs("auth.role.create"), summary="Make a role")
async def create_role(request: ApiRequest, data: JSONBody[RoleWrite]) -> RoleView:
    """It holds nothing yet."""
    return _view(await roles.create(request.ctx, request.actor, data.name or "", data.description or ""))


@get("/auth/roles/{role_id:str}", opt=needs("auth.role.list"), summary="One role")
async def show_role(request: ApiRequest, role_id: FromPath[str]) -> RoleAnswer:
    """With what it holds."""
    async with request.ctx.database.read() as tx:
        role, held = await roles.get(tx, request.ctx.scope, role_id)
    rows = [shown(HeldPermission, each, permission_id=permission_id(each.permission)) for each in held]
    return RoleAnswer(role=_view(role), permissions=rows, row_version=role.row_version)


@put("/auth/roles/{role_id:str}", opt=edits("auth.role.edit"), summary="Change a role")
async def update_role(request: ApiRequest, role_id: FromPath[str], data: JSONBody[RoleWrite]) -> RoleView:
    """Its name or description; built-in roles never change (409)."""
    changes = request.changes(data, role_id)
    return _view(await roles.update(request.ctx, request.actor, role_id, changes, request.expected))


@get("/auth/roles/{role_id:str}", opt=needs("auth.role.edit"), include_in_schema=False)
async def _show_alone(request: ApiRequest, role_id: FromPath[str]) -> RoleView:
    """What a merge patch is merged into."""
    async with request.ctx.database.read() as tx:
        role, _ = await roles.get(tx, request.ctx.scope, role_id)
    return _view(role)


@delete("/auth/roles/{role_id:str}", status_code=204, opt=edits("auth.role.delete"), summary="Delete a role")
async def delete_role(request: ApiRequest, role_id: FromPath[str]) -> None:
    """One that somebody has is kept, and so are the built-in ones (409)."""
    await roles.delete(request.ctx, request.actor, role_id, request.expected)


@post(
    "/auth/roles/{role_id:str}/permissions",
    status_code=204,
    opt=needs("auth.role.edit"),
    summary="Put a permission into a role",
)
async def add_permission(request: ApiRequest, role_id: FromPath[str], data: JSONBody[PermissionWrite]) -> None:
    """For all who have the role. Nobody adds what they lack."""
    await roles.add_permission(
        request.ctx, request.caller.giver, role_id, data.permission, data.scope_type, data.scope_id or ""
    )


@delete(
    "/auth/roles/{role_id:str}/permissions/{permission:str}",
    status_code=204,
    opt=edits("auth.role.edit"),
    summary="Take a permission out of a role",
)
async def remove_permission(
    request: ApiRequest,
    role_id: FromPath[str],
    permission: FromPath[str],
    scope_type: ScopeType = "",
    scope_id: ScopeId = "",
) -> None:
    """In one scope, or everywhere."""
    await roles.remove_permission(
        request.ctx, request.actor, role_id, permission, scope_type, scope_id, request.expected
    )


@post("/auth/demo-residual/cleanup", status_code=200, opt=needs("auth.role.assign"), summary="Remove demo grants")
async def remove_demo_grants(request: ApiRequest) -> RemovedAnswer:
    """Grants of the reference product's demo actor, should a migrated database have any."""
    request.visible.check_whole("removing demo grants")
    return RemovedAnswer(removed=await grants.remove_demo_grants(request.ctx, request.actor))


HANDLERS = (
    list_roles,
    create_role,
    show_role,
    update_role,
    patched(_show_alone, update_role),
    delete_role,
    add_permission,
    remove_permission,
    remove_demo_grants,
)
