"""Counts are kept a moment where making them is slow, made at once where it is quick, and never shown to another scope."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from certctl.core.scope import Reach, Scope
from certctl.doors import counted
from certctl.doors.counted import Counted

WHOLE = (Scope.whole("t-default"), "en")
MINE = (Scope.union("t-default", (Reach(teams=("mine",)),)), "en")


@pytest.fixture
def ctx():
    clock = SimpleNamespace(moment=datetime(2026, 11, 26, tzinfo=UTC))
    return SimpleNamespace(now=lambda: clock.moment, clock=clock)


def counter():
    made = []

    async def make():
        made.append(len(made) + 1)
        return made[-1]

    return make


async def test_what_is_quick_is_made_anew_after_a_second(ctx):
    kept, make = Counted(), counter()
    assert (await kept.of(ctx, WHOLE, make))[0].value == 1
    assert (await kept.of(ctx, WHOLE, make))[0].value == 1
    ctx.clock.moment += timedelta(seconds=1)
    shown, again = await kept.of(ctx, WHOLE, make)
    assert (shown.value, again) == (2, None)


async def test_what_is_slow_is_shown_as_it_was_and_made_anew_afterwards(ctx, monkeypatch):
    monkeypatch.setattr(counted, "QUICK_SECONDS", -1.0)
    kept, make = Counted(), counter()
    await kept.of(ctx, WHOLE, make)
    first = ctx.clock.moment
    ctx.clock.moment += timedelta(seconds=30)
    shown, again = await kept.of(ctx, WHOLE, make)
    assert (shown.value, shown.as_of) == (1, first)
    await again()
    assert (await kept.of(ctx, WHOLE, make))[0].value == 2
    ctx.clock.moment += counted.OLDEST
    assert (await kept.of(ctx, WHOLE, make))[0].value == 3, "what is too old is waited for"
    ctx.clock.moment -= timedelta(hours=1)
    assert (await kept.of(ctx, WHOLE, make))[0].value == 4, "a clock that was set back keeps nothing alive"


async def test_many_wait_for_one_who_counts_and_another_scope_counts_for_itself(ctx):
    kept, make, gate = Counted(), counter(), asyncio.Event()

    async def slowly():
        await gate.wait()
        return await make()

    waiting = [asyncio.create_task(kept.of(ctx, WHOLE, slowly)) for _ in range(5)]
    other = asyncio.create_task(kept.of(ctx, MINE, make))
    assert (await other)[0].value == 1
    gate.set()
    assert {shown.value for shown, _again in await asyncio.gather(*waiting)} == {2}
    assert (await kept.of(ctx, MINE, make))[0].value == 1


async def test_what_fails_is_told_and_tried_again(ctx):
    kept, make = Counted(), counter()

    async def fails():
        raise RuntimeError("no database")

    with pytest.raises(RuntimeError):
        await kept.of(ctx, WHOLE, fails)
    assert (await kept.of(ctx, WHOLE, make))[0].value == 1


async def test_who_has_no_time_is_not_kept_waiting_by_the_first_count_nor_by_one_that_is_old(ctx, monkeypatch):
    monkeypatch.setattr(counted, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(counted, "QUICK_SECONDS", -1.0)
    kept, make, gate = Counted(), counter(), asyncio.Event()

    async def slowly():
        await gate.wait()
        return await make()

    shown, rest = await kept.soon(ctx, WHOLE, slowly)
    assert shown is None
    other, _ = await kept.soon(ctx, WHOLE, slowly)
    assert other is None
    gate.set()
    await rest()
    known, _ = await kept.soon(ctx, WHOLE, slowly)
    assert known.value in {1, 2}
    gate.clear()
    ctx.clock.moment += counted.OLDEST
    old, rest = await kept.soon(ctx, WHOLE, slowly)
    assert (old.value, old.as_of) == (known.value, known.as_of), "shown with its time rather than waited for"
    gate.set()
    await rest()
    assert (await kept.soon(ctx, WHOLE, slowly))[0].as_of == ctx.clock.moment


async def test_a_first_count_that_fails_is_told_to_who_waits_and_tried_again(ctx, monkeypatch):
    monkeypatch.setattr(counted, "PATIENCE_SECONDS", 60)
    kept, make = Counted(), counter()

    async def fails():
        raise RuntimeError("no database")

    with pytest.raises(RuntimeError):
        await kept.soon(ctx, WHOLE, fails)
    assert (await kept.soon(ctx, WHOLE, make))[0].value == 1


async def test_what_was_counted_ahead_is_there_for_the_first_who_asks(ctx):
    kept, make = Counted(), counter()
    await kept.ahead(ctx, WHOLE, make)
    await kept.ahead(ctx, WHOLE, make)
    shown, rest = await kept.soon(ctx, WHOLE, make)
    assert (shown.value, rest) == (1, None)
    assert (await kept.soon(ctx, MINE, make))[0].value == 2, "for its own scope alone"


async def test_an_older_count_is_shown_sooner_than_none(ctx, monkeypatch):
    monkeypatch.setattr(counted, "PATIENCE_SECONDS", 60)
    monkeypatch.setattr(counted, "SHORT_PATIENCE_SECONDS", 0)
    monkeypatch.setattr(counted, "QUICK_SECONDS", -1.0)
    kept, make, gate = Counted(), counter(), asyncio.Event()
    await kept.ahead(ctx, WHOLE, make)
    first = ctx.clock.moment

    async def slowly():
        await gate.wait()
        return await make()

    ctx.clock.moment += counted.OLDEST
    shown, rest = await kept.soon(ctx, WHOLE, slowly)
    assert (shown.value, shown.as_of) == (1, first)
    gate.set()
    await rest()
    assert (await kept.soon(ctx, WHOLE, slowly))[0].value == 2


async def test_what_is_counted_ahead_already_is_not_waited_for_long(ctx, monkeypatch):
    monkeypatch.setattr(counted, "PATIENCE_SECONDS", 60)
    monkeypatch.setattr(counted, "SHORT_PATIENCE_SECONDS", 0)
    kept, make, gate, begun = Counted(), counter(), asyncio.Event(), asyncio.Event()

    async def slowly():
        begun.set()
        await gate.wait()
        return await make()

    ahead = asyncio.create_task(kept.ahead(ctx, WHOLE, slowly))
    await begun.wait()
    shown, rest = await kept.soon(ctx, WHOLE, slowly)
    assert shown is None, "said to be under way rather than waited for"
    gate.set()
    await rest()
    await ahead
    assert (await kept.soon(ctx, WHOLE, slowly))[0].value == 1, "counted once"
