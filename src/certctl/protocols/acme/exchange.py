"""One ACME exchange over ASGI: the request as the routes see it, the reply as clients do (RFC 8555 6).

Every reply but the directory names the index; every reply to a POST carries a fresh nonce. Bodies are bounded as they
arrive. Must never show a trace: what goes wrong inside is serverInternal, and logged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct

from certctl.core import errors
from certctl.core.errors import CertctlError
from certctl.doors.edge import HttpScope, Receive, headers_of
from certctl.telemetry.logging import get_logger
from certctl.wire import problem
from certctl.wire.jws import MEDIA_TYPE as JOSE
from certctl.wire.problem import AcmeRefusal, ProblemType, Subproblem

log = get_logger(__name__)

MOST_BODY_BYTES = 64 * 1024
_SOON = timedelta(seconds=5)
JSON = "application/json"


class Reply(Struct, frozen=True, kw_only=True):
    """What goes back. `links` are (address, relation)."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    location: str = ""
    retry_after: timedelta | None = None
    links: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    # empty for success; the problem's type and text otherwise
    code: str = ""
    message: str = ""


def json_reply(document: Any, **more: Any) -> Reply:
    """A reply that holds JSON."""
    return Reply(body=msgspec.json.encode(document), **more)


class Place(Struct, frozen=True):
    """Where a request stands: `base` is the address of its profile's ACME server, `path` what follows it."""

    profile_id: str
    base: str
    path: str

    def at(self, *parts: str) -> str:
        """An absolute address beneath."""
        return "/".join((self.base, *parts))


async def read_body(scope: HttpScope, receive: Receive) -> bytes:
    """The body of a POST, at most 64 KiB, of the one media type that is read (RFC 8555 6.2)."""
    if headers_of(scope).get("content-type", "").partition(";")[0].strip().lower() != JOSE:
        raise AcmeRefusal(ProblemType.MALFORMED, f"send the body as {JOSE}", status=415)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise AcmeRefusal(ProblemType.MALFORMED, "the body broke off")
        body += message.get("body", b"")
        if len(body) > MOST_BODY_BYTES:
            raise AcmeRefusal(ProblemType.MALFORMED, f"a body has at most {MOST_BODY_BYTES} bytes", status=413)
        if not message.get("more_body", False):
            return bytes(body)


_TYPES: Sequence[tuple[type[CertctlError], ProblemType, int]] = (
    (errors.NotFound, ProblemType.MALFORMED, 404),
    (errors.TooLarge, ProblemType.MALFORMED, 413),
    (errors.UnsupportedMediaType, ProblemType.MALFORMED, 415),
    (errors.Conflict, ProblemType.MALFORMED, 409),
    (errors.NotAuthenticated, ProblemType.UNAUTHORIZED, 401),
    (errors.NotAllowed, ProblemType.UNAUTHORIZED, 403),
    (errors.PolicyDenied, ProblemType.REJECTED_IDENTIFIER, 400),
    (errors.RateLimited, ProblemType.RATE_LIMITED, 429),
    (errors.CallerError, ProblemType.MALFORMED, 400),
    (errors.Temporary, ProblemType.SERVER_INTERNAL, 503),
)


def problem_of(error: BaseException) -> AcmeRefusal:
    """Any exception as ACME tells it. The detail of what is ours stays in the log."""
    if isinstance(error, AcmeRefusal):
        return error
    for kind, told, status in _TYPES:
        if isinstance(error, kind):
            violations = getattr(error, "violations", ()) if isinstance(error, errors.PolicyDenied) else ()
            subproblems = [Subproblem(told, each.message) for each in violations] if len(violations) > 1 else []
            wait = getattr(error, "retry_after", None)
            if status in {429, 503}:
                wait = wait or _SOON
            return AcmeRefusal(told, error.message, status=status, subproblems=subproblems, retry_after=wait)
    return AcmeRefusal(ProblemType.SERVER_INTERNAL, "something went wrong here", status=500)


def refuse(error: BaseException, request_id: str) -> Reply:
    """The reply to any exception."""
    told = problem_of(error)
    if told.status >= 500:
        log.error("acme_request_failed", request_id=request_id, exc_info=error)
    return Reply(
        status=told.status,
        body=told.body(),
        content_type=problem.MEDIA_TYPE,
        retry_after=told.retry_after,
        headers=told.headers,
        code=str(told.kind),
        message=told.message,
    )


def header_lines(reply: Reply, nonce: str, index: str) -> list[tuple[str, str]]:
    """Every header of a reply, in order; `index` is empty for the directory itself."""
    lines = [("cache-control", "no-store"), *reply.headers]
    if reply.body:
        lines.append(("content-type", reply.content_type))
    if reply.location:
        lines.append(("location", reply.location))
    if reply.retry_after is not None:
        lines.append(("retry-after", str(max(1, math.ceil(reply.retry_after.total_seconds())))))
    if nonce:
        lines.append(("replay-nonce", nonce))
    links = [*reply.links, *([(index, "index")] if index else [])]
    lines += [("link", f'<{address}>;rel="{relation}"') for address, relation in links]
    return lines
