"""Renewal is due in time for lives from minutes to years, never at once again, and never gives up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.core.status import CertificateStatus as C
from certctl.policy.renewal import (
    Assessment,
    Decision,
    RenewalFacts,
    RenewalPolicyFacts,
    assess,
    expiring_at,
    renew_at,
    retry_at,
)

BORN = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LIVES = st.timedeltas(10 * MINUTE, 3650 * DAY)
POLICIES = st.builds(
    RenewalPolicyFacts,
    window_days=st.none() | st.integers(-1, 4000),
    window_fraction=st.none() | st.floats(-1, 2, allow_nan=False),
    max_retries=st.integers(0, 10),
    retry_interval=st.timedeltas(MINUTE, DAY),
)
IDS = st.uuids().map(lambda one: f"certver-{one}")


def facts_of(life: timedelta, at: timedelta = timedelta(0), **changes: Any) -> RenewalFacts:
    blank: dict[str, Any] = {
        "version_id": "certver-1",
        "not_before": BORN,
        "not_after": BORN + life,
        "policy": RenewalPolicyFacts(),
        "failures": 0,
        "last_failure_at": None,
        "live_job": False,
        "status": C.ACTIVE,
        "now": BORN + at,
    }
    return RenewalFacts(**blank | changes)


def later(facts: RenewalFacts, now: datetime) -> Assessment:
    return assess(msgspec.structs.replace(facts, now=now))


@st.composite
def any_facts(draw: st.DrawFn) -> RenewalFacts:
    life = draw(LIVES)
    now = draw(st.timedeltas(timedelta(0), life * 1.2))
    failures = draw(st.integers(0, 40))
    failed = BORN + draw(st.timedeltas(timedelta(0), now)) if failures else None
    policy = msgspec.structs.replace(draw(POLICIES), auto_renew=draw(st.booleans()))
    return facts_of(
        life,
        now,
        version_id=draw(IDS),
        policy=policy,
        failures=failures,
        last_failure_at=failed,
        live_job=draw(st.booleans()),
        status=draw(st.sampled_from(list(C))),
    )


@given(LIVES, POLICIES, IDS)
@settings(max_examples=400)
def test_every_life_renews_in_time_and_none_at_once(
    life: timedelta, policy: RenewalPolicyFacts, version_id: str
) -> None:
    facts = facts_of(life, policy=policy, version_id=version_id)
    fresh = assess(facts)
    assert (fresh.decision, fresh.status) == (Decision.WAIT, C.ACTIVE)
    due = renew_at(facts)
    assert later(facts, due).decision == "renew"
    assert later(facts, due - timedelta(microseconds=1)).decision == "wait"
    assert due >= BORN + life * 0.33
    wished = timedelta(days=policy.window_days) if policy.window_days is not None else life * (policy.window_fraction if policy.window_fraction is not None else 1 / 3)  # fmt: skip
    margin = min(max(wished, timedelta(0)), life / 3) * 0.89 if wished > timedelta(0) else life * 0.29
    assert facts.not_after - due >= margin


@pytest.mark.parametrize("life", [HOUR, 6 * DAY, 47 * DAY, 90 * DAY, 398 * DAY], ids=str)
@pytest.mark.parametrize("policy", [RenewalPolicyFacts(), RenewalPolicyFacts(window_days=30), RenewalPolicyFacts(window_fraction=0.9)], ids=["third", "30d", "0.9"])  # fmt: skip
def test_a_whole_life_walked_by_next_check_at(life: timedelta, policy: RenewalPolicyFacts) -> None:
    facts = facts_of(life, policy=policy)
    looks = 0
    while (verdict := assess(facts)).decision == Decision.WAIT:
        assert verdict.next_check_at is not None
        facts = msgspec.structs.replace(facts, now=verdict.next_check_at)
        looks += 1
    assert looks <= 2, "nobody is looked at for nothing"
    assert verdict.reason == "window_has_begun"
    left = facts.not_after - facts.now
    wished = 30 * DAY if policy.window_days and life > 45 * DAY else life / 3
    assert 0.9 * wished <= left <= wished


@given(any_facts())
@settings(max_examples=600)
def test_next_check_is_ahead_and_nothing_changes_before_it(facts: RenewalFacts) -> None:
    verdict = assess(facts)
    again = verdict.next_check_at
    if verdict.decision == Decision.WAIT:
        assert again is not None
    if again is None:
        assert later(facts, facts.now + 4000 * DAY) == verdict
        return
    assert again > facts.now
    for part in (0.0, 0.3, 0.7, 0.999):
        now = min(facts.now + (again - facts.now) * part, again - timedelta(microseconds=1))
        between = later(facts, now)
        assert (between.decision, between.status) == (verdict.decision, verdict.status)
    then = later(facts, again)
    if not facts.live_job:
        assert (then.decision, then.status) != (verdict.decision, verdict.status)


@given(LIVES, POLICIES, st.integers(1, 30), st.floats(0, 0.95))
@settings(max_examples=400)
def test_after_a_failure_at_least_four_more_tries_fit(
    life: timedelta, policy: RenewalPolicyFacts, failures: int, part: float
) -> None:
    facts = facts_of(life, policy=policy)
    due = renew_at(facts)
    failed = due + (facts.not_after - due) * part
    tries = 0
    while tries < 4:
        facts = msgspec.structs.replace(facts, now=failed, failures=failures + tries, last_failure_at=failed)
        again = retry_at(facts)
        assert again is not None
        wait = again - failed
        assert min(MINUTE, life / 121) <= wait <= DAY
        assert assess(facts).decision == Decision.WAIT
        assert later(facts, again).decision == Decision.RENEW
        if failed + MINUTE * 5 >= facts.not_after:
            return  # only the least wait is left
        failed = again
        tries += 1
    assert failed < facts.not_after


def test_waits_double_and_then_are_daily() -> None:
    policy = RenewalPolicyFacts(window_days=200, max_retries=4, retry_interval=HOUR)
    facts = facts_of(398 * DAY, policy=policy, last_failure_at=BORN + 230 * DAY)
    waits = [retry_at(msgspec.structs.replace(facts, failures=n)) - facts.last_failure_at for n in range(1, 7)]  # type: ignore[operator]  # set above
    assert waits == [HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, DAY, DAY]
    told = assess(msgspec.structs.replace(facts, failures=5, now=BORN + 230 * DAY + HOUR))
    assert told.reason == "retries_are_spent_and_it_is_tried_daily"


def test_a_failure_before_the_window_waits_for_the_window() -> None:
    facts = facts_of(90 * DAY, 10 * DAY, failures=1, last_failure_at=BORN + 9 * DAY)
    verdict = assess(facts)
    assert (verdict.decision, verdict.reason, verdict.status) == ("wait", "window_has_not_begun", C.FAILED)
    assert verdict.next_check_at == renew_at(facts)


def test_an_expired_certificate_still_renews_and_is_tried_hard_at_first() -> None:
    facts = facts_of(90 * DAY, 90 * DAY)
    assert (assess(facts).decision, assess(facts).status, assess(facts).reason) == (
        "renew",
        C.EXPIRED,
        "certificate_has_expired",
    )
    failed = facts.not_after + 10 * MINUTE
    facts = msgspec.structs.replace(facts, failures=20, last_failure_at=failed, now=failed)
    assert retry_at(facts) == failed + 2 * MINUTE
    assert assess(facts).next_check_at == failed + 2 * MINUTE
    assert later(facts, facts.not_after + 1000 * DAY).decision == "renew"


def test_nothing_renews_against_its_owners_word() -> None:
    by_hand = facts_of(90 * DAY, 89 * DAY, policy=RenewalPolicyFacts(auto_renew=False))
    assert assess(by_hand) == Assessment(decision=Decision.NEVER, reason="policy_does_not_renew_by_itself", next_check_at=by_hand.not_after, status=C.EXPIRING)  # fmt: skip
    assert later(by_hand, by_hand.not_after).status == C.EXPIRED
    assert later(by_hand, by_hand.not_after).next_check_at is None
    for status in (C.REVOKED, C.ARCHIVED):
        verdict = assess(msgspec.structs.replace(by_hand, status=status, policy=RenewalPolicyFacts()))
        assert (verdict.decision, verdict.status, verdict.next_check_at) == ("never", status, None)


def test_a_live_job_is_left_alone() -> None:
    verdict = assess(facts_of(90 * DAY, 89 * DAY, live_job=True))
    assert (verdict.decision, verdict.status) == ("wait", C.RENEWAL_IN_PROGRESS)


def test_expiring_is_shown_late_for_long_lives_and_not_before_renewal_is_due() -> None:
    year = facts_of(398 * DAY)
    assert expiring_at(year) == year.not_after - 30 * DAY
    week_window = facts_of(398 * DAY, policy=RenewalPolicyFacts(window_days=7))
    assert expiring_at(week_window) == renew_at(week_window) > week_window.not_after - 7 * DAY
    hour = facts_of(HOUR, policy=RenewalPolicyFacts(window_fraction=0.6))
    assert expiring_at(hour) == hour.not_after - HOUR * (1 / 3)


@given(LIVES, st.lists(IDS, min_size=200, max_size=200, unique=True))
@settings(max_examples=10)
def test_a_fleet_is_spread_over_the_windows_first_tenth(life: timedelta, ids: list[str]) -> None:
    window = life / 3
    parts = sorted((renew_at(facts_of(life, version_id=one)) - (BORN + life - window)) / window for one in ids)
    assert parts[0] >= -1e-6
    assert parts[-1] < 0.1
    assert parts[-1] - parts[0] > 0.07
    assert renew_at(facts_of(life, version_id=ids[0])) == renew_at(facts_of(life, version_id=ids[0]))


def test_a_ca_that_backdates_far_makes_no_renewal_loop() -> None:
    # ten minutes that claim to have begun an hour before: a third of that life is longer than what is left
    facts = facts_of(70 * MINUTE, HOUR, issued_at=BORN + HOUR)
    assert assess(facts).decision == "wait"
    assert renew_at(facts) >= BORN + HOUR + 2.5 * MINUTE
    assert assess(msgspec.structs.replace(facts, issued_at=None)).decision == "renew"


@pytest.mark.parametrize("life", [timedelta(0), -DAY, timedelta(microseconds=1)], ids=str)
def test_a_life_that_cannot_be_breaks_nothing(life: timedelta) -> None:
    for failures, failed in ((0, None), (3, BORN)):
        assert assess(facts_of(life, DAY, failures=failures, last_failure_at=failed)).status == C.EXPIRED


@given(
    st.timedeltas(timedelta(days=-400), timedelta(days=400)), st.timedeltas(timedelta(minutes=10), timedelta(days=400))
)
def test_a_suggestion_is_followed_within_what_is_safe(offset, life):
    """Neither so late that no try is left, nor so soon that a CA that always says now has us renew without end."""
    issued = datetime(2026, 1, 1, tzinfo=UTC)
    facts = RenewalFacts(
        version_id="v-1",
        not_before=issued,
        not_after=issued + life,
        issued_at=issued,
        policy=RenewalPolicyFacts(),
        failures=0,
        last_failure_at=None,
        live_job=False,
        status=C.ACTIVE,
        now=issued,
        suggested_at=issued + offset,
    )
    moment = renew_at(facts)
    assert moment <= facts.not_after - life * 0.09
    assert moment >= issued + min(timedelta(hours=1), life / 4)
    if issued + timedelta(hours=1) < issued + offset < facts.not_after - life * 0.11 and life > timedelta(hours=4):
        assert moment == issued + offset
