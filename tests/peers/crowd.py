"""Simulated agents by the thousand in one asyncio (or uvloop) process: each a kept TLS connection, beats and long polls.

They wait as real ones do, by `certctl.agent.backoff`, and keep what they were leased alive as `certctl.agent.hand` says.
Nothing is verified but what a test asks for: what is measured or judged is the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from certctl.agent.backoff import Backoff

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
CONNECT_SECONDS = 30.0
BOOT = "boot-1"


class Line(asyncio.Protocol):
    """One kept connection that carries one call at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[tuple[int, float, bytes]] | None = None
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the connection was lost"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, whole, rest = self._buffer.partition(b"\r\n\r\n")
        if not whole:
            return
        length = _LENGTH.search(head)
        if len(rest) < (int(length[1]) if length else 0):
            return
        self._buffer = b""
        retry = _RETRY.search(head)
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((int(head[9:12]), float(retry[1]) if retry else 0.0, rest))

    async def call(self, head: bytes, body: bytes = b"") -> tuple[int, float, bytes]:
        """Status, seconds of Retry-After (0 without), body. OSError when the connection is lost."""
        if self.transport.is_closing():
            raise ConnectionResetError("the connection was lost")
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(b"%b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body))
        return await self._answer


@dataclass
class Crowd:
    """Agents `first` to `first + count - 1` of one server; `credential` says what each shows."""

    port: int
    count: int
    credential: Callable[[int], str]
    agent_id: Callable[[int], str]
    context: ssl.SSLContext
    first: int = 0
    poll_seconds: float = 25.0
    # over so many seconds they come at first: afterwards only as they and the server say
    arrive_seconds: float = 0.0
    # loopback has 28,000 ports an address
    addresses: int = 1
    beats: int = 0
    polls: int = 0
    refused: int = 0
    beat_seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    there: set[int] = field(default_factory=set)
    # (agent, step) -> fence of what it was leased and still holds; what it was told that it lost
    held: dict[tuple[int, str], int] = field(default_factory=dict)
    lost: list[tuple[int, str]] = field(default_factory=list)
    # how long each was without a connection, once it had one
    gone_at: dict[int, float] = field(default_factory=dict)
    back_after: list[float] = field(default_factory=list)
    spread_told: float = 0.0
    lines: set[Line] = field(default_factory=set)

    def cut(self) -> None:
        """Every connection breaks at once."""
        self.there.clear()
        for line in list(self.lines):
            line.transport.abort()

    async def live(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.first, self.first + self.count):
                group.create_task(self._agent(number))

    async def until_there(self, seconds: float) -> float:
        """Seconds until every agent has a connection on which it was answered; TimeoutError after `seconds`."""
        started = time.monotonic()
        async with asyncio.timeout(seconds):
            while len(self.there) < self.count:
                await asyncio.sleep(0.02)
        return time.monotonic() - started

    async def _agent(self, number: int) -> None:
        backoff = Backoff()
        await asyncio.sleep(self.arrive_seconds * (number - self.first) / self.count)
        while True:
            line = None
            try:
                line = await self._connect(number)
                self.lines.add(line)
                while True:
                    asked = await self._turn(line, number)
                    if asked:
                        self.refused += 1
                        await asyncio.sleep(backoff.failed(timedelta(seconds=asked)))
                        continue
                    backoff.succeeded()
            except (OSError, RuntimeError, TimeoutError) as error:
                self.failures[f"{type(error).__name__} {error}"[:80]] += 1
                self.there.discard(number)
                self.gone_at.setdefault(number, time.monotonic())
                spread = timedelta(seconds=0 if self._holds(number) else self.spread_told)
                await asyncio.sleep(backoff.failed(spread=spread))
            finally:
                if line is not None:
                    self.lines.discard(line)
                    line.transport.abort()

    async def _turn(self, line: Line, number: int) -> float:
        """A beat, then a poll (or, with steps in hand, the time until the next beat); seconds asked to wait, or 0."""
        started = time.monotonic()
        leases = [{"step_id": step, "fence": fence} for (one, step), fence in self.held.items() if one == number]
        said = {"boot_id": BOOT, "hostname": f"host{number}", "os": "linux", "protocol": 1, "leases": leases}
        status, asked, body = await line.call(self._head("POST", number, "heartbeat"), json.dumps(said).encode())
        self._check(status, asked)
        if asked:
            return asked
        self.beats += 1
        self.there.add(number)
        if number in self.gone_at:
            self.back_after.append(time.monotonic() - self.gone_at.pop(number))
        self.beat_seconds.append(time.monotonic() - started)
        reply = json.loads(body)
        self.spread_told = reply.get("reconnect_seconds", 0.0)
        for lease in reply["lost"]:
            self.lost.append((number, lease["step_id"]))
            self.held.pop((number, lease["step_id"]), None)
        if leases:
            await asyncio.sleep(1.0)
            return 0.0
        query = f"work?wait={self.poll_seconds}&boot_id={BOOT}"
        status, asked, body = await line.call(self._head("GET", number, query))
        self._check(status, asked)
        if not asked:
            self.polls += 1
            for item in json.loads(body)["jobs"]:
                self.held[number, item["step_id"]] = item["fence"]
        return asked

    def _holds(self, number: int) -> bool:
        return any(one == number for one, _ in self.held)

    def _head(self, method: str, number: int, path: str) -> bytes:
        return (
            f"{method} /api/v1/agents/{self.agent_id(number)}/{path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {self.credential(number)}\r\n"
            "Content-Type: application/json\r\nCertctl-Agent-Protocol: 1"
        ).encode()

    @staticmethod
    def _check(status: int, asked: float) -> None:
        if status != 200 and not asked:
            raise RuntimeError(f"answered {status}")

    async def _connect(self, number: int) -> Line:
        loop = asyncio.get_running_loop()
        address = f"127.0.0.{1 + number % self.addresses}"
        async with asyncio.timeout(CONNECT_SECONDS):
            _, line = await loop.create_connection(
                Line, "127.0.0.1", self.port, ssl=self.context, server_hostname="localhost", local_addr=(address, 0)
            )
        return line


@contextlib.asynccontextmanager
async def living(crowd: Crowd):
    """The crowd, alive for the length of the block."""
    task = asyncio.create_task(crowd.live())
    try:
        yield crowd
    finally:
        task.cancel()
        await asyncio.wait([task])
