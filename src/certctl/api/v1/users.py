"""/api/v1/auth/users: people that an identity provider named; and the settings in force."""

from __future__ import annotations

from litestar import delete, get, post
from litestar.params import FromPath

from certctl.api.guard import needs
from certctl.api.lists import answer_whole, in_one_piece
from certctl.api.request import ApiRequest
from certctl.client.models.sessions import RuntimeConfig, UsersAnswer, UserView
from certctl.control import users
from certctl.store.identity_listings import USERS


@get("/auth/users", opt=needs("auth.user.read") | in_one_piece(USERS), summary="List users")
async def list_users(request: ApiRequest) -> UsersAnswer:
    """By name."""
    return await answer_whole(request, UsersAnswer, UserView)


@delete("/auth/users/{user_id:str}", status_code=204, opt=needs("auth.user.deactivate"), summary="Deactivate a user")
async def deactivate_user(request: ApiRequest, user_id: FromPath[str]) -> None:
    """Their sessions end at once. Nobody deactivates themselves (409)."""
    await users.deactivate(request.ctx, request.actor, user_id)


@post(
    "/auth/users/{user_id:str}/reactivate",
    status_code=204,
    opt=needs("auth.user.deactivate"),
    summary="Reactivate a user",
)
async def reactivate_user(request: ApiRequest, user_id: FromPath[str]) -> None:
    """They may sign in again."""
    await users.reactivate(request.ctx, request.actor, user_id)


@get("/auth/runtime-config", opt=needs("auth.role.assign"), summary="Settings in force")
async def show_runtime_config(request: ApiRequest) -> RuntimeConfig:
    """What the doors keep to, by variable; no secrets."""
    request.visible.check_whole("reading the settings")
    return RuntimeConfig(runtime_config=request.door.rules.told())


HANDLERS = (list_users, deactivate_user, reactivate_user, show_runtime_config)
