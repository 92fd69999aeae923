"""Renewals per day to come, as SVG: a bar a day, a dashed line for the most done so far; the same as a table. Pure."""

from __future__ import annotations

from datetime import date, timedelta

from msgspec import Struct

from certctl.control.ahead import Ahead
from certctl.web.axis import percent
from certctl.web.words import gettext as _
from certctl.web.words import months, ngettext, number, weekdays

# of the drawing's height; the rest holds the dates
_FLOOR = 84.0
_TOP = 6.0


class Bar(Struct, frozen=True, kw_only=True):
    """One day."""

    x: str
    y: str
    width: str
    height: str
    spoken: str
    today: bool


class Mark(Struct, frozen=True):
    """A date under the bars."""

    x: str
    text: str


class Week(Struct, frozen=True):
    """Seven days, as a row of the table."""

    begins: str
    number: int
    most: int
    most_on: str


class Chart(Struct, frozen=True, kw_only=True):
    """What is drawn, and what is said of it."""

    said: str
    spoken: str
    bars: list[Bar]
    marks: list[Mark]
    done: str
    done_said: str
    top: int
    top_at: str
    weeks: list[Week]


def draw(ahead: Ahead) -> Chart | None:
    """None where nothing is going to be renewed by itself."""
    days = ahead.days
    total = sum(each.number for each in days)
    if not total:
        return None
    most = max(days, key=lambda each: each.number)
    top = max(most.number, ahead.most_done, 1)
    slot = 100 / len(days)

    def y(count: float) -> float:
        return _FLOOR - (_FLOOR - _TOP) * count / top

    said = _("{number} in {days} days, most on {day}: {most}").format(
        number=number(total), days=len(days), day=_date(most.day), most=number(most.number)
    )
    bars = [
        Bar(
            x=percent(at * slot + slot * 0.12),
            y=percent(y(each.number)),
            width=percent(slot * 0.76),
            height=percent(_FLOOR - y(each.number)),
            spoken=f"{_date(each.day)}: "
            + ngettext("{n} renewal", "{n} renewals", each.number).format(n=number(each.number)),
            today=at == 0,
        )
        for at, each in enumerate(days)
    ]
    return Chart(
        said=said,
        spoken=_("Renewals per day to come: {said}").format(said=said),
        bars=bars,
        marks=[Mark(percent(at * slot), _short(days[at].day)) for at in range(0, len(days) - 6, 14)],
        done=percent(y(ahead.most_done)) if ahead.most_done else "",
        done_said=_("most done on a day so far: {number}").format(number=number(ahead.most_done)),
        top=top,
        top_at=percent(y(top)),
        weeks=_weeks(ahead),
    )


def _weeks(ahead: Ahead) -> list[Week]:
    found = []
    for start in range(0, len(ahead.days), 7):
        week = ahead.days[start : start + 7]
        most = max(week, key=lambda each: each.number)
        until = _short(week[0].day + timedelta(days=len(week) - 1))
        found.append(
            Week(f"{_short(week[0].day)} – {until}", sum(each.number for each in week), most.number, _date(most.day))  # noqa: RUF001 - a range's dash
        )
    return found


def _date(day: date) -> str:
    return f"{weekdays()[day.weekday()]} {day.day} {months()[day.month - 1]}"


def _short(day: date) -> str:
    return f"{day.day} {months()[day.month - 1]}"
