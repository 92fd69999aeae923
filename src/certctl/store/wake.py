"""Wake-ups: a hint, after a commit, that there is work; a poll beneath makes them dispensable.

Within a process an event, between processes PostgreSQL's NOTIFY by one connection each, coalesced to one a channel. A
watcher registers before it looks for work, so that nothing falls between look and wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import asyncpg
import structlog

from certctl.core.errors import CertctlError
from certctl.store.postgres import Connector
from certctl.store.tx import WAKE_CHANNEL, Database

log = structlog.get_logger(__name__)

_RECONNECT_SECONDS = 1.0


def agent_channel(agent_id: str) -> str:
    """The wake-up channel of one agent's long poll."""
    return f"agent:{agent_id}"


REVOKED_CHANNEL = "revoked"


def job_channel(job_id: str) -> str:
    """The wake-up channel of whoever waits for one job."""
    return f"job:{job_id}"


class Watch:
    """Set once its channel is told; `wait` returns at once if that happened since it was made or last waited."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """There is work."""
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Wait at most so long; True when told."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Wakeups:
    """Who waits on which channel in this process."""

    def __init__(self) -> None:
        self._watches: dict[str, set[Watch]] = defaultdict(set)
        self._calls: dict[str, list[Callable[[], None]]] = {}

    def tell(self, channels: Iterable[str]) -> None:
        """Wake every watcher of these channels; call it on the event loop's thread."""
        for channel in channels:
            for watch in self._watches.get(channel, ()):
                watch.tell()
            for call in self._calls.get(channel, ()):
                call()

    def call(self, channel: str, function: Callable[[], None]) -> None:
        """Call a function, which must not wait, whenever this channel is told; for the life of the process."""
        self._calls.setdefault(channel, []).append(function)

    @contextlib.contextmanager
    def watch(self, channel: str) -> Iterator[Watch]:
        """Watch a channel for the length of the block."""
        watch = Watch()
        self._watches[channel].add(watch)
        try:
            yield watch
        finally:
            self._watches[channel].discard(watch)
            if not self._watches[channel]:
                del self._watches[channel]

    def tell_all(self) -> None:
        """Wake everybody: after a lost connection nobody knows what was missed."""
        self.tell([*self._watches, *(channel for channel in self._calls if channel not in self._watches)])


@contextlib.asynccontextmanager
async def listening(database: Database, wakeups: Wakeups) -> AsyncIterator[None]:
    """Bring other processes' wake-ups here for the length of the block (PostgreSQL); in SQLite there are none."""
    database.on_wake = wakeups.tell
    if database.connector is None:
        yield
        return
    task = asyncio.create_task(_listen(database.connector, wakeups), name="wake-ups")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _listen(connector: Connector, wakeups: Wakeups) -> None:
    def told(_connection: Any, _pid: int, _channel: str, payload: str) -> None:
        wakeups.tell((payload,))

    while True:
        try:
            connection = await connector.connect()
            try:
                await connection.add_listener(WAKE_CHANNEL, told)
                wakeups.tell_all()
                while not connection.is_closed():
                    await asyncio.sleep(_RECONNECT_SECONDS)
                    await connection.fetchval("SELECT 1", timeout=10)
            finally:
                await connection.close(timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, CertctlError) as error:
            log.warning("wake_ups_lost", error=str(error))
            await asyncio.sleep(_RECONNECT_SECONDS)
