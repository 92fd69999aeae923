"""The group swap in one process: its failures, its locks, and journals that cannot be believed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certctl.connectors.host import swap as swap_module
from certctl.connectors.host.group import Group
from certctl.connectors.host.journal import Journal, JournalIsCorrupt, Journals
from certctl.connectors.host.swap import recover, swap
from certctl.core.errors import Misconfigured, Rejected, Temporary
from certctl.telemetry import points
from peers.swap_story import PretendedServer, Story, allow_of, lay_out, live_pair, order_of


class Stop(BaseException):
    """Stands for a pulled plug: nothing of ours catches it."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    lay_out(tmp_path)
    return tmp_path


def leftovers(root: Path) -> set[str]:
    return {path.name for path in (root / "tls").iterdir()} - {"key", "cert"}


async def stopped_at(point: str, root: Path, monkeypatch: pytest.MonkeyPatch, fault: str = "") -> Journals:
    def hook(name: str) -> None:
        if name == point:
            raise Stop(name)

    journals = Journals(root / "state")
    monkeypatch.setattr(points, "hook", hook)
    with pytest.raises(Stop):
        await swap(order_of(root), PretendedServer(root, fault), journals, allow_of(root))
    monkeypatch.setattr(points, "hook", None)
    return journals


async def test_swaps_and_leaves_nothing(root: Path) -> None:
    server, journals = PretendedServer(root), Journals(root / "state")
    assert await swap(order_of(root), server, journals, allow_of(root)) == "new"
    assert server.calls == ["validate", "activate", "confirm"]
    assert live_pair(root) == ("new", "new")
    assert not leftovers(root)
    assert journals.open() == ()
    assert (root / "tls/key").stat().st_mode & 0o777 == 0o600
    assert (root / "tls/cert").stat().st_mode & 0o777 == 0o644


async def test_refused_by_validation_touches_nothing(root: Path) -> None:
    inode = (root / "tls/key").stat().st_ino
    server, journals = PretendedServer(root, "validate"), Journals(root / "state")
    with pytest.raises(Rejected, match="would not take"):
        await swap(order_of(root), server, journals, allow_of(root))
    assert server.calls == ["validate"]
    assert (root / "tls/key").stat().st_ino == inode
    assert not leftovers(root)
    assert journals.open() == ()


@pytest.mark.parametrize("fault", ["activate", "confirm"])
async def test_a_failure_afterwards_puts_the_old_pair_back(root: Path, fault: str) -> None:
    (root / "tls/key").chmod(0o640)
    server, journals = PretendedServer(root, fault), Journals(root / "state")
    with pytest.raises(Rejected, match="the old files are back and old is served again"):
        await swap(order_of(root), server, journals, allow_of(root))
    assert live_pair(root) == ("old", "old")
    assert server.served == "old"
    assert (root / "tls/key").stat().st_mode & 0o777 == 0o640
    assert not leftovers(root)
    assert journals.open() == ()


async def test_a_roll_back_that_is_not_seen_says_so(root: Path) -> None:
    (root / "served").write_text("stranger")

    class Deaf(PretendedServer):
        async def activate(self) -> None:
            raise Rejected("reload failed")

    with pytest.raises(Rejected, match=r"reload failed; the old files are back, but the server was not told"):
        await swap(order_of(root), Deaf(root), Journals(root / "state"), allow_of(root))
    assert live_pair(root) == ("old", "old")


async def test_a_bug_in_a_callback_rolls_back_too(root: Path) -> None:
    class Broken(PretendedServer):
        async def confirm(self, expected: tuple[str, ...]) -> str:
            if expected == ("new",):
                raise ZeroDivisionError
            return await super().confirm(expected)

    with pytest.raises(ZeroDivisionError):
        await swap(order_of(root), Broken(root), Journals(root / "state"), allow_of(root))
    assert live_pair(root) == ("old", "old")


async def test_old_files_that_are_not_there_are_removed_again(tmp_path: Path) -> None:
    lay_out(tmp_path, old=False)
    with pytest.raises(Rejected):
        await swap(
            order_of(tmp_path, old=False),
            PretendedServer(tmp_path, "confirm"),
            Journals(tmp_path / "s"),
            allow_of(tmp_path),
        )
    assert list((tmp_path / "tls").iterdir()) == []


async def test_where_links_are_impossible_the_old_file_is_copied(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    (root / "tls/key").chmod(0o400)
    with pytest.raises(Rejected, match="is served again"):
        await swap(order_of(root), PretendedServer(root, "confirm"), Journals(root / "state"), allow_of(root))
    assert live_pair(root) == ("old", "old")
    assert (root / "tls/key").stat().st_mode & 0o777 == 0o400


async def test_two_swaps_of_the_same_files_take_turns(root: Path) -> None:
    running = 0

    class Slow(PretendedServer):
        async def confirm(self, expected: tuple[str, ...]) -> str:
            nonlocal running
            running += 1
            assert running == 1
            await asyncio.sleep(0.02)
            running -= 1
            return await super().confirm(expected)

    journals = Journals(root / "state")
    orders = [order_of(root, f"dep-{number}", f"name{number}") for number in range(5)]
    seen = await asyncio.gather(*(swap(order, Slow(root), journals, allow_of(root)) for order in orders))
    assert sorted(seen) == [f"name{number}" for number in range(5)]
    assert live_pair(root)[0] == live_pair(root)[1]
    assert not leftovers(root)


async def test_held_folders_are_given_up_in_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap_module, "LOCK_SECONDS", 0.05)
    with Group.open([root / "tls/key"], allow_of(root)) as holder:
        async with swap_module._locked(holder):
            with pytest.raises(Temporary, match="another deployment holds"):
                await swap(order_of(root), PretendedServer(root), Journals(root / "state"), allow_of(root))


async def test_cancelled_in_the_middle_it_is_settled_later(root: Path) -> None:
    class Waiting(PretendedServer):
        async def confirm(self, expected: tuple[str, ...]) -> str:
            await asyncio.sleep(60)
            raise AssertionError

    journals = Journals(root / "state")
    task = asyncio.create_task(swap(order_of(root), Waiting(root), journals, allow_of(root)))
    while live_pair(root) != ("new", "new") or (root / "served").read_text() != "new":
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await recover(journals, allow_of(root), Story(root)) == (
        "plan dep-1: finished: the new files are in place and served",
    )
    assert live_pair(root) == ("new", "new")
    assert not leftovers(root)


async def test_an_unsettled_swap_stops_the_next(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journals = await stopped_at("swap.journal.swapped", root, monkeypatch)
    with pytest.raises(Temporary, match="dep-1 of the same files must be settled first"):
        await swap(order_of(root, "dep-2", "newer"), PretendedServer(root), journals, allow_of(root))
    assert live_pair(root) == ("new", "new")


async def test_crashed_before_the_reload_the_server_is_told_in_recovery(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals = await stopped_at("swap.journal.swapped", root, monkeypatch)
    assert (root / "served").read_text() == "old"
    await recover(journals, allow_of(root), Story(root))
    assert (root / "served").read_text() == "new"


async def test_a_lost_new_file_puts_the_old_ones_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journals = await stopped_at("swap.renamed:0", root, monkeypatch)
    assert live_pair(root) == ("new", "old")
    (root / "tls/.certctl-dep-1-1.new").write_text("cert:torn")
    (sentence,) = await recover(journals, allow_of(root), Story(root))
    assert "put back" in sentence
    assert live_pair(root) == ("old", "old")
    assert not leftovers(root)


async def test_files_somebody_else_replaced_are_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journals = await stopped_at("swap.journal.swapped", root, monkeypatch)
    (root / "tls/key").write_text("key:theirs")
    with pytest.raises(Misconfigured, match="changed by somebody else"):
        await recover(journals, allow_of(root), Story(root))
    assert live_pair(root) == ("theirs", "new")
    (root / "tls/cert").write_text("cert:theirs")
    (sentence,) = await recover(journals, allow_of(root), Story(root))
    assert "left alone" in sentence
    assert live_pair(root) == ("theirs", "theirs")
    assert not leftovers(root)


@pytest.mark.parametrize("damage", ["truncate", "garbage", "empty"])
async def test_a_damaged_journal_over_a_whole_pair_is_settled_by_looking(
    root: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    journals = await stopped_at("swap.journal.swapped", root, monkeypatch)
    path = journals.path("dep-1")
    text = path.read_bytes()
    path.write_bytes({"truncate": text[:-5], "garbage": b"\xff" * 40, "empty": b""}[damage])
    (sentence,) = await recover(journals, allow_of(root), Story(root))
    assert "damaged" in sentence
    assert (root / "served").read_text() == "new"
    assert not leftovers(root)
    assert journals.open() == ()


async def test_a_damaged_journal_over_half_a_pair_is_refused_and_nothing_touched(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals = await stopped_at("swap.renamed:0", root, monkeypatch)
    journals.path("dep-1").write_bytes(b"{")
    before = {path.name: path.read_bytes() for path in (root / "tls").iterdir()}
    with pytest.raises(JournalIsCorrupt, match="do not belong together"):
        await recover(journals, allow_of(root), Story(root))
    assert {path.name: path.read_bytes() for path in (root / "tls").iterdir()} == before
    with pytest.raises(JournalIsCorrupt):
        await swap(order_of(root, "dep-2"), PretendedServer(root), journals, allow_of(root))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(cut=st.integers(0, 400), flip=st.integers(0, 400))
def test_no_damage_to_a_journal_is_believed(tmp_path: Path, cut: int, flip: int) -> None:
    journals = Journals(tmp_path / "journals")
    journals.write(Journal(plan_id="dep-1", state="swapped", files=(), expect_new="a" * 64))
    path = journals.path("dep-1")
    whole = path.read_bytes()
    damaged = bytearray(whole[: len(whole) - cut % len(whole)])
    if damaged:
        damaged[flip % len(damaged)] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(JournalIsCorrupt):
        journals.read("dep-1")


def test_a_plan_id_never_leaves_the_journal_folder(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        Journals(tmp_path / "j").path("../../etc/passwd")


def test_the_journal_folder_is_private(tmp_path: Path) -> None:
    (tmp_path / "j").mkdir(mode=0o755)
    Journals(tmp_path / "j")
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o700


async def test_a_roll_back_once_begun_is_finished_and_not_turned_round(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals = await stopped_at("swap.journal.rolling_back", root, monkeypatch, "confirm")
    assert live_pair(root) == ("new", "new")
    (sentence,) = await recover(journals, allow_of(root), Story(root))
    assert "put back" in sentence
    assert live_pair(root) == ("old", "old")
    assert (root / "served").read_text() == "old"
