"""Takes TLS connections on at a bounded pace, so that those that are there are served while a whole fleet comes back.

A handshake costs the event loop about a millisecond that nothing can interrupt. Ten thousand that begin together are
ten seconds without an answer to anybody, after which most have given up and come again. So no more are begun than a
process can take on beside its work; the others wait in the kernel's queue, which is kept short enough that nobody waits
in vain, and beyond it TCP tries again by itself (RFC 9293 3.8.1). A stranger that opens connections and says nothing
holds no place: what is counted is how many begin.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

HANDSHAKE_SECONDS = 20.0
# nobody is to wait longer in the kernel's queue: agents give up after 30 seconds
_QUEUE_SECONDS = 5.0
_LEAST_QUEUE = 128
# so many at once after a quiet moment: a tenth of a second of the rate
_BURST_SHARE = 0.1
_TURN_SECONDS = 0.02
_NO_DESCRIPTORS_SECONDS = 1.0


class Accepting:
    """One listening socket. To uvicorn it is an asyncio.Server: `close`, `wait_closed`."""

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        make_protocol: Callable[[], asyncio.Protocol],
        per_second: int,
    ) -> None:
        """Begin at once. `listener` is bound and does not block."""
        self._listener, self._context, self._make = listener, context, make_protocol
        self._rate = float(per_second)
        self._burst = max(1.0, self._rate * _BURST_SHARE)
        self._loop = asyncio.get_running_loop()
        self._tokens, self._counted_at = self._burst, self._loop.time()
        self._shaking: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._closed = False
        listener.listen(max(_LEAST_QUEUE, int(self._rate * _QUEUE_SECONDS)))
        self._loop.add_reader(listener, self._take)

    def close(self) -> None:
        """Take nobody on any more; handshakes under way are given up."""
        if self._closed:
            return
        self._closed = True
        if self._pause is None:
            self._loop.remove_reader(self._listener)
        else:
            self._pause.cancel()
        for task in self._shaking:
            task.cancel()

    async def wait_closed(self) -> None:
        """Until no handshake is under way."""
        await asyncio.gather(*self._shaking, return_exceptions=True)

    def _take(self) -> None:
        now = self._loop.time()
        self._tokens = min(self._burst, self._tokens + (now - self._counted_at) * self._rate)
        self._counted_at = now
        while self._tokens >= 1:
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # no file descriptor is free: those that are there go on, and the others wait
                log.error("connections_cannot_be_taken_on", error=error)  # noqa: TRY400 - a trace helps nobody
                self._rest(_NO_DESCRIPTORS_SECONDS)
                return
            self._tokens -= 1
            connection.setblocking(False)
            task = self._loop.create_task(self._shake(connection))
            self._shaking.add(task)
            task.add_done_callback(self._shaking.discard)
        self._rest(max(_TURN_SECONDS, (1 - self._tokens) / self._rate))

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._take)

    async def _shake(self, connection: socket.socket) -> None:
        """Hand a connection over once it is safe; one that is not, or too slow, is closed without a word."""
        with contextlib.suppress(OSError, TimeoutError):
            await self._loop.connect_accepted_socket(
                self._make, connection, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
