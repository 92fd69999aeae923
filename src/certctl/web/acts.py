"""How a form acts: once, however often it is sent, and then the browser goes to a page (Post/Redirect/Get).

Each form that is shown carries a random `once`, which is claimed like an Idempotency-Key of the API: a second click, a
page that is sent again, a retry after a lost answer all end where the first one did.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from litestar import Response

from certctl.core.errors import Malformed
from certctl.doors.idempotency import Answer, Slot, witnessed
from certctl.web.request import CSRF_FIELD, ONCE_FIELD, Fields, WebRequest

Act = Callable[[Fields], Awaitable[str]]
_LONGEST_ONCE = 64


def going(path: str, done: str = "", **query: str) -> str:
    """A path of ours, telling there what was done; `done` is a word of `pages.DONE`."""
    told = {name: value for name, value in ({"done": done} | query).items() if value}
    return f"{path}?{urlencode(told)}" if told else path


async def act(request: WebRequest, doing: Act) -> Response[str]:
    """Do it once and go to the path that it answers with. What it raises is shown by the app, and nothing is kept."""
    fields = await request.checked()
    once = fields.get(ONCE_FIELD)
    if not 16 <= len(once) <= _LONGEST_ONCE or not once.isalnum():
        raise Malformed("this form carries no token of its own; open the page again")
    said = repr(fields.without({CSRF_FIELD})).encode()
    slot = Slot(request.ctx)
    path = request.scope["path"]
    before = await slot.claim(request.caller, f"form:{once}", ("POST", path, b"", hashlib.sha256(said).digest()))
    if before is not None:
        return gone(dict(before.headers)[b"location"].decode())
    with witnessed(slot):
        try:
            path = await doing(fields)
        except BaseException:
            await slot.finish(None)
            raise
        await slot.finish(Answer(303, [(b"location", path.encode())], b""))
    return gone(path)


def gone(path: str) -> Response[str]:
    """Go there, with GET."""
    return Response(
        "", status_code=303, headers={"Location": path, "Cache-Control": "no-store"}, media_type="text/html"
    )
