"""When to try a failed step again, or whether to give up: a table by error code, and nothing else.

What may pass by itself is tried again with growing patience. What cannot (a refusal, a wrong configuration, a wrong
answer) ends at once, so that a person hears of it now. An unknown outcome is asked about soon, never acted on
blindly. A result under a lapsed lease is never retried: the step is another's. Pure: the jitter comes from the seed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from certctl.policy.jitter import fraction_of

LONGEST_RETRY_AFTER = timedelta(days=1)


class RetryAt(Struct, frozen=True):
    """Try again at `at`. `ask_first`: find out what became of the last try before acting again."""

    at: datetime
    ask_first: bool = False


class GiveUp(Struct, frozen=True):
    """Do not try again; `reason` is a named sentence."""

    reason: str


class Patience(Struct, frozen=True):
    """The wait after the first failure, how it grows and up to where, and after how many failures it ends anyway."""

    first: timedelta
    factor: int
    longest: timedelta
    most_attempts: int | None = None
    ask_first: bool = False


_SOON = Patience(timedelta(seconds=1), 2, timedelta(minutes=10))
_BY_ASKING = Patience(timedelta(seconds=1), 2, timedelta(minutes=1), ask_first=True)
# A bug seldom mends itself, but a race or a restart half way does: two more tries, then a person reads the trace.
_A_BUG = Patience(timedelta(seconds=5), 5, timedelta(minutes=1), most_attempts=3)

# Codes that may pass by themselves. 1 s, 2 s, 4 s ... 10 min: eight tries take a minute or two, twelve about twenty.
_RETRIED = {
    "temporary": _SOON,
    "rate_limited": _SOON,
    "still_running": _SOON,
    "connector_error": _SOON,
    "outcome_unknown": _BY_ASKING,
    "internal": _A_BUG,
}
# Codes where the same try would fail in the same way.
_FINAL = {
    "rejected": "the_other_side_refused",
    "misconfigured": "configuration_must_be_mended",
    "unsupported": "it_is_not_supported",
    "trust_error": "the_answer_cannot_be_trusted",
    "policy_denied": "policy_forbids_it",
    "malformed": "it_is_malformed",
    "not_found": "it_is_not_there",
    "gone": "it_is_gone",
    "conflict": "its_state_has_changed",
    "blocked_by_dependencies": "something_depends_on_it",
    "precondition_failed": "it_was_changed_meanwhile",
    "idempotency_key_reused": "its_key_belongs_to_another_request",
    "answer_lost": "it_was_done_already",
    "stale_fence": "the_lease_has_passed_to_another",
    "not_authenticated": "credentials_are_refused",
    "not_allowed": "it_is_not_allowed",
    "too_large": "it_is_too_large",
    "unsupported_media_type": "it_is_not_supported",
}


def decide(
    error_code: str,
    attempts: int,
    max_attempts: int,
    now: datetime,
    retry_after: timedelta | None = None,
    jitter_seed: str = "",
) -> RetryAt | GiveUp:
    """What to do after `attempts` tries (this one included) of at most `max_attempts` failed with `error_code`.

    A code that is not known is treated as a bug. `retry_after` is what the other side asked for: never sooner, but at
    most a day is granted.
    """
    if error_code in _FINAL:
        return GiveUp(_FINAL[error_code])
    patience = _RETRIED.get(error_code, _A_BUG)
    allowed = min(max_attempts, patience.most_attempts or max_attempts)
    if attempts >= allowed:
        return GiveUp("outcome_is_still_unknown" if patience.ask_first else "attempts_are_spent")
    spread = fraction_of(f"{jitter_seed}/{attempts}")
    # Half of the wait is certain and half by lot: a crowd that failed together comes back spread out, nobody at once.
    wait = _grown(patience, attempts) * (0.5 + spread / 2)
    if retry_after is not None and retry_after > wait:
        asked = min(retry_after, LONGEST_RETRY_AFTER)
        wait = asked + min(asked, patience.longest) * (spread / 10)
    return RetryAt(now + wait, patience.ask_first)


def _grown(patience: Patience, attempts: int) -> timedelta:
    # 20 doublings of any first wait are past every longest one; the bound keeps the power small
    growth: int = patience.factor ** min(max(attempts - 1, 0), 20)
    return min(patience.first * growth, patience.longest)
