"""/auth/breakglass/login and /api/v1/auth/breakglass: the local password door. All of it is 404 unless switched on."""

from __future__ import annotations

from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody

from certctl.api.browser import begin_session, check_is_json
from certctl.api.guard import BREAKGLASS, PUBLIC, needs, refuses
from certctl.api.lists import answer_whole, in_one_piece
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.sessions import (
    BreakglassAnswer,
    BreakglassLogin,
    BreakglassMade,
    BreakglassView,
    BreakglassWrite,
)
from certctl.control import breakglass
from certctl.core.actor import Actor, ActorType
from certctl.core.people import BreakglassCredential, SessionMethod
from certctl.core.secret import Secret
from certctl.doors.entry import count_sign_in
from certctl.store.identity_listings import CREDENTIALS

_ADMIN = needs("auth.breakglass.admin") | BREAKGLASS


@post(
    "/auth/breakglass/login",
    status_code=204,
    opt=PUBLIC | BREAKGLASS | refuses(401),
    summary="Sign in when nothing else works",
)
async def sign_in_by_password(request: ApiRequest, data: JSONBody[BreakglassLogin]) -> Response[None]:
    """Sets the session's cookies. An unknown actor, a wrong password and a locked credential read the same (401)."""
    check_is_json(request)
    await count_sign_in(request.door, request.knock.address)
    knock = request.knock
    actor = Actor(id=data.actor_id, type=ActorType.USER, request_id=knock.request_id, address=knock.address)
    await breakglass.check_password(request.ctx, request.door.rules.breakglass, actor, Secret(data.password))
    _, cookies = await begin_session(request, actor, SessionMethod.BREAKGLASS)
    return Response(None, status_code=204, cookies=cookies)


@get("/auth/breakglass/credentials", opt=_ADMIN | in_one_piece(CREDENTIALS), summary="List break-glass credentials")
async def list_breakglass_credentials(request: ApiRequest) -> BreakglassAnswer:
    """Who has one, and how their attempts went."""
    request.visible.check_whole("listing break-glass credentials")
    return await answer_whole(request, BreakglassAnswer, BreakglassView, show=_view)


def _view(credential: BreakglassCredential) -> BreakglassView:
    return shown(BreakglassView, credential, actor_id=credential.id)


@post("/auth/breakglass/credentials", status_code=201, opt=_ADMIN, summary="Set a break-glass password")
async def set_breakglass_password(request: ApiRequest, data: JSONBody[BreakglassWrite]) -> BreakglassMade:
    """It makes an administrator: only one without limits sets it. Sessions begun with an older one end."""
    made = await breakglass.set_password(request.ctx, request.caller.giver, data.actor_id, Secret(data.password))
    return BreakglassMade(actor_id=made.id, created_at=made.created_at)


@post(
    "/auth/breakglass/credentials/{actor_id:str}/unlock",
    status_code=204,
    opt=_ADMIN,
    summary="Unlock a break-glass credential",
)
async def unlock_breakglass_credential(request: ApiRequest, actor_id: FromPath[str]) -> None:
    """Forget its failures."""
    await breakglass.unlock(request.ctx, request.actor, actor_id)


@delete(
    "/auth/breakglass/credentials/{actor_id:str}",
    status_code=204,
    opt=_ADMIN,
    summary="Delete a break-glass credential",
)
async def delete_breakglass_credential(request: ApiRequest, actor_id: FromPath[str]) -> None:
    """And end its sessions."""
    await breakglass.remove(request.ctx, request.actor, actor_id)


PAGES = (sign_in_by_password,)
HANDLERS = (
    list_breakglass_credentials,
    set_breakglass_password,
    unlock_breakglass_credential,
    delete_breakglass_credential,
)
