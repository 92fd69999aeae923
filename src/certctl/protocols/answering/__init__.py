"""http-01 of CAs that we ask (RFC 8555 8.3): `/.well-known/acme-challenge/<token>`, and nothing else, to whoever asks.

A plain ASGI app for the plain listener and the other one: the answer is public, the token is a number that only the CA
and we know. What goes wrong inside is logged, and answered with a bare 500.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from certctl.core.errors import CertctlError
from certctl.telemetry.logging import get_logger

PREFIX = "/.well-known/acme-challenge/"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,512}")
log = get_logger(__name__)


class AnsweringApp:
    """`find` gives the key authorization of a token, or None."""

    def __init__(self, find: Callable[[str], Awaitable[str | None]]) -> None:
        self._find = find

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],  # noqa: ARG002 - no body is read
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        status, body = await self._reply(scope)
        headers = [
            (b"content-type", b"application/octet-stream" if status == 200 else b"text/plain"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _reply(self, scope: MutableMapping[str, Any]) -> tuple[int, bytes]:
        token = str(scope.get("path", "")).removeprefix(PREFIX)
        if _TOKEN.fullmatch(token) is None:
            return 404, b"not found\n"
        if scope["method"] not in {"GET", "HEAD"}:
            return 405, b"method not allowed\n"
        try:
            found = await self._find(token)
        except CertctlError as error:
            log.warning("challenge_not_answered", error=error.message, detail=error.detail)
            return 503, b"try again\n"
        except Exception:
            log.exception("challenge_not_answered")
            return 500, b"internal error\n"
        return (404, b"not found\n") if found is None else (200, found.encode())
