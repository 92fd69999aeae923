"""The forecast against a plain count of each certificate by itself, and what must hold for any fleet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.policy import forecast
from certctl.policy.forecast import HOUR, PUBLIC_LIMITS, Budget, Cohort, Collision
from certctl.policy.renewal import SPREAD, window_of

NOW = datetime(2026, 11, 26, tzinfo=UTC)
DAY = timedelta(days=1)


def cohort(**given) -> Cohort:
    return Cohort(
        **({"issuer_id": "iss-a", "limited": True, "life": 90 * DAY, "ends_at": NOW + 80 * DAY, "count": 1} | given)
    )


def one_by_one(found: Cohort, hours: int) -> list[float]:
    """Each certificate's renewals, counted as it would live, without spread."""
    renewals = [0.0] * hours
    life, ends_at = found.life, found.ends_at
    window = window_of(found.window_days, found.window_fraction, life)
    at = round(max((ends_at - window - NOW) / HOUR, 0.0))
    while at < hours:
        renewals[at] += found.count
        allowed = [one.longest for one in PUBLIC_LIMITS if one.since <= NOW + at * HOUR]
        life = min([found.life, *allowed]) if found.limited else found.life
        at = round(at + (life - window_of(found.window_days, found.window_fraction, life)) / HOUR)
    return renewals


LIVES = st.one_of(st.integers(3, 48).map(lambda hours: hours * HOUR), st.integers(3, 398).map(lambda days: days * DAY))
COHORTS = st.builds(
    cohort,
    issuer_id=st.sampled_from(("iss-a", "iss-b")),
    limited=st.booleans(),
    life=LIVES,
    ends_at=st.integers(0, 24 * 398).map(lambda hours: NOW + hours * HOUR),
    count=st.integers(1, 10_000),
    window_days=st.one_of(st.none(), st.integers(1, 60)),
)


@settings(max_examples=40)
@given(st.lists(COHORTS, max_size=4))
def test_without_spread_it_is_what_each_certificate_does(cohorts):
    hours = 24 * 400
    found = forecast.forecast(cohorts, NOW, hours, spread=False)
    for issuer in {one.issuer_id for one in cohorts}:
        wanted = [one_by_one(one, hours) for one in cohorts if one.issuer_id == issuer]
        assert found[issuer] == pytest.approx([sum(each) for each in zip(*wanted, strict=True)], abs=0.01)
    assert set(found) == {one.issuer_id for one in cohorts}


@settings(max_examples=40)
@given(COHORTS)
def test_the_spread_loses_and_doubles_nobody_and_only_lowers_peaks(found):
    hours = 24 * 450
    calm, herd = (forecast.forecast([found], NOW, hours, spread=spread)[found.issuer_id] for spread in (True, False))
    assert min(calm) >= 0.0
    assert max(calm) <= max(herd) + 0.01
    window = window_of(found.window_days, found.window_fraction, found.life)
    begins = round(max((found.ends_at - window - NOW) / HOUR, 0.0))
    spread_over = max(round(window * SPREAD / HOUR), 1)
    assert sum(calm[:begins]) == 0.0
    # everyone has come once when the spread is over, and none twice before a life's time has gone by
    assert sum(calm[: begins + spread_over]) >= found.count - 0.01
    if not found.limited and (turn := int((found.life - window) / HOUR)) > spread_over:
        assert sum(calm[: begins + turn]) == pytest.approx(found.count, abs=0.01)


def test_the_limits_of_public_trust_multiply_renewals():
    year = 24 * 365
    found = forecast.forecast([cohort(life=398 * DAY, ends_at=NOW + 200 * DAY, count=1000)], NOW, year * 4, spread=True)
    by_year = [round(sum(found["iss-a"][at : at + year]) / 1000) for at in range(0, year * 4, year)]
    # 398 days are over; 100 days from March 2027 on, 47 from March 2029 on, each renewed when a third is left
    assert by_year == [4, 5, 9, 11]
    own = forecast.forecast([cohort(life=398 * DAY, limited=False, count=1000)], NOW, year * 4, spread=True)
    assert round(sum(own["iss-a"]) / 1000) == 6


def test_lives_of_minutes_are_a_steady_stream():
    found = forecast.forecast([cohort(life=HOUR, limited=False, ends_at=NOW + HOUR, count=6)], NOW, 48, spread=True)
    assert found["iss-a"][10:] == pytest.approx([9.0] * 38)  # forty minutes each


def test_budgets_are_windows_that_slide():
    assert forecast.collisions([0, 5, 5, 0, 0, 1], Budget(9, 2)) == Collision(1, 2, 1, 1)
    assert forecast.collisions([0, 5, 5, 0, 0, 1], Budget(10, 2)) == Collision(0, -1, 0, 0)
    assert forecast.collisions([4, 4, 4, 4, 0, 0], Budget(6, 3)) == Collision(5, 1, 6, -1)
    assert forecast.collisions([9, 0, 0, 0, 0, 0], Budget(3, 2)) == Collision(4, 0, 6, 4)


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 60), st.integers(1, 10))
def test_within_a_budget_nobody_overtakes_and_no_window_is_above_it(renewals, orders, hours):
    """Against a plain queue, served one by one."""
    queue, served, waits, over = [], [], [], []
    for hour, due in enumerate(renewals):
        queue += [hour] * due
        free = max(orders - sum(served[max(hour - hours + 1, 0) :]), 0)
        now, queue = queue[:free], queue[free:]
        served.append(len(now))
        waits += [hour - came for came in now]
        over += [len(queue)] if queue else []
    found = forecast.collisions(renewals, Budget(orders, hours))
    assert found.hours_over == len(over)
    assert found.most_waiting == max(over, default=0)
    assert found.longest_wait == (-1 if queue else max(waits, default=0))


def test_an_empty_fleet_renews_nothing():
    assert forecast.forecast([], NOW, 100, spread=True) == {}
