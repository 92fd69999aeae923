"""The listener for this process's own figures (`/metrics`, plain HTTP, no secrets), and the clock that times its loop.

Off unless CERTCTL_RUNTIME_METRICS_PORT is set: it has no authentication, so it belongs on loopback or a pod's network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from certctl.telemetry.exposition import CONTENT_TYPE
from certctl.telemetry.process import ProcessFigures

_EVERY_SECONDS = 1.0

Message = MutableMapping[str, Any]


class RuntimeMetrics:
    """The ASGI app: one page."""

    def __init__(self, figures: ProcessFigures) -> None:
        self._figures = figures

    async def __call__(
        self,
        scope: Message,
        _receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer GET and HEAD /metrics; everything else is 404."""
        if scope["type"] != "http":
            return
        found = scope["path"] == "/metrics" and scope["method"] in {"GET", "HEAD"}
        body = self._figures.page() if found else b"this process's figures are at /metrics\n"
        kind = CONTENT_TYPE if found else "text/plain; charset=utf-8"
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200 if found else 404, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def time_the_loop(figures: ProcessFigures) -> None:
    """Note once a second how late the event loop is; cancel it to end it."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _EVERY_SECONDS
        await asyncio.sleep(_EVERY_SECONDS)
        figures.loop_was_late(max(0.0, loop.time() - due))
