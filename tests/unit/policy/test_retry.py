"""Which failures are tried again, when, and which end at once."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.core import errors
from certctl.policy import retry
from certctl.policy.retry import GiveUp, RetryAt, decide

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
RETRIED = ["temporary", "rate_limited", "connector_error", "outcome_unknown", "internal"]


def wait_of(code: str, attempts: int, retry_after: timedelta | None = None, seed: str = "step-1") -> timedelta:
    verdict = decide(code, attempts, 1000, NOW, retry_after, seed)
    assert isinstance(verdict, RetryAt)
    return verdict.at - NOW


@pytest.mark.parametrize(
    "code",
    ["rejected", "misconfigured", "unsupported", "trust_error", "policy_denied", "malformed", "stale_fence", "conflict", "not_found", "gone", "not_allowed", "not_authenticated"],
)  # fmt: skip
def test_what_cannot_pass_by_itself_ends_at_once(code: str) -> None:
    verdict = decide(code, 1, 100, NOW, timedelta(seconds=1), "s")
    assert isinstance(verdict, GiveUp)
    assert verdict.reason


def test_every_code_of_the_error_tree_has_its_row() -> None:
    leaves = {
        one.code
        for _, one in inspect.getmembers(errors, inspect.isclass)
        if issubclass(one, errors.CertctlError) and not one.__subclasses__()
    }
    assert leaves <= set(retry._RETRIED) | set(retry._FINAL)
    assert not set(retry._RETRIED) & set(retry._FINAL)


def test_waits_double_up_to_ten_minutes() -> None:
    for attempts in range(1, 40):
        full = min(2 ** (attempts - 1), 600)
        assert timedelta(seconds=full / 2) <= wait_of("temporary", attempts) <= timedelta(seconds=full)


def test_attempts_are_bounded() -> None:
    assert isinstance(decide("temporary", 7, 8, NOW), RetryAt)
    assert decide("temporary", 8, 8, NOW) == GiveUp("attempts_are_spent")
    assert decide("temporary", 1, 0, NOW) == GiveUp("attempts_are_spent")
    assert isinstance(decide("internal", 2, 100, NOW), RetryAt)
    assert decide("internal", 3, 100, NOW) == GiveUp("attempts_are_spent")
    assert decide("never heard of it", 3, 100, NOW) == GiveUp("attempts_are_spent")
    assert decide("outcome_unknown", 8, 8, NOW) == GiveUp("outcome_is_still_unknown")


def test_an_unknown_outcome_is_asked_about_soon_and_never_acted_on_blindly() -> None:
    for attempts in range(1, 60):
        verdict = decide("outcome_unknown", attempts, 1000, NOW, None, "s")
        assert isinstance(verdict, RetryAt)
        assert verdict.ask_first
        assert verdict.at - NOW <= timedelta(minutes=1)
    assert not decide("temporary", 1, 10, NOW).ask_first  # type: ignore[union-attr]  # a RetryAt, as shown above


def test_what_the_other_side_asks_for_is_granted_but_not_for_ever() -> None:
    assert timedelta(hours=1) <= wait_of("temporary", 1, timedelta(hours=1)) <= timedelta(hours=1, minutes=1)
    assert timedelta(days=1) <= wait_of("temporary", 1, timedelta(days=4000)) <= timedelta(days=1, minutes=1)
    assert wait_of("temporary", 8, timedelta(seconds=-5)) == wait_of("temporary", 8)


@given(st.sampled_from(RETRIED), st.integers(1, 10**9), st.integers(0, 10**6), st.text(max_size=20))
def test_a_retry_lies_ahead_and_is_the_same_for_everyone(code: str, attempts: int, seconds: int, seed: str) -> None:
    verdict = decide(code, attempts, 10**10, NOW, timedelta(seconds=seconds), seed)
    assert verdict == decide(code, attempts, 10**10, NOW, timedelta(seconds=seconds), seed)
    if isinstance(verdict, RetryAt):
        assert NOW + timedelta(milliseconds=500) <= verdict.at <= NOW + timedelta(days=1, minutes=10)


def test_a_crowd_is_spread() -> None:
    waits = sorted(wait_of("temporary", 9, seed=f"step-{n}").total_seconds() for n in range(400))
    assert waits[0] < 140
    assert waits[-1] > 245
    assert max(b - a for a, b in zip(waits, waits[1:], strict=False)) < 8
