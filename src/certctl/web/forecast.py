"""/forecast: the renewals to come until 2030, month by month, as lives become shorter, beside a CA's rate limit."""

from __future__ import annotations

from datetime import datetime

from litestar import Response, get
from msgspec import Struct

from certctl.control import forecast
from certctl.control.forecast import EVERYONE, Forecast, Month
from certctl.core.catalogue import IssuerRecord
from certctl.core.scope import Scope
from certctl.policy.forecast import HOUR, PUBLIC_LIMITS, Budget, Collision
from certctl.store import truths
from certctl.web.axis import percent
from certctl.web.guard import needs
from certctl.web.pages import render
from certctl.web.request import WebRequest
from certctl.web.words import gettext as _
from certctl.web.words import months, ngettext, number

PATH = "/forecast"
_MOST_ORDERS, _MOST_HOURS = 10**9, 24 * 366


class Line(Struct, frozen=True, kw_only=True):
    """One month; `limit` is the life that is the longest from this month on, where that changes."""

    month: Month
    name: str
    bar: str
    limit: str


class Queue(Struct, frozen=True, kw_only=True):
    """How one issuer's renewals fare with the budget, in words: spread, and all at once."""

    issuer_id: str
    spread: str
    unspread: str


@get(PATH, opt=needs("stats.read"))
async def show(request: WebRequest) -> Response[str]:
    """Of what the caller may see; a budget is asked for in the address."""
    asked = {name: request.query_params.get(name, "").strip() for name in ("orders", "per_hours", "bound")}
    budget, faults = _budget(asked)
    limited = frozenset({EVERYONE}) if asked["bound"] == EVERYONE else None
    wanted = forecast.Asked(until=forecast.default_end(request.ctx.now()), limited=limited, budget=budget)
    found = await forecast.foresee(request.ctx, request.seen_by("stats.read"), wanted)
    whole = Scope.whole(request.ctx.scope.tenant_id)
    async with request.ctx.database.read() as tx:
        names = await truths.named(tx, whole, IssuerRecord, found.limited_issuers)
    return await render(
        request,
        "forecast.html",
        found=found,
        lines=_lines(found),
        queues=[_queue(one, found.as_of) for one in found.clashes],
        names=names,
        asked=asked,
        faults=faults,
    )


def _budget(asked: dict[str, str]) -> tuple[Budget | None, dict[str, str]]:
    """The budget, if one is asked for and can be; what is wrong by field."""
    if not asked["orders"] and not asked["per_hours"]:
        return None, {}
    faults = {}
    for name, most in (("orders", _MOST_ORDERS), ("per_hours", _MOST_HOURS)):
        text = asked[name]
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= most):
            faults[name] = _("A whole number from 1 to {most}").format(most=number(most))
    return (None, faults) if faults else (Budget(int(asked["orders"]), int(asked["per_hours"])), {})


def _lines(found: Forecast) -> list[Line]:
    most = max((one.renewals for one in found.months), default=0)
    steps = {(one.since.year, one.since.month): one for one in PUBLIC_LIMITS} if found.limited_issuers else {}
    lines = []
    for month in found.months:
        at = month.begins_at
        step = steps.get((at.year, at.month))
        limit = ""
        if step is not None and step.since >= found.as_of:
            day = f"{step.since.day} {months()[step.since.month - 1]}"
            limit = _("From {day} on: at most {days} days").format(day=day, days=step.longest.days)
        name = f"{months()[at.month - 1]} {at.year}"
        lines.append(Line(month=month, name=name, bar=percent(100 * month.renewals / most if most else 0), limit=limit))
    return lines


def _queue(clash: forecast.Clash, began: datetime) -> Queue:
    return Queue(issuer_id=clash.issuer_id, spread=_told(clash.spread, began), unspread=_told(clash.herd, began))


def _told(found: Collision, began: datetime) -> str:
    if not found.hours_over:
        return _("Nobody waits.")
    first = (began + found.first_hour * HOUR).date()
    waiting = round(found.most_waiting) or 1
    text = ngettext("{number} waits at most", "Up to {number} wait", waiting).format(number=number(waiting))
    if found.longest_wait < 0:
        return _("{waiting}, some beyond the end; first on {day}.").format(waiting=text, day=first)
    longest = ngettext("{number} hour", "{number} hours", found.longest_wait).format(number=number(found.longest_wait))
    return _("{waiting}, the longest for {longest}; first on {day}.").format(waiting=text, longest=longest, day=first)


HANDLERS = (show,)
