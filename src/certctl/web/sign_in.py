"""/login, /logout: a session from an API key, or from a break-glass password where that is switched on.

What a form had sent when its session ended is carried along and may be sent after signing in. Must never log or show a
credential.
"""

from __future__ import annotations

from litestar import Response, get, post
from litestar.datastructures import Cookie

from certctl.control import breakglass, sessions
from certctl.core.actor import Actor, ActorType
from certctl.core.errors import CertctlError, NotAllowed, NotAuthenticated
from certctl.core.people import SessionMethod
from certctl.core.secret import Secret
from certctl.core.target import AgentRecord
from certctl.doors.cookies import BrowserCookie, cookies_of, no_cookies, session_token
from certctl.doors.edge import refuse
from certctl.doors.entry import count_sign_in, recognise
from certctl.doors.identity import hash_bearer, look_up
from certctl.web.acts import gone
from certctl.web.guard import PUBLIC
from certctl.web.pages import render
from certctl.web.request import CSRF_FIELD, OWN_FIELDS, Fields, WebRequest
from certctl.web.words import gettext as _

_KEPT = "kept."


def inside(path: str) -> str:
    """A path of ours to go to, or the overview: never another site's."""
    fine = path.startswith("/") and not path.startswith(("//", "/\\", "/login", "/logout")) and path.isprintable()
    return path if fine and "\\" not in path and len(path) <= 2000 else "/"


async def page(
    request: WebRequest,
    *,
    status: int = 200,
    fault: str = "",
    why: str = "",
    then: str = "/",
    kept_for: str = "",
    fields: Fields | None = None,
    actor_id: str = "",
    by_password: bool = False,
) -> Response[str]:
    """The sign-in page; `fields` are those of a form that may be sent afterwards to `kept_for`."""
    kept = fields.without(OWN_FIELDS) if fields is not None and kept_for else ()
    return await render(
        request,
        "login.html",
        status=status,
        fault=fault,
        why=why,
        then=inside(then),
        kept_for=inside(kept_for) if kept_for else "",
        kept=kept,
        breakglass=request.door.rules.breakglass.enabled,
        actor_id=actor_id,
        by_password=by_password,
    )


@get("/login", opt=PUBLIC)
async def show(request: WebRequest) -> Response[str]:
    """Where to sign in."""
    over = request.query_params.get("over", "") == "1"
    why = _("Your session has ended. Sign in to go on where you were.") if over else ""
    return await page(request, why=why, then=request.query_params.get("then", "/"))


@post("/login", opt=PUBLIC)
async def sign_in(request: WebRequest) -> Response[str]:
    """Begin a session; a session that the browser had before ends."""
    fields = await request.sent()
    by_password = fields.get("by") == "password"
    kept = Fields(tuple((name.removeprefix(_KEPT), value) for name, value in fields.pairs if name.startswith(_KEPT)))
    kept_for = fields.get("kept_for")
    then = inside(fields.get("then", "/"))
    try:
        cookies = await (_by_password if by_password else _by_key)(request, fields)
    except (NotAuthenticated, NotAllowed) as error:
        said = refuse(request.edge_scope, error).message
        return await page(
            request,
            status=401,
            fault=said[:1].upper() + said[1:] + ".",
            then=then,
            kept_for=kept_for,
            fields=kept,
            actor_id=fields.get("actor_id"),
            by_password=by_password,
        )
    if kept_for and inside(kept_for) == kept_for:
        csrf = next(cookie.value for cookie in cookies if not cookie.http_only)
        return await render(
            request,
            "resume.html",
            cookies=_baked(request, cookies),
            kept=kept.pairs,
            kept_for=kept_for,
            csrf=csrf,
        )
    answer = gone(then)
    answer.cookies.extend(_baked(request, cookies))
    return answer


async def _by_key(request: WebRequest, fields: Fields) -> list[BrowserCookie]:
    found = await look_up(request.ctx, hash_bearer(Secret(fields.get("api_key"))))
    if isinstance(found, AgentRecord) or found[1] is not None:
        raise NotAllowed("an agent's credential begins no session")
    known = found[0]
    return await _begin(request, known.actor_id, ActorType(known.actor_type), SessionMethod.API_KEY, known.key_id)


async def _by_password(request: WebRequest, fields: Fields) -> list[BrowserCookie]:
    rules = request.door.rules.breakglass
    if not rules.enabled:
        raise NotAllowed("break-glass access is switched off")
    await count_sign_in(request.door, request.knock.address)
    knock = request.knock
    actor = Actor(id=fields.get("actor_id"), type=ActorType.USER, request_id=knock.request_id, address=knock.address)
    await breakglass.check_password(request.ctx, rules, actor, Secret(fields.raw("password")))
    return await _begin(request, actor.id, ActorType.USER, SessionMethod.BREAKGLASS)


async def _begin(
    request: WebRequest, actor_id: str, actor_type: ActorType, method: SessionMethod, key_id: str = ""
) -> list[BrowserCookie]:
    rules, knock = request.door.rules.sessions, request.knock
    begun = await sessions.begin(
        request.ctx,
        rules,
        Actor(id=actor_id, type=actor_type, request_id=knock.request_id, address=knock.address),
        method,
        user_agent=knock.user_agent,
        key_id=key_id,
        instead_of=session_token(knock.headers),
    )
    return cookies_of(begun, rules)


@post("/logout", opt=PUBLIC)
async def sign_out(request: WebRequest) -> Response[str]:
    """End the session and take its cookies; one that is over already is no fault."""
    fields = await request.sent()
    try:
        caller = await recognise(request.door, request.knock, browsers=True)
    except CertctlError:
        caller = None
    if caller is not None and caller.session_id:
        request.check(caller, fields.raw(CSRF_FIELD))
        await sessions.end(request.ctx, caller.actor, caller.session_id, "signed out", whose=caller.actor)
    answer = gone("/login?done=signed-out")
    answer.cookies.extend(_baked(request, no_cookies()))
    return answer


def _baked(request: WebRequest, cookies: list[BrowserCookie]) -> list[Cookie]:
    return [Cookie(**cookie.attributes(request.door.rules.sessions)) for cookie in cookies]


HANDLERS = (show, sign_in, sign_out)
