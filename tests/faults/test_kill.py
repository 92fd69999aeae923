"""kill -9 at every point of death of the recorded story: it ends the same, and NGINX serves a valid pair at every instant.

Each name of `points.txt` once outside the start of a server (where its chapter can share a fleet: approve to verify are played
in a renewal, being the same commits in a first request), and every point of a server's start in one chain of deaths. Databases
alternate. `make faults` plays every chapter, database and victim.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.story import CHAPTERS, Listed, Play, Point, once, places, playing, read_elsewhere, read_points

SOURCE = Path(__file__).resolve().parents[2] / "src" / "certctl"
DATABASES = ("sqlite", "postgresql")
SHARED = [point for point in places(once) if point.chapter in {"renew", "revoke", "look"}]
_BEFORE_THE_ANSWER = ("agent.ca.", "agent.attempt.written", "agent.attempt.named", "agent.call.agents.asking")


def _in_time(point: Point) -> int:
    """The list tells a process's own order; an enrolment goes from the agent to the server and back."""
    if point.process == "agent":
        return 0 if point.name.startswith(_BEFORE_THE_ANSWER) else 2
    return 1 if point.name.startswith("commit.enrolment.enrol.") else 3


FIRST = sorted((point for point in places(once) if point.chapter in {"furnish", "enrol", "request"}), key=_in_time)


def _both(points: list[Point]) -> list[object]:
    """Each point on one database, turn and turn about; what is not passed on PostgreSQL goes to SQLite."""
    return [
        pytest.param(
            DATABASES[number % 2],
            point,
            id=f"{DATABASES[number % 2]}-{point.chapter}-{point.name}",
            marks=pytest.mark.xdist_group(f"faults-{DATABASES[number % 2]}"),
        )
        for number, point in enumerate(points)
    ]


@pytest.fixture(scope="module")
def shared(tmp_path_factory, request, nursery) -> Iterator[Callable[[str], Play]]:
    """One fleet a database that has come through its first request; a fleet that failed is not used again."""
    open_plays: dict[str, Play] = {}

    def get(kind: str) -> Play:
        play = open_plays.get(kind)
        if play is None or play.broken:
            if play is not None:
                play.stop()
            server = request.getfixturevalue("postgres_server") if kind == "postgresql" else None
            play = open_plays[kind] = Play(tmp_path_factory.mktemp(kind), server, nursery=nursery)
            for chapter in CHAPTERS[: CHAPTERS.index("renew")]:
                play.play(chapter)
        return play

    yield get
    for play in open_plays.values():
        play.stop()


@pytest.mark.parametrize(("kind", "point"), _both(SHARED))
def test_killed_there_the_story_ends_the_same(shared, kind, point):
    play = shared(kind)
    play.broken = True
    passed = play.strike(point)
    play.judge()
    play.broken = False
    listed = {(one.process, one.name): one for one in read_points()}[point.process, point.name]
    assert passed or not listed.always, f"{point.name} was not passed"


def _of_the_start(one: Listed) -> tuple[str, ...]:
    return ("start",) if "start" in one.chapters and one.always else ()


def _publishing_first(point: Point) -> bool:
    """What ticks pass at every start comes last: a start that dies there may have published already, which is done once."""
    return point.name.startswith(("commit.tick.", "commit.renew."))


BOTH = pytest.mark.parametrize(
    "kind", [pytest.param(one, marks=pytest.mark.xdist_group(f"faults-{one}")) for one in DATABASES]
)


@BOTH
@pytest.mark.timeout(480)
def test_killed_all_the_way_from_an_empty_directory_to_a_ready_server(kind, tmp_path, request, nursery):
    """A chain: every point of the start in turn, one death after the other in the same data directory."""
    server = request.getfixturevalue("postgres_server") if kind == "postgresql" else None
    every = sorted(places(_of_the_start), key=_publishing_first)
    embedded = [point for point in every if point.name.startswith("secret.") or ".release." in point.name]
    mine = [point for point in every if point not in embedded][DATABASES.index(kind) :: 2]
    start = [point for point in every if point in mine or (kind == "sqlite" and point in embedded)]
    with playing(tmp_path, server, nursery=nursery) as play:
        play.chain("start", start)
        for chapter in CHAPTERS[1:]:
            play.play(chapter)
        play.judge()


@BOTH
@pytest.mark.timeout(480)
def test_killed_all_the_way_from_a_ready_server_to_the_first_certificate(kind, tmp_path, request, nursery):
    """The chain goes on through furnish, enrol and request."""
    server = request.getfixturevalue("postgres_server") if kind == "postgresql" else None
    with playing(tmp_path, server, until="furnish", nursery=nursery) as play:
        for chapter in ("furnish", "enrol", "request"):
            play.chain(chapter, [point for point in FIRST if point.chapter == chapter][DATABASES.index(kind) :: 2])
        play.judge()


@pytest.mark.xdist_group("faults-sqlite")
def test_the_list_of_points_is_whole(tmp_path, nursery):
    """A story without faults passes exactly the points of the list: a new commit must find its place there."""
    with playing(tmp_path, nursery=nursery) as play:
        for chapter in CHAPTERS:
            play.play(chapter)
        play.judge()
        passed = {(one.process, one.name) for one in play.recorded()}
    listed = {(one.process, one.name): one for one in read_points()}
    hint = "run: python tests/faults/record.py"
    assert passed <= set(listed), f"points without a place in points.txt: {sorted(passed - set(listed))}; {hint}"
    always = {key for key, one in listed.items() if one.always}
    assert always <= passed, f"listed but not passed: {sorted(always - passed)}; {hint}"


def test_every_commit_in_the_source_has_its_place():
    """Also those that this story never passes, each with a reason."""
    named = set()
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        named |= {f"commit.{name}" for name in re.findall(r'\.(?:begin|write_alone|alone)\(\s*"([^"]+)"', text)}
        named |= set(re.findall(r'(?:points\.|(?<![.\w]))reach\(\s*"([^"]+)"', text))
    placed = {one.name for one in read_points()} | read_elsewhere()
    placed |= {name.rpartition(".")[0] for name in placed}
    assert named <= placed, f"not in tests/faults/points.txt: {sorted(named - placed)}"


def test_nothing_of_a_fleet_is_left_running(tmp_path, nursery):
    with playing(tmp_path, until="request", nursery=nursery) as play:
        pids = [play.town.server.pid, play.town.agent.pid, play.town.nginx.pid]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
