"""/api/v1/auth/keys: API keys, made, rotated, revoked, and the roles they are given."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

from litestar import delete, get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from certctl.api.guard import edits, needs
from certctl.api.lists import answer_whole, in_one_piece
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.auth import GrantView, GrantWrite, KeysAnswer, KeyView, KeyWrite, NewKeyAnswer, RotateBody
from certctl.control import grants, keys
from certctl.core.actor import ActorType
from certctl.core.catalogue import ActorRole, ApiKey
from certctl.core.scope import Scope
from certctl.store import identity
from certctl.store.identity_listings import KEYS, keys_made_by
from certctl.store.tx import Tx

ScopeType = Annotated[str, QueryParameter(description="global, team, profile or issuer; absent: everywhere")]
ScopeId = Annotated[str, QueryParameter(description="id of the team, profile or issuer")]


@get("/auth/keys", opt=needs("auth.key.list") | in_one_piece(KEYS), summary="List API keys")
async def list_keys(request: ApiRequest) -> KeysAnswer:
    """All keys, revoked ones too, never their values. A limited grant shows the caller's own and those it made."""
    mine = keys_made_by(keys.maker(request.actor, request.visible))
    return await answer_whole(request, KeysAnswer, KeyView, show_all=_views, listing=mine)


async def _views(tx: Tx, scope: Scope, found: Sequence[ApiKey]) -> list[KeyView]:
    by_actor: dict[str, list[ActorRole]] = {}
    for grant in await identity.grants_of(tx, scope, ActorType.API_KEY, [key.name for key in found]):
        by_actor.setdefault(grant.actor_id, []).append(grant)
    return [_view(key, by_actor.get(key.name, [])) for key in found]


def _view(key: ApiKey, given: list[ActorRole]) -> KeyView:
    return shown(
        KeyView,
        key,
        actor_id=key.name,
        actor_type=str(ActorType.API_KEY),
        role_ids=list(dict.fromkeys([*key.role_ids, *(grant.role_id for grant in given)])),
        grants=[shown(GrantView, grant) for grant in given],
    )


@post("/auth/keys", status_code=201, opt=needs("auth.key.create"), summary="Make an API key")
async def create_key(request: ApiRequest, data: JSONBody[KeyWrite]) -> NewKeyAnswer:
    """Its value is shown this once. Nobody gives more than they have."""
    wish = keys.KeyWish(
        name=data.name,
        role_ids=tuple(dict.fromkeys(data.role_ids)),
        expires_at=data.expires_at,
        teams=data.teams,
        profiles=data.profiles,
        issuers=data.issuers,
        agent_id=data.agent_id,
        person=data.person,
    )
    key, value = await keys.create(request.ctx, request.caller.giver, wish)
    return shown(NewKeyAnswer, key, key_value=value.reveal())


@post("/auth/keys/{key_id:str}/rotate", status_code=200, opt=edits("auth.key.rotate"), summary="Rotate an API key")
async def rotate_key(request: ApiRequest, key_id: FromPath[str], data: JSONBody[RotateBody]) -> NewKeyAnswer:
    """A fresh value, shown this once. The old one stays good for `overlap_seconds`; one that is older ends now."""
    wish = keys.Rotation(
        overlap=timedelta(seconds=data.overlap_seconds), expires_at=data.expires_at, expected=request.expected
    )
    key, value = await keys.rotate(request.ctx, request.caller.giver, key_id, wish)
    return shown(NewKeyAnswer, key, key_value=value.reveal())


@get("/auth/keys/{key_id:str}", opt=needs("auth.key.list"), summary="One API key")
async def show_key(request: ApiRequest, key_id: FromPath[str]) -> KeyView:
    """By id or name, never its value; with a limited grant the caller's own, or one that it made."""
    async with request.ctx.database.read() as tx:
        key = await keys.find(tx, request.ctx, request.caller.giver, "auth.key.list", key_id)
        (view,) = await _views(tx, request.ctx.scope, [key])
    return view


@delete("/auth/keys/{key_id:str}", status_code=204, opt=edits("auth.key.delete"), summary="Revoke an API key")
async def delete_key(request: ApiRequest, key_id: FromPath[str]) -> None:
    """At once. The last lasting key of an administrator stays (409)."""
    await keys.revoke(request.ctx, request.caller.giver, key_id, request.expected)


@post("/auth/keys/{key_id:str}/roles", status_code=204, opt=needs("auth.role.assign"), summary="Give a key a role")
async def assign_role(request: ApiRequest, key_id: FromPath[str], data: JSONBody[GrantWrite]) -> None:
    """Global, or limited to a team, profile or issuer; until `expires_at`. Nobody gives what they lack."""
    await grants.assign(
        request.ctx,
        request.caller.giver,
        key_id,
        data.role_id,
        data.scope_type,
        data.scope_id or "",
        data.expires_at,
    )


@delete(
    "/auth/keys/{key_id:str}/roles/{role_id:str}",
    status_code=204,
    opt=needs("auth.role.revoke"),
    summary="Take a role from a key",
)
async def revoke_role(
    request: ApiRequest,
    key_id: FromPath[str],
    role_id: FromPath[str],
    scope_type: ScopeType = "",
    scope_id: ScopeId = "",
) -> None:
    """In one scope, or everywhere. The last lasting key of an administrator stays one (409)."""
    request.caller.reach("auth.role.assign")
    await grants.revoke(request.ctx, request.caller.giver, key_id, role_id, scope_type, scope_id)


HANDLERS = (list_keys, show_key, create_key, rotate_key, delete_key, assign_role, revoke_role)
