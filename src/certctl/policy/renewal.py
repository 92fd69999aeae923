"""Is it due? One current version and its renewal policy in; renew, wait or never out, with a reason.

    not_before ........ renew_at (+ jitter) ........ not_after
                        the window: days, or a fraction of the life

Works for lives of minutes as for years: a window that would swallow two thirds of a life gives way to a third of it, so
that nothing is renewed at once again after being renewed. Never gives up: a failure only makes the next try wait. Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from certctl.core.status import CertificateStatus
from certctl.policy.calendar import ALWAYS, Calendar
from certctl.policy.jitter import fraction_of

_THIRD = 1 / 3
_LONGEST_WINDOW = 2 / 3  # of the life; a window as long as this or longer falls back to a third
SPREAD = 0.1  # of the window, later only
_NEVER_BEFORE = 0.25  # of what was left when it was issued
# of a CA's suggestion: a tenth of the life is left for tries that fail; a new certificate is left alone for an hour
_LEFT_AT_LEAST = 0.1
_SETTLED = timedelta(hours=1)
_EXPIRING_WITHIN = timedelta(days=30)
_LONGEST_WAIT = timedelta(days=1)
_LEAST_WAIT = timedelta(minutes=1)
_LEAST_WAIT_OF_LIFE = 120  # lives under two hours: the least wait is this part of them
_TRIES_LEFT = 5  # a wait is at most a fifth of what is left, so at least four more tries fit before the end
_LOOK_AGAIN = timedelta(days=1)
_TICK = timedelta(microseconds=1)
# a calendar holds nothing back past the point from where on there would be too little left for a few tries
_LEFT_AFTER_HOLD = timedelta(days=2)
_LEFT_AFTER_HOLD_OF_LIFE = 1 / 10


class Decision(StrEnum):
    """What to do about one version now."""

    RENEW = "renew"
    WAIT = "wait"
    NEVER = "never"


class RenewalPolicyFacts(Struct, frozen=True, kw_only=True):
    """When to renew: `window_days` before the end, or when `window_fraction` of the life is left; else a third.

    `retry_interval` is the wait after a first failure; it doubles, and past `max_retries` in a row it is a day.
    """

    window_days: int | None = None
    window_fraction: float | None = None
    auto_renew: bool = True
    max_retries: int = 5
    retry_interval: timedelta = timedelta(hours=1)
    calendar: Calendar = ALWAYS


class RenewalFacts(Struct, frozen=True, kw_only=True):
    """One current version. `failures` are those since it was issued; `live_job`: its renewal is under way.

    `issued_at` is when we got it, where that differs from `not_before` (a CA that backdates, an intent that lay long).
    """

    version_id: str
    not_before: datetime
    not_after: datetime
    policy: RenewalPolicyFacts
    failures: int
    last_failure_at: datetime | None
    live_job: bool
    status: CertificateStatus
    now: datetime
    issued_at: datetime | None = None
    # when its CA would like it to be renewed (RFC 9773 4.2), within the window that it told
    suggested_at: datetime | None = None


class Assessment(Struct, frozen=True, kw_only=True):
    """The verdict. `next_check_at` is the earliest moment at which decision or status change by time alone, or None.

    `held_by` says which freeze or window holds a renewal back that is due and can wait, `held_until` how long.
    """

    decision: Decision
    reason: str
    next_check_at: datetime | None
    status: CertificateStatus
    held_by: str = ""
    held_until: datetime | None = None


def assess(facts: RenewalFacts) -> Assessment:
    """Decide about one version. Whenever the decision is to wait, `next_check_at` lies after `now`."""
    if facts.status in {CertificateStatus.ARCHIVED, CertificateStatus.REVOKED}:
        reason = "certificate_is_archived" if facts.status == CertificateStatus.ARCHIVED else "certificate_is_revoked"
        return Assessment(decision=Decision.NEVER, reason=reason, next_check_at=None, status=facts.status)
    if facts.live_job:
        # nothing changes by time alone: the job's end is what changes it, and the look is a safety net
        again = facts.not_after if facts.not_after > facts.now else facts.now + _LOOK_AGAIN
        return Assessment(
            decision=Decision.WAIT,
            reason="renewal_is_under_way",
            next_check_at=again,
            status=CertificateStatus.RENEWAL_IN_PROGRESS,
        )
    expiring = expiring_at(facts)
    status = _status(facts, expiring)
    if not facts.policy.auto_renew:
        moments = _status_moments(facts, expiring)
        return Assessment(
            decision=Decision.NEVER,
            reason="policy_does_not_renew_by_itself",
            next_check_at=_next(moments, facts.now),
            status=status,
        )
    decision, reason = _decide(facts)
    moments = [*_status_moments(facts, expiring), _due_at(facts)]
    if decision == Decision.RENEW and (by := facts.policy.calendar.held_by(facts.now)):
        opens = facts.policy.calendar.opens_at(facts.now)
        if opens <= _latest(facts):
            return Assessment(
                decision=Decision.WAIT,
                reason="calendar_holds_it_back",
                next_check_at=_next([*_status_moments(facts, expiring), opens], facts.now),
                status=status,
                held_by=by,
                held_until=opens,
            )
        reason = f"{reason}_and_it_cannot_wait_for_the_calendar"
    return Assessment(decision=decision, reason=reason, next_check_at=_next(moments, facts.now), status=status)


def _latest(facts: RenewalFacts) -> datetime:
    return facts.not_after - min(_LEFT_AFTER_HOLD, _life(facts) * _LEFT_AFTER_HOLD_OF_LIFE)


def renews_at(facts: RenewalFacts) -> datetime:
    """When it is going to be renewed as things stand: when due, or when the calendar lets it if it can wait."""
    due = max(renew_at(facts), facts.now)
    opens = facts.policy.calendar.opens_at(due)
    return opens if opens != due and opens <= _latest(facts) else renew_at(facts)


def renew_at(facts: RenewalFacts) -> datetime:
    """When renewal falls due: the window's start, spread by the version's id over the window's first tenth.

    The spread only makes it later, and is far from half of what is then left.
    """
    life = _life(facts)
    if facts.suggested_at is not None:
        return _as_suggested(facts, facts.suggested_at, life)
    window = window_of(facts.policy.window_days, facts.policy.window_fraction, life)
    start = facts.not_after - window
    if facts.issued_at is not None:
        start = max(start, facts.issued_at + max(facts.not_after - facts.issued_at, timedelta(0)) * _NEVER_BEFORE)
    return start + max(facts.not_after - start, timedelta(0)) * (SPREAD * fraction_of(facts.version_id))


def _as_suggested(facts: RenewalFacts, moment: datetime, life: timedelta) -> datetime:
    """The CA's wish, but never so late that a failed try could not be mended, nor so soon that one renewal would cause
    the next.
    """
    latest = facts.not_after - life * _LEFT_AT_LEAST
    issued_at = facts.issued_at or facts.not_before
    earliest = issued_at + min(_SETTLED, max(facts.not_after - issued_at, timedelta(0)) * _NEVER_BEFORE)
    return max(min(moment, latest), earliest)


def retry_at(facts: RenewalFacts) -> datetime | None:
    """When to try again after failures, or None when nothing has failed.

    The nearer the end, on either side of it, the shorter the wait: at most a fifth of the distance to `not_after`, at
    most a day, at least a minute (less for lives under two hours).
    """
    if not facts.failures or facts.last_failure_at is None:
        return None
    least = max(min(_LEAST_WAIT, _life(facts) / _LEAST_WAIT_OF_LIFE), _TICK)
    distance = abs(facts.not_after - facts.last_failure_at)
    wait = min(_patience(facts), distance / _TRIES_LEFT, _LONGEST_WAIT)
    return facts.last_failure_at + max(wait, least)


def expiring_at(facts: RenewalFacts) -> datetime:
    """From when it reads Expiring: 30 days or a third of its life before the end, never before renewal is due."""
    near = facts.not_after - min(_EXPIRING_WITHIN, _life(facts) * _THIRD)
    return max(near, renew_at(facts))


def _decide(facts: RenewalFacts) -> tuple[Decision, str]:
    again = retry_at(facts)
    if facts.now < renew_at(facts) and facts.now < facts.not_after:
        return Decision.WAIT, "window_has_not_begun"
    if again is not None and facts.now < again:
        spent = facts.failures > facts.policy.max_retries
        return Decision.WAIT, "retries_are_spent_and_it_is_tried_daily" if spent else "the_last_try_failed"
    if facts.now >= facts.not_after:
        return Decision.RENEW, "certificate_has_expired"
    return Decision.RENEW, "renewal_failed_and_is_tried_again" if again is not None else "window_has_begun"


def _due_at(facts: RenewalFacts) -> datetime:
    due = min(renew_at(facts), facts.not_after)
    again = retry_at(facts)
    return due if again is None else max(due, again)


def _status(facts: RenewalFacts, expiring: datetime) -> CertificateStatus:
    if facts.now >= facts.not_after:
        return CertificateStatus.EXPIRED
    if facts.failures:
        return CertificateStatus.FAILED
    return CertificateStatus.EXPIRING if facts.now >= expiring else CertificateStatus.ACTIVE


def _status_moments(facts: RenewalFacts, expiring: datetime) -> list[datetime]:
    # while it reads Failed it does not turn Expiring: only success or the end change that
    return [facts.not_after] if facts.failures else [expiring, facts.not_after]


def _next(moments: list[datetime], now: datetime) -> datetime | None:
    return min((moment for moment in moments if moment > now), default=None)


def _life(facts: RenewalFacts) -> timedelta:
    return max(facts.not_after - facts.not_before, timedelta(0))


def window_of(window_days: int | None, window_fraction: float | None, life: timedelta) -> timedelta:
    """How long before its end a certificate of this life is renewed, the spread left aside."""
    if window_days is not None:
        wished = timedelta(days=window_days)
    else:
        wished = life * (window_fraction if window_fraction is not None else _THIRD)
    usable = timedelta(0) < wished < life * _LONGEST_WINDOW
    return wished if usable else life * _THIRD


def _patience(facts: RenewalFacts) -> timedelta:
    if facts.failures > facts.policy.max_retries:
        return _LONGEST_WAIT
    # 2**20 retry intervals are past a day for any interval of a second or more; the bound keeps the power small
    doublings = min(facts.failures - 1, 20)
    doubled = max(facts.policy.retry_interval, timedelta(seconds=1)) * (1 << doublings)
    return min(doubled, _LONGEST_WAIT)
