"""What routes that sign browsers in and out share: cookies on an answer, and bodies that no foreign page can send."""

from __future__ import annotations

from collections.abc import Iterable

from litestar.datastructures import Cookie

from certctl.api.request import ApiRequest
from certctl.control import sessions
from certctl.control.sessions import Begun
from certctl.core.actor import Actor
from certctl.core.errors import UnsupportedMediaType
from certctl.core.people import SessionMethod
from certctl.doors.cookies import BrowserCookie, cookies_of, session_token


def check_is_json(request: ApiRequest) -> None:
    """A page of another origin can post a body without a media type, but not one that says application/json."""
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        raise UnsupportedMediaType("send the body as application/json")


def baked(request: ApiRequest, cookies: Iterable[BrowserCookie]) -> list[Cookie]:
    """Cookies as Litestar sends them."""
    return [Cookie(**cookie.attributes(request.door.rules.sessions)) for cookie in cookies]


async def begin_session(
    request: ApiRequest, actor: Actor, method: SessionMethod, key_id: str = ""
) -> tuple[Begun, list[Cookie]]:
    """A session for somebody just recognised, and the cookies that give it to their browser; the one before ends."""
    rules, knock = request.door.rules.sessions, request.knock
    begun = await sessions.begin(
        request.ctx,
        rules,
        actor,
        method,
        user_agent=knock.user_agent,
        key_id=key_id,
        instead_of=session_token(knock.headers),
    )
    return begun, baked(request, cookies_of(begun, rules))
