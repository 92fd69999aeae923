"""/health, /ready, /api/v1/version, and the OpenAPI document."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec

from certctl.api.document import page
from certctl.api.guard import PUBLIC
from certctl.api.request import ApiRequest
from certctl.client.models.system import Health, Readiness, VersionInfo
from certctl.doors.readiness import Verdict
from certctl.wire.agent import PROTOCOL_VERSION


@get("/health", opt=PUBLIC, summary="Is the process alive?")
async def show_health() -> Health:
    """The process answers; nothing else is looked at."""
    return Health(status="healthy")


@get(
    "/ready",
    opt=PUBLIC,
    summary="Can the process work?",
    responses={503: ResponseSpec(Readiness, generate_examples=False, description="It cannot, and why")},
)
async def show_readiness(request: ApiRequest) -> Response[Readiness]:
    """503 while the database does not answer within two seconds, its schema is older than this release or has left it
    behind, this process was granted no lease for a minute, it cannot use the CA's keys, or it is stopping.
    """
    if request.door.draining.is_set():
        return _not_ready(Verdict("unknown", "stopping", "this process is stopping"))
    found = await request.door.watch.look(request.ctx)
    if found.failed:
        return _not_ready(found)
    standby = request.door.reads.standby
    body = Readiness(status="ready", db=found.db, read_standby=standby.standing if standby else "")
    return Response(body, status_code=200)


def _not_ready(found: Verdict) -> Response[Readiness]:
    body = Readiness(status="not_ready", db=found.db, error=found.error, failed=found.failed)
    return Response(body, status_code=503)


@get("/version", opt=PUBLIC, summary="What runs here?")
async def show_version(request: ApiRequest) -> VersionInfo:
    """The release, and what the clock says there."""
    now = request.ctx.now()
    return VersionInfo(version=request.door.version, agent_protocol=PROTOCOL_VERSION, server_time=now)


@get("/openapi.json", opt=PUBLIC, include_in_schema=False)
async def show_openapi(request: ApiRequest) -> Response[bytes]:
    """This API as OpenAPI 3.1; nothing of this installation is in it."""
    return Response(_document(request.app.state.document), media_type="application/json")


@get("/docs", opt=PUBLIC, include_in_schema=False, media_type="text/html")
async def show_docs(request: ApiRequest) -> Response[str]:
    """The same as a page to read."""
    headers = {"Content-Security-Policy": page.CONTENT_SECURITY_POLICY, "Cache-Control": "no-cache"}
    return Response(_page(request.app.state.document), headers=headers, media_type="text/html")


@get("/docs/style.css", opt=PUBLIC, include_in_schema=False, media_type="text/css")
async def show_docs_style() -> Response[bytes]:
    """How it looks."""
    return Response(page.style(), headers={"Cache-Control": "no-cache"}, media_type="text/css")


@functools.cache
def _document(tell: Callable[[], dict[str, Any]]) -> bytes:
    return msgspec.json.encode(tell())


@functools.cache
def _page(tell: Callable[[], dict[str, Any]]) -> str:
    return page.render(tell())


PROBES = (show_health, show_readiness)
HANDLERS = (show_version, show_openapi, show_docs, show_docs_style)
