"""Audit events as syslog: RFC 5424 over TCP (RFC 6587) or TLS (RFC 5425), one connection a batch.

Syslog has no answers. A batch counts as taken once the receiver has closed its side of the connection after ours was
closed: then it has read all of it. Whatever else happens, the batch is sent again.
"""

from __future__ import annotations

import asyncio
import ssl as tls
from collections.abc import Sequence
from datetime import timedelta

from certctl.connectors.base.receiver import Line
from certctl.connectors.dial import DialPolicy, dial, show_endpoint
from certctl.core.errors import Temporary
from certctl.wire.syslog import Message, frame

NAME = "syslog"


class Syslog:
    """One syslog receiver; `context` makes it TLS."""

    name = NAME

    def __init__(
        self,
        host: str,
        port: int,
        own_name: str,
        context: tls.SSLContext | None = None,
        timeout: timedelta = timedelta(seconds=30),
    ) -> None:
        self.address = f"{'tcp' if context is None else 'tls'}://{show_endpoint(host, port)}"
        self._host, self._port, self._own_name, self._context, self._timeout = host, port, own_name, context, timeout
        # who may write the server's environment says where its log goes, private addresses too
        self._policy = DialPolicy(purpose="audit.syslog", allow=(host,), setting="CERTCTL_AUDIT_SYSLOG_URL")

    async def send(self, lines: Sequence[Line]) -> None:
        """Send all of them and wait until the receiver has read them."""
        stream = b"".join(
            frame(
                Message(at=line.at, hostname=self._own_name, message_id=line.kind, text=line.json.decode()).as_bytes()
            )
            for line in lines
        )
        reader, writer = await dial(self._host, self._port, self._policy, self._timeout, ssl=self._context)
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                writer.write(stream)
                await writer.drain()
                await self._finish(reader, writer)
        except TimeoutError as error:
            raise Temporary(
                f"{self.address} did not close its side within {self._timeout.total_seconds():g} s"
            ) from error
        except OSError as error:
            raise Temporary(f"{self.address} broke off: {error.strerror or error}") from error
        finally:
            writer.transport.abort()

    async def _finish(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._context is None:
            writer.write_eof()
            while await reader.read(4096):  # a receiver has nothing to say; what it says all the same is passed over
                continue
            return
        # TLS knows no half-closed connection: our close_notify is answered by theirs, behind all that was read
        writer.close()
        await writer.wait_closed()
