"""The outermost layer of every HTTP door: request id, body limit, security headers, a log line, no exception beyond it.

The request id is always ours (uuid7); an inbound one is ignored. Bodies are counted as they arrive, whatever
Content-Length says (RFC 9110 8.6). Must never log a header or a body.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

import structlog

from certctl.core.errors import Malformed, TooLarge
from certctl.core.ids import uuid7
from certctl.doors.address import client_address
from certctl.doors.cors import PAGES, Headers, Spoken, cors_headers, preflight
from certctl.doors.denials import RECORDED, Denial, Denials
from certctl.doors.errors import Refusal, refusal
from certctl.doors.identity import Caller, Knock
from certctl.doors.state import AppState
from certctl.telemetry import tracing
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

_READS = frozenset({"GET", "HEAD", "OPTIONS"})

HttpScope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[HttpScope, Receive, Send], Awaitable[None]]

_REQUEST_ID = "certctl.request_id"
_CALLER = "certctl.caller"
_REFUSAL = "certctl.refusal"
_ADDRESS = "certctl.address"
_HEADERS = "certctl.headers"

_SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)


def request_id_of(scope: HttpScope) -> str:
    """The id of this call."""
    return str(scope.get(_REQUEST_ID, ""))


def address_of(scope: HttpScope) -> str:
    """The client's address: the socket's peer, or what trusted proxies say of it."""
    found = scope.get(_ADDRESS)
    return _peer(scope) if found is None else str(found)


def _peer(scope: HttpScope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def headers_of(scope: HttpScope) -> dict[str, str]:
    """Request headers by lowercase name; the last one of a name wins."""
    found: dict[str, str] | None = scope.get(_HEADERS)
    if found is None:
        found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        scope[_HEADERS] = found
    return found


def knock_of(scope: HttpScope) -> Knock:
    """What is seen of somebody who calls, before they are known."""
    return Knock(
        headers=headers_of(scope),
        method=scope["method"],
        request_id=request_id_of(scope),
        address=address_of(scope),
    )


def note_caller(scope: HttpScope, caller: Caller) -> None:
    """Remember who calls, for the log line and for denials."""
    scope[_CALLER] = caller


def caller_of(scope: HttpScope) -> Caller | None:
    """Who calls, once it is known."""
    found: Caller | None = scope.get(_CALLER)
    return found


def refuse(scope: HttpScope, error: BaseException) -> Refusal:
    """The answer to an exception, noted so that the edge may record it."""
    return note_refusal(scope, refusal(error, request_id_of(scope)))


def note_refusal(scope: HttpScope, answer: Refusal) -> Refusal:
    """Remember what was refused."""
    scope[_REFUSAL] = answer
    return answer


async def send_answer(send: Send, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
    """Send one whole answer."""
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


class Edge:
    """Wraps an ASGI app; what is not HTTP passes through."""

    def __init__(
        self,
        app: AsgiApp,
        state: AppState,
        refusing: Callable[[HttpScope, BaseException], Refusal] = refuse,
        cors: tuple[tuple[str, ...], Spoken] | None = None,
    ) -> None:
        """`refusing` makes the answer to what goes wrong out here; other protocols tell it in other words. `cors`: the
        origins whose pages may call, and how; else those of the API.
        """
        self._app = app
        self._state = state
        self._refuse = refusing
        self._origins, self._spoken = cors or (state.rules.cors_origins, PAGES)
        self._denials = Denials(state.ctx)

    async def __call__(self, scope: HttpScope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[_REQUEST_ID] = uuid7()
        scope[_ADDRESS] = client_address(_peer(scope), _forwarded(scope), self._state.rules.trusted_proxies)
        told = cors_headers(headers_of(scope), self._origins, self._spoken)
        call = _Call(scope, receive, self._noting(scope, send), self._state.max_body_bytes, told)
        with structlog.contextvars.bound_contextvars(request_id=request_id_of(scope)), _traced(scope, call):
            await self._serve(scope, call)
        await self._record(scope, call.status)

    def _noting(self, scope: HttpScope, send: Send) -> Send:
        """Before a call that may have changed something is answered, it is noted that its caller has."""
        if scope["method"] in _READS:
            return send

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._state.reads.wrote(caller_of(scope))
            await send(message)

        return noting

    async def _serve(self, scope: HttpScope, call: _Call) -> None:
        try:
            call.check()
            asked_first = preflight(scope["method"], headers_of(scope), self._origins, self._spoken)
            if asked_first is None:
                await self._app(scope, call.receive, call.send)
            else:
                await call.send({"type": "http.response.start", "status": 204, "headers": asked_first})
                await call.send({"type": "http.response.body", "body": b""})
        except Exception as error:
            answer = self._refuse(scope, error)
            if call.status is None:
                await send_answer(call.send, answer.status, answer.headers, answer.body)
        finally:
            call.log()
            self._state.figures.answered(scope["method"], scope.get("path_template", ""), call.status, call.seconds)

    async def _record(self, scope: HttpScope, status: int | None) -> None:
        answer: Refusal | None = scope.get(_REFUSAL)
        if answer is None or status not in RECORDED:
            return
        caller = caller_of(scope)
        await self._denials.record(
            Denial(
                status=answer.status,
                code=answer.code,
                message=answer.message,
                method=scope["method"],
                path=scope["path"],
                request_id=request_id_of(scope),
                address=address_of(scope),
                caller=caller.actor if caller else None,
            )
        )


@contextlib.contextmanager
def _traced(scope: HttpScope, call: _Call) -> Iterator[None]:
    """A span for a call that may change something: reads and signs of life are figures enough."""
    if not tracing.is_on() or scope["method"] in _READS or scope["path"].endswith("/heartbeat"):
        yield
        return
    with tracing.span(scope["method"], parent=headers_of(scope).get("traceparent", ""), kind="server") as span:
        yield
        route = str(scope.get("path_template", ""))
        span.rename(f"{scope['method']} {route}".strip())
        span.note(method=scope["method"], route=route, status=call.status or 0, request_id=request_id_of(scope))
        if (call.status or 500) >= 500:
            span.failed(str(call.status or "no answer"))


def _forwarded(scope: HttpScope) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"x-forwarded-for"]


class _Call:
    """One call's bounds and facts."""

    def __init__(self, scope: HttpScope, receive: Receive, send: Send, limit: int, added: Headers) -> None:
        self.status: int | None = None
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limit = limit
        self._added = added
        self._received = 0
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._begun

    def check(self) -> None:
        """Refuse what can be refused before anything is read."""
        length = headers_of(self._scope).get("content-length", "")
        if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > self._limit):
            raise self._too_large()
        if "\0" in self._scope["path"] or b"\0" in unquote_to_bytes(self._scope.get("query_string", b"")):
            raise Malformed("path and query hold no NUL character")

    async def receive(self) -> Message:
        """The next message, counted."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            if self._received > self._limit:
                raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        """Send, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            request_id = request_id_of(self._scope).encode()
            given = {name.lower() for name, _ in message.get("headers", ())}
            added = [pair for pair in _SECURITY_HEADERS if pair[0] not in given]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id), *added, *self._added]
        await self._send(message)

    def log(self) -> None:
        """One line a call."""
        caller = caller_of(self._scope)
        log.info(
            "request",
            method=self._scope["method"],
            path=self._scope["path"],
            status=self.status,
            milliseconds=round(self.seconds * 1000, 1),
            request_id=request_id_of(self._scope),
            actor=caller.actor.id if caller else "",
            address=address_of(self._scope),
        )

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body may have at most {self._limit} bytes")
