"""JSON merge PATCH (RFC 7396) beside every PUT: the same change, where null clears and objects are merged.

`patched(show, update)` makes the route from the GET and the PUT of a resource. What may be cleared, and to what, the
body's class says (`cleared`); everything else refuses null. A merge that meets another edit is made anew.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from litestar import patch
from litestar.handlers import HTTPRouteHandler

from certctl.api.request import SHOWN_BY, ApiRequest
from certctl.core.errors import PreconditionFailed

_TRIES = 5


def patched(show: HTTPRouteHandler, update: HTTPRouteHandler) -> HTTPRouteHandler:
    """The PATCH of the resource that `show` (GET) tells and `update` (PUT, body `data`) changes."""
    change: Callable[..., Awaitable[Any]] = update.fn

    @functools.wraps(change)
    async def merge(request: ApiRequest, data: Any, **path: Any) -> Any:
        for _ in range(_TRIES):
            try:
                return await change(request=request, data=data, **path)
            except PreconditionFailed:
                if request.if_match is not None:
                    raise
                data = await request.json()
        return await change(request=request, data=data, **path)

    merge.__name__ = f"patch_{change.__name__.removeprefix('update_')}"
    merge.__qualname__ = merge.__name__
    merge.__doc__ = "A JSON merge patch (RFC 7396): null clears what may be empty, objects are merged."
    opt = {**update.opt, SHOWN_BY: show.fn}
    return patch(sorted(update.paths), opt=opt, summary=f"{update.summary} by merging", status_code=200)(merge)
