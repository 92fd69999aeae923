"""Windows and freezes: the first good moment is the first, and is good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import Malformed
from certctl.policy.calendar import DAYS, Calendar, Freeze, Window, read_calendar

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
HOUR = timedelta(hours=1)
NIGHT = {"days": ["sat", "sun"], "start": "22:00", "end": "04:00"}
YEAR_END = {"name": "year end", "starts_at": "2026-12-18T00:00:00Z", "ends_at": "2027-01-04T05:00:00Z"}


def test_a_window_over_midnight():
    calendar = read_calendar([NIGHT], [])
    saturday = MONDAY + timedelta(days=5)
    morning = MONDAY + 5 * HOUR
    assert calendar.opens_at(morning) == saturday + 22 * HOUR
    assert calendar.held_by(morning) == "the renewal windows"
    for inside in (saturday + 22 * HOUR, saturday + 27 * HOUR, saturday + 51 * HOUR):
        assert (calendar.opens_at(inside), calendar.held_by(inside)) == (inside, "")
    assert calendar.opens_at(saturday + 28 * HOUR) == saturday + 46 * HOUR


def test_a_freeze_ends_into_the_next_window():
    calendar = read_calendar([NIGHT], [YEAR_END])
    within = datetime(2026, 12, 26, 23, tzinfo=UTC)
    assert calendar.held_by(within) == "freeze year end"
    assert calendar.opens_at(within) == datetime(2027, 1, 9, 22, tzinfo=UTC)
    assert read_calendar([], [YEAR_END]).opens_at(within) == datetime(2027, 1, 4, 5, tzinfo=UTC)
    assert read_calendar([], []).opens_at(within) == within


_MINUTES = st.integers(0, 14 * 24 * 60).map(lambda minutes: MONDAY + timedelta(minutes=minutes))
_HOURS = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
_WINDOWS = st.lists(
    st.builds(Window, days=st.lists(st.sampled_from(DAYS), min_size=1), start=_HOURS, end=_HOURS), max_size=3
)
_FREEZES = st.lists(
    st.builds(
        lambda start, length: Freeze(name="f", starts_at=start, ends_at=start + timedelta(minutes=length)),
        _MINUTES,
        st.integers(1, 5000),
    ),
    max_size=4,
)


@given(_WINDOWS, _FREEZES, _MINUTES)
def test_the_first_good_moment_is_good_and_the_first(windows, freezes, now):
    calendar = Calendar(tuple(windows), tuple(freezes))
    opens = calendar.opens_at(now)
    assert opens >= now
    assert calendar.held_by(opens) == ""
    step = max((opens - now) / 200, timedelta(minutes=1))
    moment = now
    while moment < opens:
        assert calendar.held_by(moment)
        moment += step


@pytest.mark.parametrize(
    ("windows", "freezes", "field"),
    [
        ([{"days": ["someday"]}], [], "renewal_windows[0]"),
        ([{"days": []}], [], "renewal_windows[0]"),
        ([NIGHT, {"days": ["mon"], "start": "24:00"}], [], "renewal_windows[1].start"),
        ([{"days": ["mon"], "start": "7:00"}], [], "renewal_windows[0].start"),
        ([{"days": ["mon"], "zone": "UTC"}], [], "renewal_windows[0]"),
        ([], [YEAR_END | {"ends_at": "2026-12-18T00:00:00Z"}], "freezes[0]"),
        ([], [YEAR_END | {"ends_at": "2027-12-18T00:00:00"}], "freezes[0]"),
        ([], [YEAR_END | {"ends_at": "soon"}], "freezes[0]"),
        ([], [{"name": "x"}], "freezes[0]"),
        ([], [YEAR_END] * 201, "freezes"),
    ],
)
def test_what_could_never_be_kept_is_refused(windows, freezes, field):
    with pytest.raises(Malformed) as refused:
        read_calendar(windows, freezes)
    assert refused.value.violations[0].field == field
