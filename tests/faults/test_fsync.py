"""fsync(2) that fails, in real servers and agents (a library preloaded into them), and files of a server cut short.

A write that could not be made safe counts as not made: nothing is promised, signed or put in place upon it, it is said in words, and
the story goes on by itself when the disk is well again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.story import CERTIFICATE, Play, playing
from faults.test_disk import finish, seal, small_disk, unseal, until_told
from peers.nursery import Nursery

SOURCE = Path(__file__).with_name("fsync_fails.c")
EIO = "Input/output error"


@pytest.fixture(scope="session")
def shim(tmp_path_factory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: make peers installs one")
    made = tmp_path_factory.mktemp("shim") / "fsync_fails.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, SOURCE, "-ldl"], check=True, timeout=60)
    return made


@pytest.fixture
def fails(shim, tmp_path, monkeypatch) -> Callable[[Path], contextlib.AbstractContextManager[None]]:
    """A block in which fsync fails beneath a folder, for every process that is started from here on."""
    control = tmp_path / "fsync-fails"
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    monkeypatch.setenv("FSYNC_FAILS", str(control))

    @contextlib.contextmanager
    def failing(folder: Path) -> Iterator[None]:
        fresh = control.with_suffix(".new")
        fresh.write_text(f"{folder}\n")
        fresh.rename(control)
        yield
        control.unlink()

    return failing


@pytest.mark.parametrize("where", ["state", "keys"])
def test_the_agents_own_files(where, fails, tmp_path):
    """Outbox and journal lie in `state`, private keys in `keys`: no CSR is sent for a key that may be lost."""
    with playing(tmp_path, until="request") as play:
        play.open("request")
        with fails(tmp_path / "agent" / where):
            play.begin("request")
            until_told(play, "agent", EIO)
            assert not play.ended("request")
            if where == "keys":
                assert (
                    play.rows("SELECT id FROM orders WHERE job_id IN (SELECT id FROM jobs WHERE agent_id <> '')") == []
                )
        play._until_ended("request", 60)
        play.close("request")
        finish(play, "renew", "revoke", "look")


def test_the_targets_files(fails, tmp_path):
    """What could not be flushed is not put in place; the old pair is served all the while."""
    with playing(tmp_path, until="request") as play:
        play.open("request")
        with fails(tmp_path / "nginx" / "tls"):
            play.begin("request")
            until_told(play, "agent", EIO)
            assert play.town.nginx.served() == play._placeholder
        play._until_ended("request", 60)
        play.close("request")
        finish(play, "renew")


def test_the_servers_database(fails, tmp_path):
    """SQLite that cannot flush: refused in words, nothing half-done, and what was asked for meanwhile may be asked for again."""
    with playing(tmp_path, until="renew") as play:
        body = {"id": "cert-unsafe", "common_name": "unsafe.example"}
        with fails(tmp_path / "server"):
            answers = {play.town.call("POST", "/api/v1/teams", {"name": f"t{n}"}).status_code for n in range(5)}
            assert answers == {503}
            assert play.town.call("POST", "/api/v1/certificates", body).status_code == 503
            assert play.town.verified(CERTIFICATE), "what is known can be read"
            assert play.alive("server")
        play.town.wait(lambda: play.town.call("GET", "/ready").status_code == 200, "the server is ready again")
        assert play.town.call("POST", "/api/v1/teams", {"name": "t0"}).status_code == 201
        finish(play, "renew", "revoke", "look")


def test_the_servers_first_start(fails, tmp_path):
    """No secret is used that may be lost: it ends in words, and the next start makes everything."""
    with playing(tmp_path) as play:
        with fails(tmp_path / "server"):
            process = play.town.spawn_server()
            play.town.wait(lambda: process.poll() is not None, "the server ends")
            assert process.returncode in {4, 5}, play.town.log("server")
            assert EIO in play.town.log("server")
            assert "Traceback" not in play.town.log("server")
        for chapter in ("start", "furnish", "enrol", "request"):
            play.play(chapter)
        play.judge()


@contextlib.contextmanager
def at_rest(directory: Path, nursery: Nursery) -> Iterator[Play]:
    """A fleet with one certificate whose server has been killed, as a power cut would."""
    with playing(directory, until="renew", nursery=nursery) as play:
        play.town.server.kill()
        play.town.server.wait(60)
        yield play


def go_on(play: Play) -> None:
    play.town.start_server()
    finish(play, "renew", "look")


def test_a_torn_end_of_the_write_ahead_log(tmp_path, nursery):
    """The last frame was on its way when the power went: it was promised to nobody and is not believed."""
    with at_rest(tmp_path, nursery) as play:
        log = tmp_path / "server" / "certctl.db-wal"
        assert log.stat().st_size > 4096
        with log.open("ab") as file:
            file.write(log.read_bytes()[32 : 32 + 2500])
        go_on(play)


def test_a_servers_own_tls_files_cut_short_are_made_anew(tmp_path, nursery):
    """Its pair, its root for others to trust, the name of its certificate, and a next key that a crash left."""
    with at_rest(tmp_path, nursery) as play:
        folder = tmp_path / "server" / "tls"
        for path in (
            folder / "server.pem",
            folder / "server.key",
            folder / "certificate-id",
            tmp_path / "server" / "ca.pem",
        ):
            os.truncate(path, path.stat().st_size // 2)
        staged = folder / "server.next"
        staged.write_text("-----BEGIN PRIVATE KEY-----\nMIGH")
        staged.chmod(0o600)
        go_on(play)
        assert not staged.exists()


@pytest.mark.parametrize("damage", ["key cut short", "database cut short", "database gone"])
def test_what_cannot_be_made_anew_stops_the_server_in_words(damage, tmp_path, nursery):
    """Neither the key nor the database is ever replaced silently, nor a new CA begun; put back, all goes on."""
    with at_rest(tmp_path, nursery) as play:
        path = tmp_path / "server" / ("config-encryption.key" if damage.startswith("key") else "certctl.db")
        with contextlib.closing(sqlite3.connect(tmp_path / "server" / "certctl.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # from here on the file alone is the database
        whole = path.read_bytes()
        assert len(whole) >= 32
        if damage == "database gone":
            path.unlink()
        else:
            path.write_bytes(whole[: len(whole) // 2])
        process = play.town.spawn_server()
        play.town.wait(lambda: process.poll() is not None, "the server ends")
        said = play.town.log("server")
        assert process.returncode in {4, 5}, said
        assert {"key cut short": "key", "database cut short": "damaged", "database gone": "empty or gone"}[
            damage
        ] in said
        assert "Traceback" not in said
        for left in ("certctl.db-wal", "certctl.db-shm"):
            (tmp_path / "server" / left).unlink(missing_ok=True)
        path.write_bytes(whole)
        go_on(play)


def test_the_servers_disk_read_only(tmp_path, nursery):
    with small_disk(tmp_path / "server", "64m") as disk, playing(tmp_path, until="renew", nursery=nursery) as play:
        play.town.stop_server()
        seal(disk)
        process = play.town.spawn_server()
        play.town.wait(lambda: process.poll() is not None, "the server ends")
        assert process.returncode in {4, 5}, play.town.log("server")
        assert "Traceback" not in play.town.log("server")
        unseal(disk)
        play.town.start_server()
        finish(play, "renew", "look")
