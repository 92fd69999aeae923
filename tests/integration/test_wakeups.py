"""Hints between processes: after the commit, gathered by one connection a process; what is urgent goes with the commit."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace

import asyncpg
import pytest
import sqlalchemy as sa

from certctl import ledger
from certctl.core.actor import SYSTEM
from certctl.core.events import Event, EventType
from certctl.core.scope import Scope
from certctl.protocols.pki.answers import RevocationWatch
from certctl.store import identity, migrate
from certctl.store.tx import Database
from certctl.store.wake import REVOKED_CHANNEL, Wakeups, listening
from certctl.telemetry import points

SCOPE = Scope.whole("t-default")
NOW = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
PATIENCE = 60


class Process:
    """A database's client with its own connections and its own watchers, as each server process is."""

    def __init__(self, url: str) -> None:
        self.database, self.wakeups = Database(url), Wakeups()
        self.heard: list[str] = []
        self.said: list[str] = []
        sa.event.listen(self.database.engine.sync_engine, "before_cursor_execute", self._note)

    def _note(self, _connection, _cursor, statement, *_more):
        self.said.append(statement)

    def note(self, *channels: str) -> None:
        for channel in channels:
            self.wakeups.call(channel, lambda channel=channel: self.heard.append(channel))

    async def wake(self, *channels: str, within: bool = False) -> None:
        async with self.database.begin("test") as tx:
            await tx.scalar(sa.select(1))
            for channel in channels:
                tx.wake(channel, within=within)


def told(serial: str) -> Event:
    details = {"serial_number": serial}
    return Event(
        type=EventType.CERTIFICATE_REVOKED, subject_type="certificate", subject_id="c", actor=SYSTEM, details=details
    )


async def until(holds, what: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.01)
    assert holds(), what


@pytest.fixture
async def two(postgres_server):
    """Two processes at one database, each heard by the other."""
    url = postgres_server.new_database()
    first, second = Process(url), Process(url)
    for one in (first, second):
        one.note("ready", "identity", "a", "b", "last")
    async with listening(first.database, first.wakeups), listening(second.database, second.wakeups):
        # both are woken whole once they listen; what comes now is what they are told
        await until(lambda: first.heard and second.heard, "they listen")
        for one in (first, second):
            one.heard.clear()
            one.said.clear()
        yield first, second
    for one in (first, second):
        await one.database.close()


async def test_others_hear_after_the_commit_which_itself_tells_nobody(two):
    first, second = two
    with pytest.raises(LookupError):
        async with first.database.begin("test") as tx:
            tx.wake("b")
            raise LookupError
    await first.wake("a")
    assert first.heard == ["a"], "in the process itself at once"
    await second.wake("last")
    await until(lambda: "last" in first.heard and "a" in second.heard, "each hears the other")
    assert sorted(first.heard) == ["a", "last"], "nobody hears its own again, and nothing of what was rolled back"
    assert sorted(second.heard) == ["a", "last"]
    assert not [said for process in two for said in process.said if "pg_notify" in said]


async def test_what_is_urgent_goes_with_the_commit(two):
    first, second = two
    async with first.database.begin("test") as tx:
        identity.changed(tx)
        tx.wake("a")
        assert second.heard == []
    (said,) = [said for said in first.said if "pg_notify" in said]
    assert said.count("pg_notify(") == 1, "of the two the urgent one alone"
    await until(lambda: {"identity", "a"} <= set(second.heard), "both arrive")


async def test_many_go_together_and_all_arrive(two):
    first, second = two
    channels = [f"job:job-{'x' * 100}-{number}" for number in range(500)]
    second.note(*channels)
    await asyncio.gather(*(first.wake(channel) for channel in channels[:20]))
    await first.wake(*channels[20:])
    await until(lambda: set(channels) <= set(second.heard), "every one")
    second.heard.clear()
    await first.wake(*(f"{channel}-nobody-waits-here-{number}" for channel in channels for number in range(21)))
    await until(lambda: set(channels) <= set(second.heard), "of more than can be named all are woken")


async def test_a_cut_connection_costs_time_alone(two):
    first, second = two
    listening_now = (
        "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND (query ILIKE 'LISTEN%' OR query = 'SELECT 1' OR query LIKE '%pg_notify%')"
    )
    async with second.database.read() as tx:
        assert await tx.scalar(sa.text(f"SELECT count(pg_terminate_backend(pid)) {listening_now}")) == 2
    for number in range(3):
        await first.wake("a", f"b{number}")
    await first.wake("last")
    await until(lambda: "last" in second.heard, "told once there is a connection again")


async def test_whatever_the_driver_says_of_a_connection_it_costs_time_alone(two, monkeypatch):
    """Cut off in the middle of an answer, its state is one that the driver does not know."""
    first, second = two
    fetch, failed = asyncpg.Connection.fetch, []

    async def once_lost(self, query, *values, **options):
        if "pg_notify" in query and not failed:
            failed.append(query)
            raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")
        return await fetch(self, query, *values, **options)

    monkeypatch.setattr(asyncpg.Connection, "fetch", once_lost)
    await first.wake("last")
    await until(lambda: "last" in second.heard, "told once there is a connection again")
    assert failed


async def test_what_was_told_last_leaves_before_the_end(postgres_server):
    url = postgres_server.new_database()
    first, second = Process(url), Process(url)
    second.note("ready", "last")
    async with listening(second.database, second.wakeups):
        async with listening(first.database, first.wakeups):
            await until(lambda: second.heard, "it listens")
            second.heard.clear()
            await first.wake("ready")
            await until(lambda: "ready" in second.heard, "so does the other")
            await first.wake("last")
        await until(lambda: "last" in second.heard, "also what was to be told as it ended")
        assert first.database.tell_others is None, "from now on its commits tell themselves"
        second.heard.clear()
        await first.wake("last")
        await until(lambda: "last" in second.heard, "as those of a command without a listener")
    for one in (first, second):
        await one.database.close()


class Died(BaseException):
    """What kill -9 would be: nothing behind it runs."""


async def test_who_dies_between_commit_and_hint_loses_nothing(postgres_server, monkeypatch):
    """The other process's watch of revocations finds what was committed by its clock, though no hint ever comes."""
    url = postgres_server.new_database()
    first, second = Process(url), Process(url)
    await migrate.migrate(first.database)
    second.note(REVOKED_CHANNEL)
    dying: list[str] = []

    def die(name: str) -> None:
        if name == "wake.sending":
            dying.append(name)
            raise Died

    seen: list[str] = []
    watch = RevocationWatch(SimpleNamespace(database=second.database, scope=SCOPE), second.wakeups)  # type: ignore[arg-type]
    watch.on_revoked(lambda serials: seen.extend(serials or ()))
    async with listening(second.database, second.wakeups):
        await until(lambda: second.heard, "it listens")
        second.heard.clear()
        running = asyncio.create_task(watch.run())
        await until(lambda: watch.looks > 0, "it has looked")
        monkeypatch.setattr(points, "hook", die)
        with pytest.raises(Died):
            async with listening(first.database, first.wakeups):
                async with first.database.begin("test") as tx:
                    await ledger.append(tx, SCOPE, NOW, told("ab12"))
                    tx.wake(REVOKED_CHANNEL)
                await until(lambda: dying, "it dies with the hint in hand")
                await until(lambda: seen, "seen without a hint")
        assert seen == ["ab12"]
        assert second.heard == [], "nobody told it"
        watch.stop()
        await running
    for one in (first, second):
        await one.database.close()
