"""Many small TLS servers in one process: `python endpoints.py LIST`, where LIST is JSON: [[port, cert, key, reload file], ...].

Each serves the pair it has in memory and reads its files again when its reload file is touched; a pair that does not belong
together is not taken, the old one goes on being served, as with every grown-up server. One that starts with such a pair keeps its
door closed until the files belong together.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
from pathlib import Path

_LOOK_SECONDS = 0.05
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nserved\n"


class Endpoint:
    def __init__(self, port: int, cert: str, key: str, reload_file: str) -> None:
        self._port, self._cert, self._key, self._reload_file = port, cert, key, reload_file
        self._door = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._door.sni_callback = self._choose
        self._current: ssl.SSLContext | None = None
        self._asked = self._touched()

    def _choose(self, session: ssl.SSLObject, name: str | None, door: ssl.SSLContext) -> None:
        assert self._current is not None
        session.context = self._current

    def _touched(self) -> int:
        try:
            return Path(self._reload_file).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _read(self) -> bool:
        fresh = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            fresh.load_cert_chain(self._cert, self._key)
        except (OSError, ssl.SSLError):
            return False
        self._current = fresh
        return True

    async def live(self) -> None:
        while not self._read():
            await asyncio.sleep(_LOOK_SECONDS)
        await asyncio.start_server(self._answer, "127.0.0.1", self._port, ssl=self._door)
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            touched = self._touched()
            if touched != self._asked:
                self._asked = touched
                self._read()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(5):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(_ANSWER)
                await writer.drain()
        writer.close()


async def main() -> None:
    listed = json.loads(Path(sys.argv[1]).read_text())
    await asyncio.gather(*(Endpoint(*one).live() for one in listed))


if __name__ == "__main__":
    asyncio.run(main())
