"""What people read: translations (gettext), spans of time, moments, numbers. Pure but for the catalogue's files.

English is the source; another language is a file `locale/<language>/LC_MESSAGES/certctl.mo` beside this module.
"""

from __future__ import annotations

import gettext as catalogue
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote
from zoneinfo import ZoneInfo, available_timezones

DOMAIN = "certctl"
ZONE_COOKIE = "certctl_zone"
_NO_PLACES = frozenset({"Etc", "SystemV", "posix", "right"})
_LOCALES = Path(__file__).parent / "locale"
_LANGUAGE: ContextVar[str] = ContextVar("certctl_language", default="en")
_ZONE: ContextVar[tzinfo] = ContextVar("certctl_zone", default=UTC)
_JUST_NOW = timedelta(seconds=2)


def speak(accept_language: str) -> None:
    """Take the first language that a browser accepts and that there is a catalogue for."""
    wished = [part.partition(";")[0].strip().lower()[:16] for part in accept_language.split(",")[:8]]
    _LANGUAGE.set(next((each for each in wished if each in languages()), "en"))


def tell_times_in(cookies: Mapping[str, str]) -> None:
    """Take the time zone that a browser keeps, by its IANA name; UTC for one that this host does not know."""
    name = unquote(cookies.get(ZONE_COOKIE, ""))
    _ZONE.set(ZoneInfo(name) if name and name in zones() else UTC)


def zone() -> str:
    """The name of the zone that times are told in; empty for UTC."""
    return getattr(_ZONE.get(), "key", "")


@lru_cache(maxsize=1)
def zones() -> frozenset[str]:
    """The time zones that can be chosen, by the names of places; none where the host has no data on them."""
    # "Etc/GMT+5" lies west of Greenwich: nobody chooses that on purpose
    return frozenset(name for name in available_timezones() if "/" in name and name.split("/")[0] not in _NO_PLACES)


def language() -> str:
    """The language of this page."""
    return _LANGUAGE.get()


@lru_cache(maxsize=1)
def languages() -> frozenset[str]:
    """The languages that there are."""
    found = _LOCALES.glob(f"*/LC_MESSAGES/{DOMAIN}.mo")
    return frozenset({"en", *(path.parent.parent.name.lower() for path in found)})


@lru_cache(maxsize=32)
def _translations(name: str) -> catalogue.NullTranslations:
    return catalogue.translation(DOMAIN, _LOCALES, [name], fallback=True)


def gettext(text: str) -> str:
    """The text in the page's language."""
    return _translations(_LANGUAGE.get()).gettext(text)


def ngettext(one: str, many: str, number: int) -> str:
    """The text for a number of things in the page's language."""
    return _translations(_LANGUAGE.get()).ngettext(one, many, number)


_ = gettext


def span(length: timedelta) -> str:
    """A span in two units at most: 5 h 48 m, 38 s, 102 d."""
    seconds = int(abs(length.total_seconds()))
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    if days >= 14 or (days and not hours):
        return _("{days} d").format(days=f"{days:,}")
    if days:
        return _("{days} d {hours} h").format(days=days, hours=hours)
    if hours:
        return (_("{hours} h {minutes} m") if minutes else _("{hours} h")).format(hours=hours, minutes=minutes)
    if minutes:
        return _("{minutes} m").format(minutes=minutes)
    return _("{seconds} s").format(seconds=seconds)


def relative(moment: datetime, now: datetime) -> str:
    """How far a moment is from now: 2 h 10 m ago, in 5 h 48 m."""
    away = moment - now
    if abs(away) < _JUST_NOW:
        return _("just now")
    return (_("in {span}") if away > timedelta(0) else _("{span} ago")).format(span=span(away))


def exact(moment: datetime) -> str:
    """The whole moment in the zone that was chosen, and in UTC always."""
    utc = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    zone = _ZONE.get()
    if zone is UTC:
        return utc
    here = moment.astimezone(zone)
    return f"{here.strftime('%Y-%m-%d %H:%M:%S')} {here.tzname()} ({utc})"


def clock(moment: datetime, form: str = "%H:%M") -> str:
    """The time of day in the zone that was chosen, with its name."""
    here = moment.astimezone(_ZONE.get())
    return f"{here.strftime(form)} {here.tzname()}"


def months() -> list[str]:
    """The short names of the months, January first."""
    return [
        _("Jan"), _("Feb"), _("Mar"), _("Apr"), _("May"), _("Jun"),
        _("Jul"), _("Aug"), _("Sep"), _("Oct"), _("Nov"), _("Dec"),
    ]  # fmt: skip


def weekdays() -> list[str]:
    """The short names of the days, Monday first."""
    return [_("Mon"), _("Tue"), _("Wed"), _("Thu"), _("Fri"), _("Sat"), _("Sun")]


def day(moment: datetime, now: datetime) -> str:
    """A day, with its year when that is another than now: 21 Feb, 21 Feb 2027."""
    zone = _ZONE.get()
    at = moment.astimezone(zone)
    told = f"{at.day} {months()[at.month - 1]}"
    return told if at.year == now.astimezone(zone).year else f"{told} {at.year}"


def number(value: int) -> str:
    """A count with its thousands apart."""
    return f"{value:,}"
