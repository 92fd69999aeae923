"""When a certificate's holder had better renew it (RFC 9773 4.2), for those who renew by themselves. Pure.

A window of a twelfth of its life, ending a sixth of it before its end at the latest, and each certificate has its own
place in it, so that a fleet issued at once does not come back at once. One that was revoked has its window behind it;
where a CA above was, all below it are to be issued anew, and each has a place of its own soon after; so have those that
an operator wishes replaced.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from certctl.policy.jitter import fraction_of

_EARLIEST = 0.5  # of the life that has gone when the first windows begin
_SPREAD = 1 / 4  # of the life, over which beginnings are spread
_LENGTH = 1 / 12
_PAST = timedelta(days=1)


class Window(Struct, frozen=True):
    """Renew at a moment of one's own choice between these."""

    start: datetime
    end: datetime


def replacement_window(seed: str, since: datetime, spread: timedelta) -> Window:
    """The window of one certificate of many that are to be replaced: it begins within `spread`, and is as long."""
    start = since + spread * fraction_of(seed)
    return Window(start, start + spread)


def suggested_window(seed: str, not_before: datetime, not_after: datetime, revoked_at: datetime | None) -> Window:
    """The window of one certificate; `seed` is something of its own that does not change, its serial number."""
    if revoked_at is not None:
        return Window(revoked_at - _PAST, revoked_at)
    life = max(not_after - not_before, timedelta(seconds=12))
    start = not_before + life * (_EARLIEST + _SPREAD * fraction_of(seed))
    return Window(start, start + life * _LENGTH)
