"""/theme and /zone: how pages look, in which zone they tell times; kept in cookies, by forms that need no script."""

from __future__ import annotations

from urllib.parse import quote

from litestar import Response, post
from litestar.datastructures import Cookie

from certctl.web.acts import gone
from certctl.web.guard import PUBLIC
from certctl.web.pages import THEME_COOKIE, THEMES
from certctl.web.request import Fields, WebRequest
from certctl.web.sign_in import inside
from certctl.web.words import ZONE_COOKIE, zones


@post("/theme", opt=PUBLIC)
async def choose(request: WebRequest) -> Response[str]:
    """Any other word than a theme's forgets the choice."""
    fields = await request.sent()
    theme = fields.get("theme")
    return _kept(fields, THEME_COOKIE, theme if theme in THEMES else "")


@post("/zone", opt=PUBLIC)
async def choose_zone(request: WebRequest) -> Response[str]:
    """`zone` of a button, else `place` of the list; any other word than a zone's is UTC."""
    fields = await request.sent()
    zone = fields.get("zone") or fields.get("place")
    return _kept(fields, ZONE_COOKIE, quote(zone, safe="") if zone in zones() else "")


def _kept(fields: Fields, name: str, value: str) -> Response[str]:
    """Back where the form was, with the choice kept for a year, or forgotten."""
    answer = gone(inside(fields.get("then", "/")))
    lasting = 31_536_000 if value else 0
    answer.cookies.append(Cookie(key=name, value=value, max_age=lasting, path="/", secure=True, samesite="lax"))
    return answer


HANDLERS = (choose, choose_zone)
