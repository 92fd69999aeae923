"""The renewals to come of what a caller may see, by month: inventory, policies and the limits of public trust."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from certctl.core.catalogue import IssuerRecord, RenewalPolicy
from certctl.core.scope import Scope
from certctl.lifecycle.context import Context
from certctl.policy.forecast import HOUR, Budget, Cohort, Collision, collisions, forecast
from certctl.store import catalogue
from certctl.store.cohorts import StandingCohort, cohorts
from certctl.store.tx import Tx

# kinds of issuers whose certificates the public trusts, as far as the kind tells
PUBLIC_KINDS = frozenset({"ACME"})


EVERYONE = "*"
# the last limit that is decided has been in force for a while by then
_LAST_YEAR = 2030


def default_end(now: datetime) -> datetime:
    """Until when a forecast goes if nobody says: the end of 2030, or of next year."""
    return datetime(max(_LAST_YEAR, now.year + 1) + 1, 1, 1, tzinfo=UTC)


class Month(Struct, frozen=True, kw_only=True):
    """One month (UTC); `herd` is the busiest hour if nothing were spread. Counts are expectations, rounded up."""

    begins_at: datetime
    renewals: int
    busiest_hour: int
    busiest_at: datetime
    busiest_herd: int


class Clash(Struct, frozen=True, kw_only=True):
    """One issuer's renewals beside a budget, as certctl spreads them and as a herd."""

    issuer_id: str
    spread: Collision
    herd: Collision


class Forecast(Struct, frozen=True, kw_only=True):
    """From `as_of`, a full hour, on."""

    as_of: datetime
    certificates: int
    limited_issuers: list[str]
    months: list[Month]
    clashes: list[Clash]


class Asked(Struct, frozen=True, kw_only=True):
    """`limited`: the issuers that the limits bind, EVERYONE for all, or None for those whose kind says so."""

    until: datetime
    limited: frozenset[str] | None = None
    budget: Budget | None = None


async def foresee(ctx: Context, visible: Scope, asked: Asked) -> Forecast:
    """Count what stands, and renew it in thought."""
    async with ctx.database.read() as tx:
        standing = await cohorts(tx, visible)
        # what was imported has none
        issuers = frozenset(one.issuer_id for one in standing if one.issuer_id)
        if asked.limited is None:
            limited = await _public(tx, ctx.scope, issuers)
        else:
            limited = issuers if EVERYONE in asked.limited else issuers & asked.limited
        policy_ids = tuple({one.renewal_policy_id for one in standing})
        policies = await catalogue.many(tx, ctx.scope, RenewalPolicy, policy_ids)
    began = ctx.now().replace(minute=0, second=0, microsecond=0)
    taken = [_cohort(one, policies.get(one.renewal_policy_id), limited) for one in standing]
    # in a thread: it is seconds of arithmetic for a fleet with many kinds of lives
    return await asyncio.to_thread(_foresee, taken, began, asked, limited)


def _foresee(taken: list[Cohort], began: datetime, asked: Asked, limited: frozenset[str]) -> Forecast:
    hours = max(math.ceil((asked.until - began) / HOUR), 1)
    spread = forecast(taken, began, hours, spread=True)
    herd = forecast(taken, began, hours, spread=False)
    clashes = [
        Clash(
            issuer_id=issuer_id,
            spread=collisions(spread[issuer_id], asked.budget),
            herd=collisions(herd[issuer_id], asked.budget),
        )
        for issuer_id in sorted(spread)
        if asked.budget is not None and issuer_id in limited
    ]
    return Forecast(
        as_of=began,
        certificates=sum(one.count for one in taken),
        limited_issuers=sorted(limited),
        months=_months(began, _sum(spread.values(), hours), _sum(herd.values(), hours)),
        clashes=clashes,
    )


def _cohort(one: StandingCohort, policy: RenewalPolicy | None, limited: frozenset[str]) -> Cohort:
    return Cohort(
        issuer_id=one.issuer_id,
        limited=one.issuer_id in limited,
        life=one.life,
        ends_at=one.ends_at,
        count=one.count,
        window_days=policy.renewal_window_days if policy else None,
        window_fraction=policy.renewal_window_fraction if policy else None,
    )


async def _public(tx: Tx, scope: Scope, issuer_ids: frozenset[str]) -> frozenset[str]:
    found = await catalogue.many(tx, scope, IssuerRecord, tuple(issuer_ids))
    return frozenset(one.id for one in found.values() if one.type in PUBLIC_KINDS)


def _sum(series: Iterable[list[float]], hours: int) -> list[float]:
    several = [*series, [0.0] * hours]
    return [sum(each) for each in zip(*several, strict=True)]


def _months(began: datetime, spread: list[float], herd: list[float]) -> list[Month]:
    found: list[Month] = []
    first = 0
    while first < len(spread):
        month = (began + first * HOUR).replace(day=1, hour=0)
        following = (month + timedelta(days=32)).replace(day=1)
        end = min(math.ceil((following - began) / HOUR), len(spread))
        busiest = max(range(first, end), key=spread.__getitem__)
        found.append(
            Month(
                begins_at=month,
                renewals=_up(sum(spread[first:end])),
                busiest_hour=_up(spread[busiest]),
                busiest_at=began + busiest * HOUR,
                busiest_herd=_up(max(herd[first:end])),
            )
        )
        first = end
    return found


def _up(expected: float) -> int:
    """A count of whole certificates; what rounding left behind is none."""
    return math.ceil(round(expected, 3))
