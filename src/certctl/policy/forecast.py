"""How many renewals an hour, for years to come: what stands now is renewed again and again under the limits that come.

Cohorts of alike certificates go in, renewals an hour come out, as expectations (fractions of a certificate). A life is
what was asked for, or the longest that is allowed on the day of its issuance, if that is shorter. Suggestions of a CA,
calendars and failures are left aside: nobody knows them in years. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from certctl.policy.renewal import SPREAD, window_of

HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
# lives beyond this are told apart by the day, shorter ones by the hour
_COARSE_FROM = timedelta(days=2)
_NOTHING = 1e-6  # of a certificate: what rounding leaves behind


class LifeLimit(Struct, frozen=True):
    """From when on a publicly trusted certificate may live at most so long."""

    since: datetime
    longest: timedelta


# CA/Browser Forum, ballot SC-081v3 (Baseline Requirements 6.3.2)
PUBLIC_LIMITS = (
    LifeLimit(datetime(2020, 9, 1, tzinfo=UTC), timedelta(days=398)),
    LifeLimit(datetime(2026, 3, 15, tzinfo=UTC), timedelta(days=200)),
    LifeLimit(datetime(2027, 3, 15, tzinfo=UTC), timedelta(days=100)),
    LifeLimit(datetime(2029, 3, 15, tzinfo=UTC), timedelta(days=47)),
)


class Cohort(Struct, frozen=True, kw_only=True):
    """Certificates of one issuer that are alike: `life` as they were issued, `ends_at` to the hour, and their policy's
    window. `limited`: their issuer is bound by the limits of public trust.
    """

    issuer_id: str
    limited: bool
    life: timedelta
    ends_at: datetime
    count: int
    window_days: int | None = None
    window_fraction: float | None = None


class Budget(Struct, frozen=True):
    """At most `orders` within any `hours` hours: how CAs write their rate limits."""

    orders: int
    hours: int


class Collision(Struct, frozen=True):
    """Where a budget does not suffice: in how many hours some wait, in which first (-1: never), how many at most.

    `longest_wait` is in hours; -1 when some wait beyond the end.
    """

    hours_over: int
    first_hour: int
    most_waiting: float
    longest_wait: int


class _Kind(Struct, frozen=True):
    """What renews alike from its next issuance on."""

    issuer_id: str
    limited: bool
    life: timedelta
    window_days: int | None
    window_fraction: float | None


def forecast(
    cohorts: Iterable[Cohort], now: datetime, hours: int, limits: Sequence[LifeLimit] = PUBLIC_LIMITS, *, spread: bool
) -> dict[str, list[float]]:
    """Renewals by issuer in each of the next `hours` hours. With `spread` each comes at its own moment within the first
    tenth of its window, as certctl renews; without it, all of a cohort come when the window begins.
    """
    rising: dict[_Kind, list[float]] = defaultdict(lambda: [0.0] * (hours + 1))
    for cohort in cohorts:
        kind = _kind(cohort)
        window = window_of(kind.window_days, kind.window_fraction, cohort.life)
        starts_in = (cohort.ends_at - window - now) / HOUR
        _add(rising[kind], cohort.count, max(starts_in, 0.0), _length(window, spread=spread))
    longest = _longest(now, hours, limits)
    found: dict[str, list[float]] = defaultdict(lambda: [0.0] * hours)
    for kind, steps in rising.items():
        total = found[kind.issuer_id]
        for hour, renewed in enumerate(_renew(kind, steps, longest if kind.limited else None, spread=spread)):
            total[hour] += renewed
    return dict(found)


def collisions(renewals: Sequence[float], budget: Budget) -> Collision:
    """What becomes of the renewals of one account that come first, served first, within a budget."""
    served: list[float] = []
    waiting, within, over = 0.0, 0.0, []
    most = 0.0
    for hour, due in enumerate(renewals):
        if hour >= budget.hours:
            within -= served[hour - budget.hours]
        waiting += due
        served.append(min(waiting, max(budget.orders - within, 0.0)))
        waiting -= served[-1]
        within += served[-1]
        if waiting > _NOTHING:
            over.append(hour)
            most = max(most, waiting)
    return Collision(len(over), over[0] if over else -1, most, _longest_wait(renewals, served))


def _longest_wait(came: Sequence[float], served: Sequence[float]) -> int:
    longest, done_by, all_came, all_served = 0, -1, 0.0, 0.0
    for hour, one in enumerate(came):
        all_came += one
        while all_served < all_came - _NOTHING:
            done_by += 1
            if done_by == len(served):
                return -1
            all_served += served[done_by]
        if one > _NOTHING:
            longest = max(longest, done_by - hour)
    return longest


def _kind(cohort: Cohort) -> _Kind:
    unit = _DAY if cohort.life > _COARSE_FROM else HOUR
    life = max(-(-cohort.life // unit), 1) * unit
    return _Kind(cohort.issuer_id, cohort.limited, life, cohort.window_days, cohort.window_fraction)


def _renew(kind: _Kind, steps: list[float], longest: Sequence[timedelta] | None, *, spread: bool) -> list[float]:
    """The renewals of each hour. `steps` says by how much more fall due in each hour than in the hour before; what is
    renewed adds to the steps to come.
    """
    renewals = [0.0] * (len(steps) - 1)
    due, last, interval, length = 0.0, None, 0.0, 1
    for hour in range(len(renewals)):
        due += steps[hour]
        if due < _NOTHING:
            continue
        life = min(kind.life, longest[hour]) if longest else kind.life
        if life != last:
            window = window_of(kind.window_days, kind.window_fraction, life)
            last, interval, length = life, (life - window) / HOUR, _length(window, spread=spread)
        # what is renewed more often than hourly counts as often, and falls due in the next hour as once
        renewals[hour] = due / min(interval, 1.0)
        _add(steps, due, hour + max(interval, 1.0), length)
    return renewals


def _add(steps: list[float], count: float, at: float, length: int) -> None:
    first = round(at)
    if first >= len(steps):
        return
    steps[first] += count / length
    steps[min(first + length, len(steps) - 1)] -= count / length


def _length(window: timedelta, *, spread: bool) -> int:
    return max(round(window * SPREAD / HOUR), 1) if spread else 1


def _longest(now: datetime, hours: int, limits: Sequence[LifeLimit]) -> list[timedelta]:
    found: list[timedelta] = []
    for hour in range(hours):
        moment = now + hour * HOUR
        found.append(min((one.longest for one in limits if one.since <= moment), default=timedelta.max))
    return found
