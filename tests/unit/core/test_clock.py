"""A clock that was told another machine's time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from certctl.core import clock as clocks
from certctl.core.clock import ToldClock, steady_seconds


def test_before_it_is_told_it_is_the_machines_own():
    assert abs(ToldClock().now() - datetime.now(UTC)) < timedelta(seconds=5)


def test_it_counts_on_steadily_from_what_it_was_told(monkeypatch):
    told = ToldClock()
    there = datetime(2031, 1, 1, tzinfo=UTC)
    told.tell(there, 100.0)
    for later in (100.0, 101.5, 7300.0):
        monkeypatch.setattr(clocks, "steady_seconds", lambda later=later: later)
        assert told.now() == there + timedelta(seconds=later - 100)
    told.tell(there, 7300.0)
    assert told.now() == there, "what it was told last counts"


def test_it_knows_how_wrong_its_own_machine_is():
    told = ToldClock()
    assert told.own_error() < timedelta(seconds=1)
    told.tell(datetime.now(UTC) - timedelta(hours=2), steady_seconds())
    assert timedelta(minutes=119) < told.own_error() < timedelta(minutes=121)
