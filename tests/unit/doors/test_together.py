"""What many ask at the same time is asked once; what is answered was read after it was asked; nobody takes another's
answer along."""

from __future__ import annotations

import asyncio

import pytest

from certctl.core.errors import Temporary
from certctl.doors import together
from certctl.doors.together import Together


class Shelf:
    """Answers when told; remembers what it was asked."""

    def __init__(self):
        self.asked: list[list[str]] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None
        self.holds = {"a": 1, "b": 2}

    async def ask(self, keys):
        self.asked.append(sorted(keys))
        read = dict(self.holds)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return {key: read[key] for key in keys if key in read}


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_asks_while_a_statement_is_out_is_answered_by_the_next_one():
    shelf = Shelf()
    door = Together("test", shelf.ask)
    first = asyncio.create_task(door.find("a"))
    await turns()
    assert shelf.asked == [["a"]]
    # the same question again, after the first was read: it must see what is there now
    later = [asyncio.create_task(door.find(key)) for key in ("a", "b", "c", "a")]
    await turns()
    assert shelf.asked == [["a"]], "one at a time"
    shelf.holds["a"] = 9
    shelf.gate.set()
    assert await first == 1
    assert await asyncio.gather(*later) == [9, 2, None, 9]
    assert shelf.asked == [["a"], ["a", "b", "c"]]


async def test_an_error_is_told_to_all_who_asked_with_it_and_to_nobody_else():
    shelf = Shelf()
    door = Together("test", shelf.ask)
    first = asyncio.create_task(door.find("a"))
    await turns()
    second = asyncio.create_task(door.find("b"))
    await turns()
    shelf.error = Temporary("away")
    shelf.gate.set()
    with pytest.raises(Temporary, match="away"):
        await first
    with pytest.raises(Temporary, match="away"):
        await second
    shelf.error = None
    assert await door.find("b") == 2


async def test_who_goes_away_takes_nobody_along():
    shelf = Shelf()
    door = Together("test", shelf.ask)
    both = [asyncio.create_task(door.find("a")) for _ in range(2)]
    await turns()
    both[0].cancel()
    await turns()
    shelf.gate.set()
    assert await both[1] == 1
    assert both[0].cancelled()


async def test_a_queue_is_refused_with_a_moment_of_ones_own(monkeypatch):
    monkeypatch.setattr(together, "MOST_WAITING", 3)
    shelf = Shelf()
    door = Together("test", shelf.ask, most_at_once=2)
    door.refuse_a_queue()
    asking = [asyncio.create_task(door.find(str(number))) for number in range(5)]
    await turns()
    assert [len(keys) for keys in shelf.asked] == [2]
    door._took = 40.0
    told = []
    for _ in range(50):
        with pytest.raises(Temporary) as refused:
            door.refuse_a_queue()
        told.append(refused.value.retry_after.total_seconds())
    # three wait, two go at once, each in 40 s: all come again within a minute of their own
    assert all(1 <= each <= 61 for each in told)
    assert len(set(told)) > 10
    shelf.gate.set()
    await asyncio.gather(*asking)
    assert [len(keys) for keys in shelf.asked] == [2, 2, 1]
    door.refuse_a_queue()
