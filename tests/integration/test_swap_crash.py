"""A swap that is killed at every point, and whose recovery is killed at every point too, always ends whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from peers.swap_story import lay_out, live_pair
from peers.zygote import Zygote

LEAST_POINTS = {"": 20, "confirm": 22, "activate": 20}


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote("peers.swap_story:run") as started:
        yield started


def passed(root: Path) -> list[str]:
    return json.loads((root / "passed.json").read_text())


def check_whole(root: Path, told: str) -> str:
    """Key and certificate belong together, the server serves them, nothing is left over; returns which they are."""
    key, cert = live_pair(root)
    assert key == cert, told
    served = root / "served"
    assert (served.read_text() if served.exists() else "") == key, told
    leftovers = {path.name for path in (root / "tls").iterdir()} - {"key", "cert"}
    assert not leftovers, told
    assert not list((root / "state").iterdir()), told
    return key


@pytest.mark.parametrize(("fault", "old"), [("", True), ("confirm", True), ("activate", True), ("", False)])
def test_killed_at_every_point_it_ends_whole(tmp_path: Path, zygote: Zygote, fault: str, old: bool) -> None:
    rehearsal = tmp_path / "rehearsal"
    lay_out(rehearsal, old=old)
    assert zygote.run(root=rehearsal, fault=fault, old=old) == (1 if fault else 0)
    all_points = passed(rehearsal)
    assert len(all_points) >= LEAST_POINTS[fault] - (0 if old else 2)
    before = "old" if old else ""
    if old or not fault:
        assert check_whole(rehearsal, "rehearsal") == (before if fault else "new")
    for number, point in enumerate(dict.fromkeys(all_points)):
        root = tmp_path / f"{number}"
        lay_out(root, old=old)
        assert zygote.run(root=root, fault=fault, old=old, point=point) == -9, point
        assert zygote.run(root=root, recover=True) == 0, point
        ended = check_whole(root, point) if old else live_pair(root)[0]
        assert live_pair(root)[0] == live_pair(root)[1], point
        assert ended in {before, "new"}, point
        # Whatever it was, doing it again ends the story the same.
        assert zygote.run(root=root, old=old) == 0, point
        assert check_whole(root, point) == "new"


def test_recovery_killed_at_every_point_ends_whole_too(tmp_path: Path, zygote: Zygote) -> None:
    deaths = 0
    for first in ("swap.staged", "swap.renamed:0", "swap.back:0"):
        fault = "confirm" if first == "swap.back:0" else ""
        probe = tmp_path / f"{first}-probe"
        lay_out(probe)
        assert zygote.run(root=probe, fault=fault, point=first) == -9
        assert zygote.run(root=probe, recover=True, fault=fault) == 0
        for number, second in enumerate(dict.fromkeys(passed(probe))):
            root = tmp_path / f"{first}-{number}"
            lay_out(root)
            assert zygote.run(root=root, fault=fault, point=first) == -9
            assert zygote.run(root=root, recover=True, fault=fault, point=second) == -9, (first, second)
            assert zygote.run(root=root, recover=True) == 0, (first, second)
            assert check_whole(root, f"{first}, then {second}") in {"old", "new"}
            deaths += 1
    assert deaths > 20


def test_recovery_that_cannot_confirm_the_new_one_puts_the_old_one_back(tmp_path: Path, zygote: Zygote) -> None:
    lay_out(tmp_path)
    assert zygote.run(root=tmp_path, point="swap.journal.swapped") == -9
    assert live_pair(tmp_path) == ("new", "new")
    assert zygote.run(root=tmp_path, recover=True, fault="confirm") == 0
    assert check_whole(tmp_path, "put back") == "old"
