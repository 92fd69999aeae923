"""When may a renewal run? Windows of the week within which it may, freezes within which it may not. All in UTC. Pure.

A window whose end is not after its start reaches into the next day. Without windows every hour is good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import Struct

from certctl.core.errors import Malformed, Violation

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MOST_WINDOWS = 50
MOST_FREEZES = 200
_DAY = timedelta(days=1)
StructT = TypeVar("StructT", bound=Struct)


class Window(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hours of some days of the week: from `start` to before `end`, both `HH:MM`, in UTC."""

    days: list[str]
    start: str = "00:00"
    end: str = "00:00"

    def span(self, day: datetime) -> tuple[datetime, datetime]:
        """The window that begins on the day of this midnight."""
        begins, ends = _hour(self.start, "start"), _hour(self.end, "end")
        until = day + _DAY if ends <= begins else day
        return _at(day, begins), _at(until, ends)


class Freeze(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A time in which nothing is renewed that can wait, from `starts_at` to before `ends_at`."""

    name: str
    starts_at: datetime
    ends_at: datetime


class Calendar(Struct, frozen=True):
    """What one renewal policy says of when."""

    windows: tuple[Window, ...] = ()
    freezes: tuple[Freeze, ...] = ()

    def held_by(self, now: datetime) -> str:
        """What holds a renewal back at a moment, in words; empty when nothing does."""
        freeze = self._freeze(now)
        if freeze is not None:
            return f"freeze {freeze.name}"
        return "" if self._is_in_a_window(now) else "the renewal windows"

    def opens_at(self, now: datetime) -> datetime:
        """The first moment from `now` on at which nothing holds a renewal back."""
        moment = now
        # every round leaves a freeze behind for good, or goes into a window: there are no more rounds than this
        for _ in range(2 * len(self.freezes) + 2):
            freeze = self._freeze(moment)
            if freeze is not None:
                moment = freeze.ends_at
            elif not self._is_in_a_window(moment):
                moment = self._next_window(moment)
            else:
                break
        return moment

    def _freeze(self, now: datetime) -> Freeze | None:
        within = (freeze for freeze in self.freezes if freeze.starts_at <= now < freeze.ends_at)
        return max(within, key=lambda freeze: freeze.ends_at, default=None)

    def _is_in_a_window(self, now: datetime) -> bool:
        return not self.windows or any(begins <= now < ends for begins, ends in self._spans(now, 1))

    def _next_window(self, now: datetime) -> datetime:
        return min(begins for begins, _ in self._spans(now, 8) if begins > now)

    def _spans(self, now: datetime, days: int) -> list[tuple[datetime, datetime]]:
        """The windows that begin between yesterday and so many days from now."""
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return [
            window.span(midnight + _DAY * offset)
            for offset in range(-1, days)
            for window in self.windows
            if DAYS[(midnight + _DAY * offset).weekday()] in window.days
        ]


ALWAYS = Calendar()


def read_calendar(windows: Sequence[Mapping[str, Any]], freezes: Sequence[Mapping[str, Any]]) -> Calendar:
    """A calendar from plain values. Raises Malformed, naming the field, for one that could never be kept."""
    if not windows and not freezes:
        return ALWAYS
    if len(windows) > MOST_WINDOWS or len(freezes) > MOST_FREEZES:
        _refuse(f"at most {MOST_WINDOWS} windows and {MOST_FREEZES} freezes", "freezes")
    return Calendar(
        tuple(_window(each, index) for index, each in enumerate(windows)),
        tuple(_freeze(each, index) for index, each in enumerate(freezes)),
    )


def _window(said: Mapping[str, Any], index: int) -> Window:
    field = f"renewal_windows[{index}]"
    window = _convert(said, Window, field)
    if not window.days or not set(window.days) <= set(DAYS):
        _refuse(f"{field}.days are some of {', '.join(DAYS)}", field)
    for name in ("start", "end"):
        _hour(getattr(window, name), f"{field}.{name}")
    return window


def _freeze(said: Mapping[str, Any], index: int) -> Freeze:
    field = f"freezes[{index}]"
    freeze = _convert(said, Freeze, field)
    if freeze.starts_at.tzinfo is None or freeze.ends_at.tzinfo is None:
        _refuse(f"{field}: times need a zone (2026-12-20T00:00:00Z)", field)
    if freeze.ends_at <= freeze.starts_at:
        _refuse(f"{field} ends before it starts", field)
    return freeze


def _convert(said: Mapping[str, Any], kind: type[StructT], field: str) -> StructT:
    try:
        return msgspec.convert(dict(said), kind)
    except msgspec.ValidationError as error:
        _refuse(f"{field}: {str(error).replace('`', '')}", field)


def _hour(text: str, field: str) -> time:
    hours, colon, minutes = text.partition(":")
    good = colon and len(text) == 5 and text.isascii() and hours.isdigit() and minutes.isdigit()
    if not good or int(hours) > 23 or int(minutes) > 59:
        _refuse(f"{field} is an hour such as 22:30, not {text[:16]!r}", field)
    return time(int(hours), int(minutes))


def _at(day: datetime, hour: time) -> datetime:
    return day.replace(hour=hour.hour, minute=hour.minute)


def _refuse(message: str, field: str) -> NoReturn:
    raise Malformed(message, violations=(Violation("calendar_has_wrong_form", message, field),))
