"""The database goes away in the middle of the story, with two replicas on it: restarted after a crash, or lost for good while a
standby is promoted. Nothing is lost, nothing is doubled, the story ends the same.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.core.errors import Temporary
from certctl.store.tx import Database
from faults.story import CHAPTERS, Play, Point
from peers.nursery import Nursery
from peers.ports import free_port
from peers.postgres import Postgres, postgres
from peers.postgres_pair import Pair, pair

pytestmark = [pytest.mark.xdist_group("database"), pytest.mark.timeout(400)]

# what is half done there: an intent is stored and nothing signed yet; signed and not recorded; a revocation told to nobody
RESTARTS = (
    Point("request", "server", "commit.prepare.after"),
    Point("renew", "server", "commit.record.before"),
    Point("revoke", "server", "commit.revoke.before"),
)


def test_it_crashes_and_comes_back(tmp_path, nursery):
    with postgres() as server, _playing_on(server, tmp_path, "request", nursery) as play:
        play.add_replica()
        for point in RESTARTS:
            assert play.strike(point, "postgres"), f"{point.name} was not passed"
            play.judge()
        play.play("look")
        play.judge()


def test_it_is_lost_and_a_standby_takes_its_place(tmp_path, nursery):
    """The primary is killed with -9 while a server stands between signing and recording; what it has answered, the standby has."""
    name = "commit.record.before"
    with pair() as both, _playing_on(both, tmp_path, "renew", nursery) as play:
        play.add_replica()
        assert play.strike(Point("renew", "server", name), "postgres"), f"{name} was not passed"
        play.judge()
        for chapter in ("revoke", "look"):
            play.play(chapter)
        play.judge()


@contextlib.contextmanager
def _playing_on(server: Postgres | Pair, directory: Path, until: str, nursery: Nursery) -> Iterator[Play]:
    """As `playing`, with leases that outlast a slow machine's calls while three processes and a recovery share it."""
    play = Play(directory, server, nursery=nursery)
    play.town._extra["CERTCTL_STEP_LEASE"] = "4s"
    try:
        for chapter in CHAPTERS[: CHAPTERS.index(until)]:
            play.play(chapter)
        yield play
    finally:
        play.stop()


async def test_the_host_that_takes_writes_is_used_and_the_others_are_passed_over():
    """A closed port, a standby, the primary: in whatever order they stand in the URL."""
    with pair() as both:
        primary = both.primary.new_database()
        name = primary.rpartition("/")[2]
        hosts = [f"127.0.0.1:{port}" for port in (free_port(), both.standby.port, both.primary.port)]
        for order in (hosts, hosts[::-1]):
            database = Database(f"postgres://certctl@{','.join(order)}/{name}")
            try:
                assert await _port(database) == both.primary.port
            finally:
                await database.close()
        database = Database(f"postgres://certctl@{','.join(hosts)}/{name}", max_connections=2)
        try:
            assert await _port(database) == both.primary.port
            both.crash()
            both.start_again()
            assert await _port(database) == both.standby.port, "the pool held connections to the dead one"
        finally:
            await database.close()


async def test_a_server_that_takes_no_writes_any_more_is_left(postgres_server):
    """A primary that was demoted beneath an open connection: the first write is refused as temporary, the next goes elsewhere."""
    import sqlalchemy as sa

    database = Database(postgres_server.new_database(), max_connections=1)
    try:
        async with database.begin("test") as tx:
            await tx.execute(sa.text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
        with pytest.raises(Temporary):
            await _port(database)
        assert await _port(database) == postgres_server.port
    finally:
        await database.close()


async def test_a_connection_that_ended_while_nobody_used_it_is_replaced(postgres_server):
    """Used a moment ago, so nobody asks it first: its socket has the end to read, whether or not the loop has seen it."""
    import sqlalchemy as sa

    database = Database(postgres_server.new_database(), max_connections=1)
    try:
        for _ in range(3):
            async with database.read() as tx:
                pid = await tx.scalar(sa.text("SELECT pg_backend_pid()"))
            assert postgres_server.sql(f"SELECT pg_terminate_backend({pid}, 10000)") == "t"
            assert await _port(database) == postgres_server.port
    finally:
        await database.close()


async def test_a_pool_that_is_used_up_is_a_passing_trouble(database_url):
    database = Database(database_url, max_connections=1)
    if database.lines is not None:
        database.lines.wait_seconds = 0.1
    else:
        database.engine.pool._timeout = 0.1
    try:
        async with database.read():
            with pytest.raises(Temporary, match="in use"):
                async with database.read():
                    pass
    finally:
        await database.close()


async def test_silence_is_bounded_on_both_sides(postgres_server):
    """Of every connection, the one for wake-ups included: the same function opens them all."""
    import sqlalchemy as sa

    database = Database(postgres_server.new_database(), silence=timedelta(seconds=9))
    wanted = {
        "tcp_user_timeout": "9000",
        "tcp_keepalives_idle": "3",
        "tcp_keepalives_interval": "3",
        "tcp_keepalives_count": "2",
        "idle_in_transaction_session_timeout": "9s",
    }
    try:
        async with database.read() as tx:
            told = {name: await tx.scalar(sa.text(f"SHOW {name}")) for name in wanted}
        assert told == wanted
        connection = await database.connector.connect()
        ours = connection._transport.get_extra_info("socket")
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 9000
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        await connection.close()
    finally:
        await database.close()


async def _port(database: Database) -> int:
    import sqlalchemy as sa

    async with database.begin("test") as tx:
        await tx.execute(sa.text("CREATE TABLE IF NOT EXISTS written (at timestamptz DEFAULT now())"))
        await tx.execute(sa.text("INSERT INTO written DEFAULT VALUES"))
        return int(await tx.scalar(sa.text("SELECT current_setting('port')")))
