"""Disks that are full or read-only, files cut short, clocks that are wrong: a clear word, nothing lost, nothing doubled, and the
story goes on when it is cured. Full and read-only are real file systems (tmpfs, needs root); without root these tests skip.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.story import CERTIFICATE, CHAPTERS, Play, Point, playing
from peers.nursery import Nursery


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system of its own at `path`, of so many bytes."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    path.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", path], check=False, capture_output=True
    )
    if made.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(disk: Path) -> Path:
    """Write until not one byte more fits."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            while True:
                try:
                    file.write(b"\0" * size)
                except OSError as error:
                    assert error.errno == errno.ENOSPC
                    break
    return filler


def seal(disk: Path) -> None:
    """Read-only for whoever opens anything from now on; a file held open for writing keeps a plain remount from working."""
    subprocess.run(["mount", "--bind", disk, disk], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)


def unseal(disk: Path) -> None:
    subprocess.run(["umount", "-l", disk], check=True)


@contextlib.contextmanager
def begun(directory: Path, nursery: Nursery) -> Iterator[Play]:
    """A fleet whose agent is enrolled; the caller may have put file systems into the directory."""
    with playing(directory, until="request", nursery=nursery) as play:
        yield play


def until_told(play: Play, who: str, words: str) -> None:
    path = play.town.directory / f"{who}.log"
    play.town.wait(lambda: words in path.read_text(errors="replace"), f"the {who} says: {words}")


def finish(play: Play, *chapters: str) -> None:
    for chapter in chapters:
        play.play(chapter)
    play.judge()


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_the_agents_disk(how, tmp_path, nursery):
    with small_disk(tmp_path / "agent", "1m") as disk, begun(tmp_path, nursery) as play:
        play.open("request")
        filler = fill(disk) if how == "full" else None
        if filler is None:
            seal(disk)
        play.begin("request")
        until_told(play, "agent", "No space left" if how == "full" else "Read-only file system")
        assert not play.ended("request")
        if filler is None:
            unseal(disk)
        else:
            filler.unlink()
        play._until_ended("request", 60)
        play.close("request")
        finish(play, "renew", "revoke", "look")


def test_the_targets_disk_full(tmp_path, nursery):
    """NGINX goes on with its old pair; the deployment is tried again and ends when there is room."""
    with small_disk(tmp_path / "nginx" / "tls", "64k") as disk, begun(tmp_path, nursery) as play:
        filler = fill(disk)
        play.open("request")
        play.begin("request")
        until_told(play, "agent", "No space left")
        assert play.town.nginx.served() == play._placeholder
        filler.unlink()
        play._until_ended("request", 60)
        play.close("request")
        play.judge()


def test_the_servers_disk_full(tmp_path, nursery):
    """SQLite without room: a request is refused in words or waits, what was promised stands, and it goes on by itself."""
    with small_disk(tmp_path / "server", "24m") as disk, begun(tmp_path, nursery) as play:
        finish(play, "request")
        filler = fill(disk)
        answers = set()
        deadline = time.monotonic() + 90
        while 503 not in answers and time.monotonic() < deadline:
            # the write-ahead log may have room left in it for some commits
            reply = play.town.call(
                "POST", "/api/v1/certificates", {"id": "cert-full", "common_name": "x" * 40 + ".example"}
            )
            answers.add(reply.status_code)
            play.town.call("POST", "/api/v1/teams", {"name": f"team {time.monotonic()}"})
            reply = play.town.call(
                "POST", "/api/v1/teams", {"name": f"team {time.monotonic()}", "description": "y" * 4000}
            )
            answers.add(reply.status_code)
        assert 503 in answers, f"answers while the disk was full: {answers}"
        assert 500 not in answers
        filler.unlink()
        play.town.wait(lambda: play.town.call("GET", "/ready").status_code == 200, "the server is ready again")
        finish(play, "renew", "revoke", "look")


@pytest.mark.parametrize(
    ("point", "where", "word"),
    [
        ("agent.prepare.kept", "state/outbox/*.json", "agent.file_set_aside"),
        ("agent.deploy.kept", "state/outbox/*.json", "agent.file_set_aside"),
        ("agent.deploy.planned", "state/deploys/*.json", "agent.file_set_aside"),
        ("swap.journal.swapping", "state/targets/*/swap/*.swap", "damaged"),
        ("swap.renamed:1", "state/targets/*/swap/*.swap", "damaged"),
        ("agent.deployed.named", f"keys/{CERTIFICATE}/deployed.json", "agent.file_set_aside"),
    ],
)
def test_a_file_cut_short(point, where, word, tmp_path, nursery):
    """The agent dies, its last file is only half there: it is set aside or judged by the files themselves, and all ends well."""
    with begun(tmp_path, nursery) as play:
        real = play._raise_the_dead
        play._raise_the_dead = lambda: None
        cut: list[Path] = []

        def cut_and_raise() -> None:
            if not cut:
                cut.extend(play.town.agent_dir.glob(where))
                assert cut, f"nothing lies in {where}"
                for path in cut:
                    os.truncate(path, path.stat().st_size // 2)
            play._raise_the_dead = real
            real()

        play._raise_the_dead = cut_and_raise
        assert play.strike(Point("request", "agent", point))
        play.judge()
        assert word in (tmp_path / "agent.log").read_text(errors="replace")
        finish(play, "renew", "look")


def test_an_identity_cut_short_stops_the_agent_in_words(tmp_path, nursery):
    with begun(tmp_path, nursery) as play:
        play.town.stop_agent()
        identity = tmp_path / "agent" / "state" / "agent.json"
        whole = identity.read_bytes()
        identity.write_bytes(whole[: len(whole) // 2])
        process = play.town.spawn_agent()
        play.town.wait(lambda: process.poll() is not None, "the agent ends")
        assert process.returncode not in {0, None}
        assert "cannot be read; restore it from a backup" in play.town.log("agent")
        assert identity.read_bytes() == whole[: len(whole) // 2], "an identity is never replaced silently"
        identity.write_bytes(whole)
        play.town.spawn_agent()
        finish(play, "request")


def test_a_key_cut_short_is_not_used(tmp_path, nursery):
    """The key of a request is damaged before its CSR is made: said in words, never deployed; a forced renewal makes a new one."""
    with begun(tmp_path, nursery) as play:
        play.town.stop_agent()
        play.open("request")
        play.begin("request")
        (job_id,) = play.rows(f"SELECT id FROM jobs WHERE certificate_id = '{CERTIFICATE}'")[0]
        folder = tmp_path / "agent" / "keys" / CERTIFICATE
        folder.mkdir(mode=0o700, parents=True)
        (folder / f"{job_id}.key").write_text("-----BEGIN PRIVATE KEY-----\nMIGH")
        (folder / f"{job_id}.key").chmod(0o600)
        play.town.spawn_agent()
        until_told(play, "agent", "agent.step_failed")
        assert play.town.nginx.served() == play._placeholder
        play.town.wait(lambda: play._count("status = 'Failed'") == 1, "the job says that its key is of no use")
        reply = play.town.call("POST", f"/api/v1/certificates/{CERTIFICATE}/renew", {"force": True})
        assert reply.status_code == 202, reply.text
        play.town.wait(lambda: play.town.verified(CERTIFICATE), "a new key and its certificate are served")


@pytest.mark.parametrize("hours", [30, -30])
def test_the_servers_clock_jumps(hours, tmp_path, nursery):
    """Leases, ticks and retries set by a wrong clock neither stick nor run wild once it is right again."""
    with begun(tmp_path, nursery) as play:
        finish(play, "request")
        play.town.clock_file.write_text(str(hours * 3600))
        time.sleep(1.5)
        play.town.wait(lambda: play.town.verified(CERTIFICATE), "it is still served and proved")
        play.town.clock_file.write_text("0")
        time.sleep(0.5)
        finish(play, *CHAPTERS[CHAPTERS.index("renew") :])
