"""Wake-ups: a hint, after a commit, that there is work; a poll beneath makes them dispensable.

Within a process an event at once, between processes PostgreSQL's NOTIFY by one connection each, which gathers what is
to be told for some milliseconds (ADR 38): NOTIFY within the transactions would let their commits pass one at a time. A
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
from certctl.telemetry import points

log = structlog.get_logger(__name__)

_RECONNECT_SECONDS = 1.0
# the first hint after a pause is sent at once; what comes while it is sent, or so long after, goes together
_GATHER_SECONDS = 0.01
_LAST_SECONDS = 2.0
# a payload is less than 8000 bytes; a channel has no space in its name
_PAYLOAD_BYTES = 7900
_MOST_WAITING = 10_000
EVERYBODY = "*"


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


class Telling:
    """What other processes are to be told: gathered, and sent by the connection that listens."""

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._event = asyncio.Event()
        self.is_stopping = False

    def add(self, channels: Iterable[str]) -> None:
        """To be told soon; call it on the event loop's thread. Of very many that cannot be sent, all are woken."""
        self._waiting.update(channels)
        if len(self._waiting) > _MOST_WAITING:
            self._waiting = {EVERYBODY}
        self._event.set()

    def stop(self) -> None:
        """What waits is the last."""
        self.is_stopping = True
        self._event.set()

    async def gathered(self, seconds: float) -> bool:
        """Wait at most so long for something to tell, not at all at the end; True when there is."""
        if self.is_stopping:
            return bool(self._waiting)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        return bool(self._waiting)

    async def send(self, connection: Any) -> None:
        """Tell all that was gathered, in one statement; what could not be told goes on waiting. Raises as asyncpg."""
        taken, self._waiting = self._waiting, set()
        self._event.clear()
        try:
            points.reach("wake.sending")
            await connection.fetch(
                "SELECT pg_notify($1, payload) FROM unnest($2::text[]) payload",
                WAKE_CHANNEL,
                _payloads(taken),
                timeout=10,
            )
        except BaseException:
            self.add(taken)
            raise


def _payloads(channels: Iterable[str]) -> list[str]:
    payloads: list[list[str]] = [[]]
    length = 0
    for channel in sorted(channels):
        if length + len(channel) > _PAYLOAD_BYTES:
            payloads.append([])
            length = 0
        payloads[-1].append(channel)
        length += len(channel) + 1
    return [" ".join(payload) for payload in payloads]


@contextlib.asynccontextmanager
async def listening(database: Database, wakeups: Wakeups) -> AsyncIterator[None]:
    """Bring other processes' wake-ups here, and ours to them, for the length of the block (PostgreSQL); in SQLite there
    are no others.
    """
    database.on_wake = wakeups.tell
    if database.connector is None:
        yield
        return
    telling = Telling()
    task = asyncio.create_task(_listen(database.connector, wakeups, telling), name="wake-ups")
    database.tell_others = telling.add
    try:
        yield
    finally:
        database.tell_others = None
        telling.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                await task


# the last is what the driver says of a connection that was cut off in the middle of an answer
_DRIVER = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


async def _listen(connector: Connector, wakeups: Wakeups, telling: Telling) -> None:
    while not telling.is_stopping:
        try:
            connection = await connector.connect()
            try:
                await connection.add_listener(WAKE_CHANNEL, _heard_by(wakeups, connection.get_server_pid()))
                wakeups.tell_all()
                await _tell_others(connection, telling)
            finally:
                await connection.close(timeout=2)
        except (OSError, TimeoutError, *_DRIVER, CertctlError) as error:
            log.warning("wake_ups_lost", error=str(error))
            await asyncio.sleep(_RECONNECT_SECONDS)


def _heard_by(wakeups: Wakeups, own_pid: int) -> Callable[[Any, int, str, str], None]:
    def heard(_connection: Any, pid: int, _channel: str, payload: str) -> None:
        if pid == own_pid:
            return  # this process was told as it committed
        channels = payload.split(" ")
        if EVERYBODY in channels:
            wakeups.tell_all()
        else:
            wakeups.tell(channels)

    return heard


async def _tell_others(connection: Any, telling: Telling) -> None:
    """Until the connection ends, or what is told is the last."""
    while not connection.is_closed():
        if await telling.gathered(_RECONNECT_SECONDS):
            await telling.send(connection)
            await asyncio.sleep(_GATHER_SECONDS)
        elif telling.is_stopping:
            return
        else:
            await connection.fetchval("SELECT 1", timeout=10)
