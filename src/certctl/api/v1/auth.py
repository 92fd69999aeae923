"""/api/v1/auth: who am I, API keys, and the first one."""

from __future__ import annotations

from typing import Any

from litestar import delete, get, post
from litestar.params import FromPath, JSONBody

from certctl.api.guard import PUBLIC, SIGNED_IN, needs, refuses
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.auth import (
    AuthInfo,
    BootstrapAnswer,
    BootstrapBody,
    BootstrapState,
    CheckView,
    EffectivePermission,
    KeysAnswer,
    KeyView,
    KeyWrite,
    MeView,
    NewKeyAnswer,
)
from certctl.control import keys
from certctl.core.actor import ActorType
from certctl.core.catalogue import ApiKey
from certctl.core.secret import Secret
from certctl.doors.edge import address_of, request_id_of
from certctl.doors.identity import Caller
from certctl.doors.permissions import ROLES, permissions_of
from certctl.store import views
from certctl.store.lists import Slice

_MOST_KEYS_SHOWN = 1000


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
    admin = keys.ADMIN_ROLE in caller.role_ids
    return CheckView(status="authenticated", user=caller.actor.id, admin_via_role=admin, **_identity(caller))


@get("/auth/me", opt=SIGNED_IN, summary="Who am I?")
async def show_me(request: ApiRequest) -> MeView:
    """The caller, what it may do and how far that reaches."""
    return MeView(**_identity(request.caller))


def _identity(caller: Caller) -> dict[str, Any]:
    return {
        "actor_id": caller.actor.id,
        "actor_type": str(caller.actor.type),
        "tenant_id": caller.scope.tenant_id,
        "admin": keys.ADMIN_ROLE in caller.role_ids,
        "roles": list(caller.role_ids),
        "effective_permissions": _effective(caller),
    }


def _effective(caller: Caller) -> list[EffectivePermission]:
    reach: list[tuple[str, str]] = [
        *(("team", each) for each in caller.scope.teams or ()),
        *(("profile", each) for each in caller.scope.profiles or ()),
        *(("issuer", each) for each in caller.scope.issuers or ()),
    ] or [("global", "")]
    return [
        EffectivePermission(permission=permission, scope_type=kind, scope_id=scope_id)
        for permission in sorted(caller.permissions)
        for kind, scope_id in reach
    ]


@get("/auth/keys", opt=needs("auth.key.list"), summary="List API keys")
async def list_keys(request: ApiRequest) -> KeysAnswer:
    """All keys, revoked ones too, never their values."""
    async with request.ctx.database.read() as tx:
        page = await views.record_page(tx, request.visible, ApiKey, Slice(limit=_MOST_KEYS_SHOWN))
    return KeysAnswer(keys=[_view(key) for key in page.data])


def _view(key: ApiKey) -> KeyView:
    return shown(KeyView, key, actor_id=key.name, actor_type=str(ActorType.API_KEY))


@post("/auth/keys", status_code=201, opt=needs("auth.key.create"), summary="Make an API key")
async def create_key(request: ApiRequest, data: JSONBody[KeyWrite]) -> NewKeyAnswer:
    """Its value is shown this once. Nobody gives more than they have."""
    caller = request.caller
    giver = keys.Giver(
        actor=caller.actor,
        permissions=caller.permissions,
        scope=caller.scope,
        known_roles=frozenset(ROLES),
        permissions_of=permissions_of,
    )
    wish = keys.KeyWish(
        name=data.name,
        role_ids=tuple(dict.fromkeys(data.role_ids)),
        expires_at=data.expires_at,
        teams=data.teams,
        profiles=data.profiles,
        issuers=data.issuers,
        agent_id=data.agent_id,
    )
    key, value = await keys.create(request.ctx, giver, wish)
    return shown(NewKeyAnswer, key, key_value=value.reveal())


@delete("/auth/keys/{key_id:str}", status_code=204, opt=needs("auth.key.delete"), summary="Revoke an API key")
async def delete_key(request: ApiRequest, key_id: FromPath[str]) -> None:
    """At once. The last key that can make keys stays (409)."""
    await keys.revoke(request.ctx, request.actor, key_id, _can_make_keys)


def _can_make_keys(key: ApiKey) -> bool:
    whole = key.teams is None and key.profiles is None and key.issuers is None
    return whole and {"auth.key.create", "auth.key.delete"} <= permissions_of(key.role_ids)


HANDLERS = (show_auth_info, show_bootstrap, bootstrap, check, show_me, list_keys, create_key, delete_key)
