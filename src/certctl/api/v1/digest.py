"""/api/v1/digest: the daily mail, looked at and sent at once."""

from __future__ import annotations

from litestar import MediaType, get, post

from certctl.api.guard import needs
from certctl.api.request import ApiRequest
from certctl.client.models.page import StatusAnswer
from certctl.control import digest


@get(
    "/digest/preview",
    opt=needs("digest.read"),
    summary="Look at the digest",
    media_type=MediaType.HTML,
)
async def preview_digest(request: ApiRequest) -> str:
    """What it would say this moment, as a page."""
    return (await digest.preview(request.ctx, request.visible)).html


@post("/digest/send", status_code=200, opt=needs("digest.send"), summary="Send the digest now")
async def send_digest(request: ApiRequest) -> StatusAnswer:
    """`sent` when every mail server took it, `queued` when one is away; without a mail channel 409."""
    return StatusAnswer(status=await digest.send_now(request.ctx, request.actor))


HANDLERS = (preview_digest, send_digest)
