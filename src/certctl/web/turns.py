"""/theme: light, dark or as the system has it, kept in a cookie; a form like any other, so it works without script."""

from __future__ import annotations

from litestar import Response, post
from litestar.datastructures import Cookie

from certctl.web.acts import gone
from certctl.web.guard import PUBLIC
from certctl.web.pages import THEME_COOKIE, THEMES
from certctl.web.request import WebRequest
from certctl.web.sign_in import inside


@post("/theme", opt=PUBLIC)
async def choose(request: WebRequest) -> Response[str]:
    """Any other word than a theme's forgets the choice."""
    fields = await request.sent()
    theme = fields.get("theme")
    chosen = theme in THEMES
    answer = gone(inside(fields.get("then", "/")))
    answer.cookies.append(
        Cookie(
            key=THEME_COOKIE,
            value=theme if chosen else "",
            max_age=31_536_000 if chosen else 0,
            path="/",
            secure=True,
            samesite="lax",
        )
    )
    return answer


HANDLERS = (choose,)
