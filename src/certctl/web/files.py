"""/static: the files that pages load. Their addresses hold their content's hash, so a browser may keep them."""

from __future__ import annotations

from litestar import Response, get
from litestar.params import FromPath

from certctl.core.errors import NotFound
from certctl.web.assets import assets
from certctl.web.guard import PUBLIC
from certctl.web.request import WebRequest


@get("/static/{digest:str}/{name:str}", opt=PUBLIC)
async def show(request: WebRequest, digest: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    """One file, compressed where the browser takes that."""
    found = assets().get(name)
    if found is None or found.digest != digest:
        raise NotFound("there is no such file; load the page again")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.packed, media_type=found.media_type, headers=headers | {"Content-Encoding": "gzip"})
    return Response(found.plain, media_type=found.media_type, headers=headers)


HANDLERS = (show,)
