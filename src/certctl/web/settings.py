"""/settings: who one is here, what one may do and how far, one's sessions and how to end them."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath

from certctl.control import sessions
from certctl.core.scope import Scope
from certctl.store import sessions as stored
from certctl.web.acts import act, going
from certctl.web.guard import SIGNED_IN
from certctl.web.pages import render
from certctl.web.request import Fields, WebRequest
from certctl.web.words import gettext as _
from certctl.web.words import zones

PATH = "/settings"


@get(PATH, opt=SIGNED_IN)
async def show(request: WebRequest) -> Response[str]:
    """One's own page."""
    caller = request.caller
    async with request.ctx.database.read() as tx:
        mine = await stored.alive(
            tx, request.ctx.scope, request.ctx.now(), actor_id=caller.actor.id, actor_type=str(caller.actor.type)
        )
    return await render(
        request,
        "settings.html",
        places=sorted(zones()),
        caller=caller,
        sessions=mine,
        permissions=[(name, _reach(scope)) for name, scope in sorted(caller.permissions.items())],
    )


def _reach(scope: Scope) -> str:
    if scope.is_whole:
        return _("everywhere")
    told = []
    for reach in scope.reaches:
        limits = [f"{field}: {', '.join(ids)}" for field, ids in reach.limits()]
        told.append(" + ".join(limits))
    return "; ".join(told)


@post(f"{PATH}/sessions/{{session_id:str}}/end", opt=SIGNED_IN)
async def end(request: WebRequest, session_id: FromPath[str]) -> Response[str]:
    """End one of one's own sessions; that of another is not there."""

    async def doing(_fields: Fields) -> str:
        actor = request.actor
        await sessions.end(request.ctx, actor, session_id, "revoked", whose=actor)
        return going(PATH, "ended")

    return await act(request, doing)


@post(f"{PATH}/sessions/end-others", opt=SIGNED_IN)
async def end_others(request: WebRequest) -> Response[str]:
    """End all of one's sessions but this."""

    async def doing(_fields: Fields) -> str:
        actor = request.actor
        await sessions.end_all(request.ctx, actor, actor.id, str(actor.type), but=request.caller.session_id)
        return going(PATH, "ended")

    return await act(request, doing)


HANDLERS = (show, end, end_others)
