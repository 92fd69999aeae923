"""Places on a time axis, as SVG percentages: the now-line and the lives of certificates. Pure.

A view has one axis; inline styles are not allowed by our policy, so every position is an attribute.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from certctl.web.words import clock, day


class Tick(Struct, frozen=True):
    """A mark of the axis."""

    x: str
    text: str


class Axis(Struct, frozen=True, kw_only=True):
    """From `begin` to `end`, drawn between two percentages."""

    begin: datetime
    end: datetime
    now: datetime
    left: float = 1.0
    right: float = 99.0

    def at(self, moment: datetime) -> float:
        """Where a moment lies, kept within the axis."""
        share = (moment - self.begin) / (self.end - self.begin)
        return self.left + min(max(share, 0.0), 1.0) * (self.right - self.left)

    def x(self, moment: datetime) -> str:
        """The same as an attribute."""
        return percent(self.at(moment))

    def width(self, begin: datetime, end: datetime) -> str:
        """How wide a stretch is."""
        return percent(max(0.0, self.at(end) - self.at(begin)))

    def holds(self, moment: datetime) -> bool:
        """Whether a moment lies on it."""
        return self.begin <= moment <= self.end


class Life(Struct, frozen=True, kw_only=True):
    """One certificate on an axis: lived, left, the part in which it may renew, its planned renewal, its end."""

    kind: str
    past: tuple[str, str] | None
    left: tuple[str, str] | None
    window: tuple[str, str] | None
    plan: str
    end: str


def percent(value: float) -> str:
    """A percentage as an SVG attribute."""
    return f"{value:.2f}%"


def around(now: datetime, back: int, ahead: int, left: float = 1.0, right: float = 99.0) -> Axis:
    """An axis of so many days back and ahead."""
    return Axis(begin=now - timedelta(days=back), end=now + timedelta(days=ahead), now=now, left=left, right=right)


def day_ticks(axis: Axis, every: int) -> list[Tick]:
    """A tick each so many days from now, told as days from now."""
    back = int((axis.now - axis.begin).days / every)
    ahead = int((axis.end - axis.now).days / every)
    found = []
    for number in range(-back, ahead + 1):
        moment = axis.now + timedelta(days=number * every)
        # a label at the very edge would be cut off
        if number and axis.left + 5 < axis.at(moment) < axis.right - 5:
            sign = "+" if number > 0 else "−"  # noqa: RUF001 - a minus sign, not a hyphen
            found.append(Tick(axis.x(moment), f"{sign}{abs(number) * every} d"))
    return found


def date_ticks(axis: Axis, number: int = 6) -> list[Tick]:
    """So many ticks over the whole axis, each with its date; with the time of day where it spans less than three."""
    step = (axis.end - axis.begin) / number
    moments = [axis.begin + step * each for each in range(1, number)]
    hours = axis.end - axis.begin < timedelta(days=3)
    return [Tick(axis.x(moment), clock(moment) if hours else day(moment, axis.now)) for moment in moments]


def life(axis: Axis, begin: datetime | None, end: datetime | None, renew: datetime | None, kind: str = "") -> Life:
    """How a life is drawn; a certificate without an end draws nothing."""
    if end is None:
        return Life(kind=kind, past=None, left=None, window=None, plan="", end="")
    now = axis.now
    start = begin or axis.begin
    lived_to = min(now, end)
    past = (axis.x(start), axis.width(start, lived_to)) if start < lived_to else None
    left = window = None
    plan = ""
    if end > now:
        turn = min(max(renew, now), end) if renew is not None else end
        since = max(now, start)
        left = (axis.x(since), axis.width(since, turn)) if turn > since else None
        window = (axis.x(turn), axis.width(turn, end)) if renew is not None and end > turn else None
        plan = axis.x(turn) if renew is not None and renew > now and axis.holds(renew) else ""
    return Life(kind=kind, past=past, left=left, window=window, plan=plan, end=axis.x(end) if axis.holds(end) else "")


def heat(counts: Sequence[int]) -> list[int]:
    """The tint of each number, 1 to 5, by how it compares with the largest."""
    most = max(counts, default=0)
    steps = (0.0, 0.02, 0.15, 0.4, 0.7)
    return [1 if not count else max(1 + sum(count / most > step for step in steps[1:]), 2) for count in counts]
