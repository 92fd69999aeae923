"""/api/v1/auth: who am I, the catalogue of permissions, and the first key."""

from __future__ import annotations

from typing import Any

from litestar import get, post
from litestar.params import JSONBody

from certctl.api.guard import PUBLIC, SIGNED_IN, refuses
from certctl.api.lists import answer_whole, in_one_piece
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.auth import (
    AuthInfo,
    BootstrapAnswer,
    BootstrapBody,
    BootstrapState,
    CheckView,
    EffectivePermission,
    MeView,
    PermissionsAnswer,
    PermissionView,
)
from certctl.control import keys
from certctl.core.permissions import limits_of
from certctl.core.scope import GLOBAL, SCOPE_TYPES, Reach
from certctl.core.secret import Secret
from certctl.doors.edge import address_of, request_id_of
from certctl.doors.identity import Caller
from certctl.store.whole_listings import EVERY_PERMISSION, PermissionRow

_TYPE_OF = {field: scope_type for scope_type, field in SCOPE_TYPES.items()}


@get("/auth/info", opt=PUBLIC, summary="How to sign in")
async def show_auth_info() -> AuthInfo:
    """Bearer API keys."""
    return AuthInfo(auth_type="api-key", required=True)


@get("/auth/bootstrap", opt=PUBLIC, summary="Is bootstrap open?")
async def show_bootstrap(request: ApiRequest) -> BootstrapState:
    """Whether the first key may still be made."""
    return BootstrapState(available=await keys.bootstrap_is_open(request.ctx, request.door.bootstrap_token))


@post("/auth/bootstrap", status_code=201, opt=PUBLIC | refuses(401, 410), summary="Make the first key")
async def bootstrap(request: ApiRequest, data: JSONBody[BootstrapBody]) -> BootstrapAnswer:
    """Once, with the operator's token; 410 afterwards."""
    key, value = await keys.bootstrap(
        request.ctx,
        request.door.bootstrap_token,
        Secret(data.token),
        data.actor_name,
        request_id=request_id_of(_scope(request)),
        address=address_of(_scope(request)),
    )
    return BootstrapAnswer(
        actor_id=key.name,
        api_key_id=key.id,
        key_value=value.reveal(),
        created_at=key.created_at,
        message="keep this key: it is shown once",
    )


def _scope(request: ApiRequest) -> dict[str, Any]:
    return request.scope  # type: ignore[return-value]  # Litestar's typed dict is a plain one at run time


@get("/auth/check", opt=SIGNED_IN, summary="Who am I?")
async def check(request: ApiRequest) -> CheckView:
    """The caller, in the reference product's older form."""
    caller = request.caller
    return CheckView(
        status="authenticated", user=caller.actor.id, admin_via_role=caller.is_admin, **identity_of(caller)
    )


@get("/auth/me", opt=SIGNED_IN, summary="Who am I?")
async def show_me(request: ApiRequest) -> MeView:
    """The caller, what it may do and how far that reaches."""
    return MeView(**identity_of(request.caller))


def identity_of(caller: Caller) -> dict[str, Any]:
    """Who somebody is and what they may do, as the API tells it."""
    return {
        "actor_id": caller.actor.id,
        "actor_type": str(caller.actor.type),
        "tenant_id": caller.tenant_id,
        "admin": caller.is_admin,
        "roles": list(caller.role_ids),
        "effective_permissions": [
            shown
            for permission, scope in sorted(caller.permissions.items())
            for reach in scope.reaches
            for shown in _reach(permission, reach)
        ],
    }


def _reach(permission: str, reach: Reach) -> list[EffectivePermission]:
    limits = list(reach.limits())
    if not limits:
        return [EffectivePermission(permission=permission, scope_type=GLOBAL)]
    if len(limits) == 1:
        field, ids = limits[0]
        return [
            EffectivePermission(permission=permission, scope_type=_TYPE_OF[field], scope_id=scope_id)
            for scope_id in ids
        ]
    told = {field: list(ids) for field, ids in limits}
    return [EffectivePermission(permission=permission, scope_type="combined", limits=told)]


@get("/auth/permissions", opt=SIGNED_IN | in_one_piece(EVERY_PERMISSION), summary="The catalogue of permissions")
async def list_permissions(request: ApiRequest) -> PermissionsAnswer:
    """Every permission there is."""
    return await answer_whole(request, PermissionsAnswer, PermissionView, show=_permission)


def _permission(row: PermissionRow) -> PermissionView:
    return shown(PermissionView, row, limited_by=sorted(_TYPE_OF[field] for field in limits_of(row.name)))


HANDLERS = (show_auth_info, show_bootstrap, bootstrap, check, show_me, list_permissions)
