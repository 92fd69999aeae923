"""/auth/login, /auth/logout and /api/v1/auth/sessions: browser sessions, begun, listed, ended.

Everybody lists and ends their own. Those of others need `auth.session.list.all` and `auth.session.revoke`, without
limits.
"""

from __future__ import annotations

from typing import Annotated

from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from certctl.api.browser import baked, begin_session, check_is_json
from certctl.api.guard import PUBLIC, SIGNED_IN, refuses
from certctl.api.lists import answer_whole, in_one_piece
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.sessions import LoginAnswer, LoginBody, RevokedAnswer, SessionsAnswer, SessionView
from certctl.control import sessions
from certctl.core.actor import Actor
from certctl.core.errors import Malformed, NotAllowed, NotAuthenticated, Violation
from certctl.core.people import Session, SessionMethod
from certctl.core.secret import Secret
from certctl.core.target import AgentRecord
from certctl.doors.cookies import check_csrf, no_cookies, session_token
from certctl.doors.edge import note_caller
from certctl.doors.entry import recognise
from certctl.doors.identity import hash_bearer, look_up
from certctl.store.identity_listings import SESSIONS, sessions_alive

Whose = Annotated[str, QueryParameter(description="another's; needs auth.session.list.all. * means everybody")]
WhoseType = Annotated[str, QueryParameter(description="User or APIKey")]
_WHOSE = frozenset({"actor_id", "actor_type"})
Except = Annotated[str, QueryParameter(name="except", description="current: all but the session that asks")]


@post("/auth/login", status_code=200, opt=PUBLIC | refuses(401), summary="Begin a browser session")
async def sign_in(request: ApiRequest, data: JSONBody[LoginBody]) -> Response[LoginAnswer]:
    """With an API key. Sets the session's cookies; a session that the browser had before ends."""
    check_is_json(request)
    found = await look_up(request.ctx, hash_bearer(Secret(data.api_key)))
    if isinstance(found, AgentRecord) or found[1] is not None:
        raise NotAllowed("an agent's credential begins no session")
    known, knock = found[0], request.knock
    actor = Actor(id=known.actor_id, type=known.actor_type, request_id=knock.request_id, address=knock.address)
    begun, cookies = await begin_session(request, actor, SessionMethod.API_KEY, known.key_id)
    answer = shown(LoginAnswer, begun.session, session_id=begun.session.id, csrf_token=begun.csrf.reveal())
    return Response(answer, status_code=200, cookies=cookies, headers={"Cache-Control": "no-store"})


@post("/auth/logout", status_code=204, opt=PUBLIC, summary="End this browser's session")
async def sign_out(request: ApiRequest) -> Response[None]:
    """Its cookies go in any case; a session that still lasts is ended, and needs its X-CSRF-Token like any change."""
    knock = request.knock
    if session_token(knock.headers) is not None and "authorization" not in knock.headers:
        try:
            caller = await recognise(request.door, knock, browsers=True)
        except NotAuthenticated:
            pass  # it is over already, which is what was asked for
        else:
            note_caller(request.edge_scope, caller)
            check_csrf(caller.csrf_hash, request.knock.method, request.knock.headers)
            await sessions.end(request.ctx, caller.actor, caller.session_id, "signed out", whose=caller.actor)
    return Response(None, status_code=204, cookies=baked(request, no_cookies()))


@get("/auth/sessions", opt=SIGNED_IN | in_one_piece(SESSIONS), summary="List sessions")
async def list_sessions(request: ApiRequest, actor_id: Whose = "", actor_type: WhoseType = "") -> SessionsAnswer:
    """One's own that last, newest first; with `actor_id` another's."""
    caller = request.caller
    mine = actor_id in {"", caller.actor.id} and actor_type in {"", str(caller.actor.type)}
    if mine:
        whose = (caller.actor.id, str(caller.actor.type))
    else:
        caller.reach("auth.session.list.all").check_whole("listing the sessions of others")
        whose = ("" if actor_id == "*" else actor_id, actor_type)

    def view(session: Session) -> SessionView:
        revoked, current = session.revoked_at is not None, session.id == caller.session_id
        return shown(SessionView, session, revoked=revoked, current=current)

    alive = sessions_alive(request.ctx.now(), *whose)
    return await answer_whole(request, SessionsAnswer, SessionView, show=view, listing=alive, besides=_WHOSE)


@delete("/auth/sessions/{session_id:str}", status_code=204, opt=SIGNED_IN, summary="End a session")
async def revoke_session(request: ApiRequest, session_id: FromPath[str]) -> None:
    """One's own; another's needs auth.session.revoke without limits, and is not there without it (404)."""
    caller = request.caller
    others = caller.permissions.get("auth.session.revoke")
    whose = None if others is not None and others.is_whole else caller.actor
    await sessions.end(request.ctx, caller.actor, session_id, "revoked", whose=whose)


@delete("/auth/sessions", status_code=200, opt=SIGNED_IN, summary="End all of one's sessions")
async def revoke_sessions(request: ApiRequest, but: Except = "") -> RevokedAnswer:
    """With `except=current` all but the one that asks."""
    if but not in {"", "current"}:
        message = "except takes the one word current"
        raise Malformed(message, violations=(Violation("unknown_exception", message, "except"),))
    actor = request.actor
    kept = request.caller.session_id if but else ""
    return RevokedAnswer(revoked_count=await sessions.end_all(request.ctx, actor, actor.id, str(actor.type), but=kept))


PAGES = (sign_in, sign_out)
HANDLERS = (list_sessions, revoke_session, revoke_sessions)
