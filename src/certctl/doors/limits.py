"""How many calls: token buckets by address and by caller, counted together by all replicas.

One replica counts by itself (SQLite). Several let through a tenth of each rate by themselves, so that a quiet caller
costs no query, and take everything beyond it out of one bucket in the database, in blocks: with N replicas at most
1 + N/10 times the rate. What was refused is refused again from memory until there could be a token.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta

from certctl.core.errors import RateLimited, Temporary
from certctl.core.rules import Rate
from certctl.lifecycle.context import Context
from certctl.store import rates
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

_MOST = 50_000
_OWN_SHARE = 10
_LONGEST_MEMORY = 1.0


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float
    leased: int = 0
    shut_until: float = 0.0


class Limiter:
    """The buckets of one process."""

    def __init__(self, ctx: Context, *, shared: bool) -> None:
        self._ctx = ctx
        self._shared = shared and ctx.database.dialect == "postgresql"
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    async def take(self, name: str, who: str, rate: Rate) -> None:
        """Let one call through; RateLimited when there have been too many."""
        key, now = f"{name}:{who}", self._ctx.now().timestamp()
        own = self._own(rate)
        bucket = self._bucket(key, now, own.burst)
        bucket.tokens = min(float(own.burst), bucket.tokens + max(0.0, now - bucket.at) * own.per_second)
        bucket.at = max(bucket.at, now)
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return
        if not self._shared:
            raise _refused((1 - bucket.tokens) / rate.per_second)
        if bucket.leased > 0:
            bucket.leased -= 1
            return
        if now < bucket.shut_until:
            raise _refused(bucket.shut_until - now)
        await self._lease(key, bucket, rate, now)

    async def _lease(self, key: str, bucket: _Bucket, rate: Rate, now: float) -> None:
        wanted = max(1, rate.burst // _OWN_SHARE)
        try:
            async with self._ctx.database.begin("rate.take") as tx:
                taken, wait = await rates.take(tx, self._ctx.scope, key, rate, wanted, self._ctx.now())
        except Temporary as error:
            # whoever needs the database is refused by it; whoever does not need not be
            log.warning("rate_not_counted", error=error)
            return
        if taken < 1:
            bucket.shut_until = now + min(wait, _LONGEST_MEMORY)
            raise _refused(wait)
        bucket.leased += taken - 1

    def give_back(self, name: str, who: str, rate: Rate) -> None:
        """The call of somebody who turned out to be known is not counted against where it came from."""
        bucket = self._buckets.get(f"{name}:{who}")
        if bucket is not None:
            bucket.tokens = min(float(self._own(rate).burst), bucket.tokens + 1)

    def _own(self, rate: Rate) -> Rate:
        if not self._shared:
            return rate
        return Rate(per_second=rate.per_second / _OWN_SHARE, burst=rate.burst // _OWN_SHARE)

    def _bucket(self, key: str, now: float, burst: int) -> _Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(tokens=float(burst), at=now)
            if len(self._buckets) > _MOST:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket


def neighbourhood(address: str) -> str:
    """What is counted as one address: an IPv4 address, or the /64 that an IPv6 host has to itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)


def _refused(seconds: float) -> RateLimited:
    wait = timedelta(seconds=max(1, math.ceil(seconds)))
    return RateLimited("too many calls; come back later", retry_after=wait)
