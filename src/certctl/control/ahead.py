"""Renewals a day to come, of what a caller may see: by policy, or when their CA suggests, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from msgspec import Struct

from certctl.core.catalogue import RenewalPolicy
from certctl.core.scope import Scope
from certctl.policy.forecast import HOUR, Cohort, forecast
from certctl.policy.renewal import SPREAD, window_of
from certctl.store import ahead, catalogue
from certctl.store.ahead import RenewingCohort
from certctl.store.tx import Tx

BEFORE = timedelta(days=90)


class Day(Struct, frozen=True):
    """How many renewals are expected on a day (UTC); today's are those from now on, and what is overdue."""

    day: date
    number: int


class Ahead(Struct, frozen=True):
    """The days to come, today first, and the most that were done on one of the last 90."""

    days: list[Day]
    most_done: int


async def look_ahead(tx: Tx, scope: Scope, now: datetime, days: int) -> Ahead:
    """Count what renews by itself, and renew it in thought for so many days."""
    found = await ahead.renewing(tx, scope)
    ids = tuple({each.renewal_policy_id for each in found if each.renewal_policy_id})
    policies = await catalogue.many(tx, Scope.whole(scope.tenant_id), RenewalPolicy, ids)
    most = await ahead.most_in_a_day(tx, scope, now - BEFORE)
    cohorts = [
        _cohort(each, policy)
        for each in found
        if (policy := policies.get(each.renewal_policy_id)) is not None and policy.auto_renew
    ]
    # in a thread: it is arithmetic over hours, for each kind of life
    return Ahead(await asyncio.to_thread(_days, cohorts, now, days), most)


def _cohort(one: RenewingCohort, policy: RenewalPolicy) -> Cohort:
    """What renews at the CA's wish is taken as if its end were such that its window began then."""
    ends_at = one.ends_at
    if one.wished_from is not None and one.wished_until is not None:
        window = window_of(policy.renewal_window_days, policy.renewal_window_fraction, one.life)
        wished = one.wished_from + (one.wished_until - one.wished_from) / 2
        ends_at = wished + window * (1 - SPREAD / 2)
    return Cohort(
        issuer_id="",
        limited=False,
        life=one.life,
        ends_at=ends_at,
        count=one.count,
        window_days=policy.renewal_window_days,
        window_fraction=policy.renewal_window_fraction,
    )


def _days(cohorts: Sequence[Cohort], now: datetime, days: int) -> list[Day]:
    began = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    hours = days * 24 - began.hour
    expected = forecast(cohorts, began, hours, (), spread=True).get("", [0.0] * hours)
    sums = [0.0] * days
    for hour, number in enumerate(expected):
        sums[((began + hour * HOUR).date() - began.date()).days] += number
    found: list[Day] = []
    owed = 0.0
    for at, number in enumerate(sums):
        # whole certificates, whose sum over the days stays what it is
        owed += number
        whole = round(owed)
        owed -= whole
        found.append(Day(began.date() + timedelta(days=at), whole))
    return found
