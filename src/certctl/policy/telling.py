"""Who is told, when, and how often it is tried: thresholds of expiry, routes to channels, patience. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache

from msgspec import Struct

from certctl.core.notification import Channel, Tier

# a channel that cannot be reached is tried for three days: the mail server that is down over a weekend loses nothing
GIVEN_UP_AFTER = timedelta(days=3)
# what the other side refuses is tried a few times: somebody may mend the configuration meanwhile
MOST_REFUSALS = 5
_LONGEST_WAIT = timedelta(hours=1)
_WARNING_DAYS = 14
_RANK = {tier: rank for rank, tier in enumerate(Tier)}


class Crossing(Struct, frozen=True):
    """A threshold of days before the end that has been crossed, and how much it matters."""

    days: int
    severity: str


class Route(Struct, frozen=True):
    """One way that a notification goes; without a channel `reason` says why it goes nowhere."""

    kind: str
    channel: Channel | None = None
    reason: str = ""


def crossed(
    not_before: datetime, not_after: datetime, thresholds: Iterable[int], tiers: Mapping[str, str], now: datetime
) -> Crossing | None:
    """The nearest threshold that has been crossed: one alert, however many were crossed while nobody looked.

    Thresholds as long as the whole life say nothing. The end itself always counts.
    """
    days = [each for each in moments(not_before, not_after, thresholds) if each[1] <= now]
    if not days:
        return None
    nearest = min(each[0] for each in days)
    return Crossing(nearest, tier_of(nearest, tiers))


def next_crossing(
    not_before: datetime, not_after: datetime, thresholds: Iterable[int], now: datetime
) -> datetime | None:
    """When the next threshold will be crossed; None when the end is over."""
    return min((at for _, at in moments(not_before, not_after, thresholds) if at > now), default=None)


def moments(not_before: datetime, not_after: datetime, thresholds: Iterable[int]) -> list[tuple[int, datetime]]:
    """Each threshold (days before the end) that lies within the life, and its moment."""
    return [(days, at) for days, before in _before_end(tuple(thresholds)) if (at := not_after - before) > not_before]


@lru_cache(maxsize=128)
def _before_end(thresholds: tuple[int, ...]) -> tuple[tuple[int, timedelta], ...]:
    """Each threshold and the end itself, the farthest first: policies have few, certificates are many."""
    return tuple((days, timedelta(days=days)) for days in sorted({0, *thresholds}, reverse=True))


def tier_of(days: int, tiers: Mapping[str, str]) -> str:
    """How much a threshold matters: as the policy's map says, else the nearer the more."""
    said = tiers.get(str(days))
    if said:
        return said
    if days <= 0:
        return Tier.CRITICAL
    return Tier.WARNING if days <= _WARNING_DAYS else Tier.INFORMATIONAL


def mail_routes(channels: Sequence[Channel]) -> list[Route]:
    """The ways of a digest: mail alone."""
    return routes(Tier.INFORMATIONAL, {Tier.INFORMATIONAL: ["Email"]}, channels)


def routes(severity: str, named: Mapping[str, Sequence[str]], channels: Sequence[Channel]) -> list[Route]:
    """The ways of a notification: the kinds that the policy names for this tier, else every channel that takes it."""
    enabled = [channel for channel in channels if channel.enabled]
    if severity in named:
        if not named[severity]:
            return [Route("", reason=f"the renewal policy tells nobody of what is {severity}")]
        found: list[Route] = []
        for kind in dict.fromkeys(named[severity]):
            of_kind = [channel for channel in enabled if channel.type == kind]
            found += [Route(kind, channel) for channel in of_kind] or [
                Route(kind, reason=f"no channel of type {kind} is configured")
            ]
        return found
    takes = [channel for channel in enabled if _rank(channel.min_severity) <= _rank(severity)]
    if takes:
        return [Route(channel.type, channel) for channel in takes]
    why = f"no channel takes what is {severity}" if enabled else "no channel is configured"
    return [Route("", reason=why)]


def wait_after(failures: int, first: timedelta, asked: timedelta | None = None) -> timedelta:
    """How long to wait after so many failures in a row; never shorter than the other side asked, within a day."""
    grown: timedelta = min(first * (1 << min(max(failures - 1, 0), 12)), max(_LONGEST_WAIT, first))
    return grown if asked is None else max(grown, min(asked, timedelta(days=1)))


def _rank(tier: str) -> int:
    return _RANK.get(Tier(tier), 0) if tier in set(Tier) else 0
