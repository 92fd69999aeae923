"""Totals of several questions, and summaries: what takes long is remembered for a moment, and nobody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from certctl.core.scope import Scope
from certctl.doors import summaries
from certctl.doors.summaries import Summaries
from certctl.doors.totals import KEPT_FROM, OLDEST, Totals
from certctl.store import stats
from certctl.store.listings import CERTIFICATES
from certctl.store.lists import Asked, Total
from certctl.store.stats import Summary

WHOLE = Scope.whole("t-default")
ASKED = {status: Asked(filters={"status": (status,)}) for status in ("Active", "Failed", "Pending")}


@pytest.fixture
def clock():
    told = SimpleNamespace(moment=datetime(2026, 11, 27, tzinfo=UTC))
    told.now = lambda: told.moment
    return told


async def test_of_several_totals_the_long_ones_are_remembered_and_the_short_ones_counted(clock):
    totals, counted = Totals(clock), []
    numbers = {"Active": KEPT_FROM, "Failed": KEPT_FROM - 1, "Pending": 0}

    async def count(among):
        counted.append(tuple(among))
        return {status: Total(numbers[status]) for status in among}

    first = await totals.of_each(WHOLE, CERTIFICATES, ASKED, count)
    assert {status: total.number for status, total in first.items()} == numbers
    numbers |= {"Active": 5000, "Failed": 7}
    second = await totals.of_each(WHOLE, CERTIFICATES, ASKED, count)
    assert {status: total.number for status, total in second.items()} == numbers | {"Active": KEPT_FROM}
    other = await totals.of_each(Scope.whole("t-other"), CERTIFICATES, ASKED, count)
    assert other["Active"].number == 5000
    clock.moment += OLDEST
    assert (await totals.of_each(WHOLE, CERTIFICATES, ASKED, count))["Active"].number == 5000
    assert counted == [tuple(ASKED), ("Failed", "Pending"), tuple(ASKED), tuple(ASKED)]


async def test_nobody_waits_for_a_count_that_took_longer_than_they_would(clock, monkeypatch):
    seconds = iter((0.0, 100.0))
    go_on = asyncio.Event()
    made = Summary(**dict.fromkeys(Summary.__struct_fields__, 0) | {"as_of": clock.moment})

    @contextlib.asynccontextmanager
    async def read():
        yield None

    async def at_once(_tx, _scope, now):
        return replace(made, as_of=now)

    async def never(tx, scope, now):
        await go_on.wait()
        return await at_once(tx, scope, now)

    ctx = SimpleNamespace(now=clock.now, database=SimpleNamespace(read=read))
    monkeypatch.setattr(stats, "summary", at_once)
    monkeypatch.setattr(summaries, "time", SimpleNamespace(monotonic=lambda: next(seconds, 200.0)))
    monkeypatch.setattr(summaries, "PATIENCE_SECONDS", 60)
    kept = Summaries()
    first = await kept.of(ctx, WHOLE)
    monkeypatch.setattr(stats, "summary", never)
    clock.moment += timedelta(seconds=1.5)
    assert await asyncio.wait_for(kept.of(ctx, WHOLE), 30) is first
    go_on.set()
    clock.moment += timedelta(seconds=0.5)
    assert (await asyncio.wait_for(kept.of(ctx, WHOLE), 30)).as_of >= first.as_of + timedelta(seconds=1.5)
