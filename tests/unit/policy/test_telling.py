"""Thresholds, routes and patience: pure decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.notification import Channel, Tier, incident
from certctl.policy.telling import crossed, moments, next_crossing, routes, tier_of, wait_after

START = datetime(2026, 1, 1, tzinfo=UTC)
CHANNEL = Channel(
    tenant_id="t-default", id="ch-1", name="one", type="Email", config={}, secrets=[], sealed_config=None, address="",
    enabled=True, min_severity="informational", last_tested_at=None, test_status="", source="database",
    created_at=START, updated_at=START,
)  # fmt: skip


def channel(**more) -> Channel:
    return msgspec.structs.replace(CHANNEL, **more)


def test_a_life_shorter_than_a_threshold_knows_nothing_of_it():
    end = START + timedelta(days=6)
    assert [days for days, _ in moments(START, end, [30, 14, 7, 3])] == [3, 0]
    assert crossed(START, end, [30, 14, 7, 3], {}, START) is None
    assert crossed(START, end, [30, 3], {}, START + timedelta(days=3)).days == 3
    assert crossed(START, end, [], {}, end).severity == Tier.CRITICAL


@given(
    life=st.integers(1, 400 * 24),
    thresholds=st.lists(st.integers(0, 365), max_size=6),
    hours=st.integers(0, 500 * 24),
)
def test_looking_exactly_when_told_to_misses_no_threshold(life, thresholds, hours):
    end, now = START + timedelta(hours=life), START + timedelta(hours=hours)
    found, following = crossed(START, end, thresholds, {}, now), next_crossing(START, end, thresholds, now)
    if now >= end:
        assert following is None and found.days == 0
        return
    assert following is not None and now < following <= end
    after = crossed(START, end, thresholds, {}, following)
    assert after is not None and (found is None or after.days < found.days)


def test_the_nearer_the_more_unless_the_policy_says_otherwise():
    assert [tier_of(days, {}) for days in (90, 30, 14, 7, 1, 0)] == [
        "informational", "informational", "warning", "warning", "warning", "critical",
    ]  # fmt: skip
    assert tier_of(30, {"30": "critical"}) == "critical"


def test_routes():
    mail, pager = channel(), channel(id="ch-2", type="PagerDuty", min_severity="critical")
    off = channel(id="ch-3", type="Slack", enabled=False)
    every = [mail, pager, off]
    assert [way.channel for way in routes("warning", {}, every)] == [mail]
    assert [way.channel for way in routes("critical", {}, every)] == [mail, pager]
    assert [way.channel for way in routes("warning", {"warning": ["PagerDuty", "PagerDuty"]}, every)] == [pager]
    (way,) = routes("warning", {"warning": ["Slack"]}, every)
    assert (way.channel, way.reason) == (None, "no channel of type Slack is configured")
    (way,) = routes("warning", {"warning": []}, every)
    assert way.channel is None and "tells nobody" in way.reason
    assert routes("warning", {}, [])[0].reason == "no channel is configured"
    assert routes("warning", {}, [pager])[0].reason == "no channel takes what is warning"


@given(st.integers(1, 10_000))
def test_waits_grow_to_an_hour_and_never_shrink(failures):
    first = timedelta(minutes=1)
    assert first <= wait_after(failures, first) <= wait_after(failures + 1, first) <= timedelta(hours=1)
    assert wait_after(failures, first, timedelta(hours=2)) == timedelta(hours=2)
    assert wait_after(failures, first, timedelta(days=9)) == timedelta(days=1)


@given(st.text(min_size=1, max_size=128), st.text(min_size=1, max_size=128))
def test_names_of_incidents_fit_their_column(one, other):
    assert len(incident("issue", one, other)) <= 140


KINDS = ("Email", "Webhook", "Slack", "Teams", "PagerDuty", "OpsGenie")
CHANNELS = st.lists(
    st.builds(channel, type=st.sampled_from(KINDS), enabled=st.booleans(), min_severity=st.sampled_from(list(Tier))),
    max_size=8,
)
MATRICES = st.dictionaries(st.sampled_from(list(Tier)), st.lists(st.sampled_from(KINDS), max_size=6))


@given(severity=st.sampled_from(list(Tier)), matrix=MATRICES, channels=CHANNELS)
def test_every_severity_of_every_matrix_goes_to_just_the_channels_it_names(severity, matrix, channels):
    channels = [msgspec.structs.replace(each, id=f"ch-{number}") for number, each in enumerate(channels)]
    found = routes(severity, matrix, channels)
    told = [way.channel.id for way in found if way.channel is not None]
    order = list(Tier)
    if severity in matrix:
        wanted = [each for each in channels if each.enabled and each.type in matrix[severity]]
        missing = set(matrix[severity]) - {each.type for each in wanted}
        assert {way.kind for way in found if way.channel is None} == (missing if matrix[severity] else {""})
    else:
        wanted = [
            each for each in channels if each.enabled and order.index(Tier(each.min_severity)) <= order.index(severity)
        ]
    assert sorted(told) == sorted(each.id for each in wanted)
    assert len(told) == len(set(told))
    # nothing vanishes: what goes nowhere says why
    assert found and all(way.channel is not None or way.reason for way in found)
