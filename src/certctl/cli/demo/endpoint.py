"""A small TLS endpoint for hosts without NGINX: serves two files, loads them anew on SIGHUP. For the demo only.

Verbs: `serve PORT CERT KEY PIDFILE`, `check STAGED_CONFIG` (reads the ssl_certificate lines of an NGINX config),
`reload PIDFILE`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import ssl
import sys
from pathlib import Path

_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 48\r\nConnection: close\r\n\r\n"
    b"served with a certificate that certctl deployed\n"
)


async def _serve(port: int, cert_path: str, key_path: str, pid_path: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_path, key_path)
    stop = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            async with asyncio.timeout(5):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(_ANSWER)
                await writer.drain()
        writer.close()

    def reload() -> None:
        try:
            context.load_cert_chain(cert_path, key_path)
        except (OSError, ssl.SSLError) as error:
            sys.stderr.write(f"not reloaded: {error}\n")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    Path(pid_path).write_text(str(os.getpid()))
    async with await asyncio.start_server(answer, "127.0.0.1", port, ssl=context):
        await stop.wait()


def _check(staged_config: str) -> None:
    text = Path(staged_config).read_text()
    found = dict(re.findall(r"(ssl_certificate(?:_key)?)\s+\"?([^;\"]+)\"?;", text))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(found["ssl_certificate"], found["ssl_certificate_key"])


def main() -> int:
    """Serve, check or reload."""
    verb, *rest = sys.argv[1:]
    if verb == "serve":
        asyncio.run(_serve(int(rest[0]), rest[1], rest[2], rest[3]))
    elif verb == "check":
        _check(rest[0])
    else:
        os.kill(int(Path(rest[0]).read_text()), signal.SIGHUP)
    return 0


if __name__ == "__main__":
    sys.exit(main())
