"""Lines of TCP that can be cut: each listens on a loopback port and carries bytes to the first of its ends that answers.

A line that is cut is a partition: connections stay open, new ones are taken, and nothing comes through, neither bytes nor a
refusal, until it is mended. Bytes that were on their way arrive then.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from typing import Self

from peers.ports import free_port


class Line:
    """One line. `ends` are the ports on loopback where it may lead; which one a connection gets is chance."""

    def __init__(self, port: int, ends: list[int]) -> None:
        self.port = port
        self.ends = ends
        self.whole = asyncio.Event()
        self.whole.set()
        self._carrying: set[asyncio.Task[None]] = set()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.whole.wait()
        far = await self._reach()
        if far is None:
            writer.close()
            return
        far_reader, far_writer = far
        tasks = [
            asyncio.create_task(self._carry(reader, far_writer)),
            asyncio.create_task(self._carry(far_reader, writer)),
        ]
        self._carrying.update(tasks)
        # when either end has closed, so has the connection
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
            self._carrying.discard(task)
        for one in (writer, far_writer):
            one.close()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for port in random.sample(self.ends, len(self.ends)):
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(5):
                    return await asyncio.open_connection("127.0.0.1", port)
        return None

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self.whole.wait()
                writer.write(data)
                await writer.drain()


class Lines:
    """All lines of a town, carried by one thread. Use in `with`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._doors: list[asyncio.Server] = []

    def lay(self, *ends: int) -> Line:
        return asyncio.run_coroutine_threadsafe(self._lay(list(ends)), self._loop).result(10)

    async def _lay(self, ends: list[int]) -> Line:
        line = Line(free_port(), ends)
        self._doors.append(await asyncio.start_server(line.take, "127.0.0.1", line.port))
        return line

    def cut(self, line: Line) -> None:
        self._loop.call_soon_threadsafe(line.whole.clear)

    def mend(self, line: Line) -> None:
        self._loop.call_soon_threadsafe(line.whole.set)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            for door in self._doors:
                door.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
