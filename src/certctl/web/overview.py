"""/: will anything break, what first, why it will not heal by itself; the four truths; what is stuck, who is silent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from litestar import Response, get
from litestar.background_tasks import BackgroundTask
from msgspec import Struct

from certctl import ledger
from certctl.control.ahead import look_ahead
from certctl.core.job import Job
from certctl.core.scope import Scope
from certctl.core.status import LIVE_JOB, AgentStatus, DeploymentStatus
from certctl.core.target import AgentRecord
from certctl.doors import feed
from certctl.doors.state import AppState
from certctl.lifecycle.context import Context
from certctl.store import stats, truths
from certctl.store.listings import AGENTS, JOBS
from certctl.store.lists import Asked, read_list
from certctl.store.stats import Summary
from certctl.store.truths import Burden, PlaceCount
from certctl.store.tx import Tx
from certctl.web import reasons
from certctl.web.ahead import draw
from certctl.web.axis import around, date_ticks, heat, life
from certctl.web.guard import SIGNED_IN
from certctl.web.marks import Facts, Mark, Truth
from certctl.web.pages import render
from certctl.web.reasons import Cure
from certctl.web.request import WebRequest
from certctl.web.rows import gather, names_of
from certctl.web.story import NOTEWORTHY, Told, actors, story
from certctl.web.words import gettext as _
from certctl.web.words import language, months, ngettext, number, span, weekdays

AHEAD = 14
_SHOWN = 8
_WEEKS = 13
_FEW = 6
# so many certificates are counted before anybody asks; of fewer the count is quick
_LARGE = 5_000


class Break(Struct, frozen=True, kw_only=True):
    """One line of the break list."""

    facts: Facts
    mark: Mark
    cure: Cure
    where: str
    life: object


class Verdict(Struct, frozen=True):
    """The answer, as a sentence: the grave part of it, the rest, what follows, and its colour."""

    kind: str
    shape: str
    grave: str
    rest: str
    more: str


class Cell(Struct, frozen=True, kw_only=True):
    """One day of the heat map."""

    day: date
    number: int
    tint: int
    risk: int
    spoken: str
    today: bool


class Ahead(Struct, frozen=True, kw_only=True):
    """The heat map: columns of weeks, rows of weekdays."""

    heads: list[tuple[str, str]]
    lines: list[tuple[str, list[Cell | None]]]
    total: int


@get("/", opt=SIGNED_IN)
async def show(request: WebRequest) -> Response[str]:
    """The overview; each part for those who may see it."""
    now = request.ctx.now()
    parts: dict[str, Any] = {
        "verdict": None, "breaks": [], "at_risk": 0, "ticks": [], "axis": None, "truths": [], "all": 0,
        "ahead": None, "coming": None, "stuck": [], "silent": [], "latest": [], "summary": None,
        "certificate_names": {}, "first_steps": False, "as_of": now, "stale": False,
    }  # fmt: skip
    refresh = None
    if request.may("cert.read"):
        scope, summary = request.seen_by("cert.read"), await _summary(request)
        kept, refresh = await request.counted.soon(request.ctx, (scope, language()), _counts(request.ctx, scope))
        parts |= {"stale": refresh is not None, "summary": summary}
        parts |= kept.value | {"as_of": kept.as_of} if kept is not None else {"verdict": _counting()}
    async with request.ctx.database.read() as tx:
        if request.may("cert.read"):
            parts["latest"] = await _latest(tx, request)
        if request.may("job.read"):
            parts |= await _stuck(tx, request.seen_by("job.read"), now)
        if request.may("agent.read"):
            parts["silent"] = await _silent(tx, request.seen_by("agent.read"))
    return await render(
        request, "overview.html", background=BackgroundTask(refresh) if refresh else None, days=AHEAD, **parts
    )


async def is_long_to_count(ctx: Context) -> bool:
    """Whether the inventory is so large that nobody should wait for its first count."""
    async with ctx.database.read() as tx:
        return await stats.has_more_than(tx, ctx.scope, _LARGE)


async def count_ahead(state: AppState) -> None:
    """Count for who sees the whole tenant, in English, before the first of them asks."""
    ctx = state.ctx
    await state.summaries.of(ctx, ctx.scope)
    await state.counted.ahead(ctx, (ctx.scope, "en"), _counts(ctx, ctx.scope))


def _counts(ctx: Context, scope: Scope) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def count() -> dict[str, Any]:
        async with ctx.database.read() as tx:
            return await _breaks(tx, scope, ctx.now())

    return count


async def _summary(request: WebRequest) -> Summary | None:
    if not request.may("stats.read"):
        return None
    return await request.door.summaries.of(request.ctx, request.seen_by("stats.read"))


async def _breaks(tx: Tx, scope: Scope, now: datetime) -> dict[str, Any]:
    until = now + timedelta(days=AHEAD)
    found, all_of_them, ended = await truths.at_risk(tx, scope, now, until, 200)
    gathered = await gather(tx, scope, found[:_SHOWN], now)
    names = await names_of(tx, scope, found[:_SHOWN])
    axis = around(now, 1, AHEAD, 4.0, 96.0)
    breaks = []
    for facts in gathered:
        end = facts.certificate.expires_at
        mark = _when(facts)
        places = facts.places
        where = places[0].target_name if len(places) == 1 else ""
        if len(places) > 1:
            where = ngettext("{number} place", "{number} places", len(places)).format(number=len(places))
        breaks.append(
            Break(
                facts=facts,
                mark=mark,
                cure=reasons.cure_of(facts, names.policies.get(facts.certificate.renewal_policy_id)),
                where=where,
                life=life(axis, axis.begin, end, None, mark.kind),
            )
        )
    counts = await truths.place_counts(tx, scope)
    quiet = await truths.place_counts(tx, scope, unheard=True)
    days = await stats.expirations(tx, scope, now, _WEEKS * 7)
    by_status = await truths.issued_count(tx, scope, now)
    risky: dict[date, int] = {}
    for each in found:
        if each.expires_at is not None:
            day = max(each.expires_at, now).astimezone(UTC).date()
            risky[day] = risky.get(day, 0) + 1
    everything = by_status.all
    coming = await look_ahead(tx, scope, now, _WEEKS * 7)
    return {
        "verdict": _verdict(breaks, all_of_them, ended, everything, now),
        "breaks": breaks,
        "at_risk": all_of_them,
        "axis": axis,
        "ticks": date_ticks(axis, 3),
        "truths": _truths(by_status, counts, quiet),
        "all": everything,
        "ahead": _ahead(days, risky, now),
        "coming": draw(coming),
        "first_steps": everything == 0,
    }


def _counting() -> Verdict:
    """What is said while the first count since the start is under way."""
    said = _("Counting what is issued, deployed and served, for the first time since the start.")
    return Verdict("work", "s-work", "", said, _("This takes some seconds; the page shows it by itself."))


def _when(facts: Facts) -> Mark:
    end = facts.certificate.expires_at
    if end is None or end <= facts.now:
        return Mark("bad", "s-bad", _("Broken now"))
    word = _("Breaks in {span}").format(span=span(end - facts.now))
    return Mark("bad", "s-bad", word) if facts.urgent else Mark("warn", "s-warn", word)


def _verdict(breaks: list[Break], at_risk: int, ended: int, everything: int, now: datetime) -> Verdict:
    if not everything:
        return Verdict(
            "unk", "s-none", "", _("Nothing is managed yet."), _("A first certificate takes about five minutes.")
        )
    left = at_risk - ended
    others = max(0, everything - at_risk)
    calm = ngettext(
        "Nobody needs to act on the other {number}.", "Nobody needs to act on the other {number}.", others
    ).format(number=number(others))
    coming = next((each for each in breaks if (each.facts.certificate.expires_at or now) > now), None)
    following = ""
    if coming is not None and coming.facts.certificate.expires_at is not None:
        following = _("The next is {name}, in {span}.").format(
            name=coming.facts.certificate.name, span=span(coming.facts.certificate.expires_at - now)
        )
    more = f"{following} {calm}".strip() if others else following
    if ended:
        grave = ngettext("{number} is broken now.", "{number} are broken now.", ended).format(number=number(ended))
        rest = ""
        if left:
            rest = ngettext(
                "{number} more will break within {days} days.", "{number} more will break within {days} days.", left
            ).format(number=number(left), days=AHEAD)
        return Verdict("bad", "s-bad", grave, rest, more)
    if left:
        grave = ngettext(
            "{number} will break within {days} days.", "{number} will break within {days} days.", left
        ).format(number=number(left), days=AHEAD)
        urgent = any(each.facts.urgent for each in breaks)
        return Verdict("bad" if urgent else "warn", "s-bad" if urgent else "s-warn", grave, "", more)
    said = _("Nothing will break within {days} days.").format(days=AHEAD)
    return Verdict(
        "ok", "s-ok", "", said, _("Each that ends by then is renewed by itself before it does, as far as was seen.")
    )


def _truths(issued: truths.Issued, counts: list[PlaceCount], quiet: list[PlaceCount]) -> list[Truth]:
    """The four truths of all, counted by certificate and by place; what a place whose agent is silent (`quiet`) serves
    now is unknown, but for what was seen to be wrong, as on the certificate's own page.
    """

    def among(*statuses: str, fresh: bool | None = None, of: list[PlaceCount] = counts) -> int:
        return sum(each.number for each in of if each.status in statuses and fresh in {None, each.fresh})

    every = sum(each.number for each in counts)
    d = DeploymentStatus
    there = among(d.APPLIED, d.VERIFIED, d.DRIFTED, fresh=True)
    moving, failed, none = among(d.PENDING, d.APPLYING), among(d.FAILED), among("")
    older = among(d.APPLIED, d.VERIFIED, d.DRIFTED, d.SUPERSEDED, fresh=False)
    unheard = sum(each.number for each in quiet) - among(d.DRIFTED, of=quiet)
    seen = among(d.VERIFIED, fresh=True) - among(d.VERIFIED, fresh=True, of=quiet)
    unseen = among(d.APPLIED, fresh=True) - among(d.APPLIED, fresh=True, of=quiet)
    drifted = among(d.DRIFTED)
    elsewhere = every - seen - drifted - unseen - unheard
    return [
        _counted("I", _("Issued"), issued.valid, issued.all, [
            (issued.ended, ngettext("{n} has expired", "{n} have expired", issued.ended), "bad"),
            (issued.waiting, ngettext("{n} has no version yet", "{n} have no version yet", issued.waiting), "unk"),
        ]),
        _counted("D", _("Deployed"), there, every, [
            (failed, ngettext("{n} failed, tried again", "{n} failed, tried again", failed), "bad"),
            (moving, ngettext("{n} being deployed", "{n} being deployed", moving), "work"),
            (older, ngettext("{n} has an older version", "{n} have an older version", older), "warn"),
            (none, ngettext("{n} has got none yet", "{n} have got none yet", none), "unk"),
        ]),
        _counted("S", _("Served"), seen, every, [
            (drifted, ngettext("{n} serves another", "{n} serve another", drifted), "bad"),
            (unheard, ngettext("{n} unknown, an agent is silent", "{n} unknown, agents are silent", unheard), "unk"),
            (unseen, ngettext("{n} not looked at", "{n} not looked at", unseen), "unk"),
            (elsewhere, ngettext("{n} has nothing to serve yet", "{n} have nothing yet", elsewhere), "unk"),
        ]),
        _counted("T", _("Trusted"), seen, every, [
            (every - seen, ngettext("{n} not proven", "{n} not proven", every - seen), "unk"),
        ]),
    ]  # fmt: skip


_SHAPES = {"ok": "s-ok", "work": "s-work", "warn": "s-warn", "bad": "s-bad", "unk": "s-unknown"}


def _counted(letter: str, name: str, good: int, every: int, faults: list[tuple[int, str, str]]) -> Truth:
    told = [(text.format(n=number(count)), kind) for count, text, kind in faults if count]
    kind = told[0][1] if told else "ok" if good == every and every else "unk"
    unit = _("{good} of {every}").format(good=number(good), every=number(every))
    return Truth(kind, _SHAPES[kind] if every else "s-none", letter, name, unit, tuple(text for text, _kind in told))


def _ahead(days: list[stats.DayCount], risky: dict[date, int], now: datetime) -> Ahead:
    """Weeks across from this one's Monday, days down; days before today are left out."""
    today = now.astimezone(UTC).date()
    numbers = {each.day: each.number for each in days}
    tints = dict(zip(numbers, heat(list(numbers.values())), strict=True))
    first = today - timedelta(days=today.weekday())
    heads, seen = [], 0
    for week in range(_WEEKS):
        monday = first + timedelta(weeks=week)
        heads.append(("" if monday.month == seen else months()[monday.month - 1], str(monday.day)))
        seen = monday.month
    lines: list[tuple[str, list[Cell | None]]] = []
    for weekday, name in enumerate(weekdays()):
        cells: list[Cell | None] = []
        for week in range(_WEEKS):
            day = first + timedelta(weeks=week, days=weekday)
            if day not in numbers:
                cells.append(None)
                continue
            count, risk = numbers[day], risky.get(day, 0)
            spoken = _("{day} {month}: {number} expire").format(
                day=day.day, month=months()[day.month - 1], number=number(count)
            )
            if risk:
                spoken += ", " + _("{number} cannot renew").format(number=number(risk))
            cells.append(Cell(day=day, number=count, tint=tints[day], risk=risk, spoken=spoken, today=day == today))
        lines.append((name, cells))
    return Ahead(heads=heads, lines=lines, total=sum(numbers.values()))


async def _stuck(tx: Tx, scope: Scope, now: datetime) -> dict[str, Any]:
    """Live jobs that failed before or have been under way for longer than ten minutes, oldest first."""
    asked = Asked(filters={"status": tuple(str(each) for each in LIVE_JOB)}, sort="createdAt", limit=50)
    found = await read_list(tx, scope, JOBS, asked)
    slow = timedelta(minutes=10)
    stuck: list[Job] = [job for job in found.data if job.last_error or now - job.created_at > slow][:_FEW]
    names = await truths.named_certificates(tx, scope, [job.certificate_id for job in stuck])
    return {"stuck": stuck, "certificate_names": names, "live_jobs": found.total}


class Quiet(Struct, frozen=True, kw_only=True):
    """An agent that is silent, and what depends on it."""

    agent: AgentRecord
    burden: Burden | None


async def _silent(tx: Tx, scope: Scope) -> list[Quiet]:
    asked = Asked(filters={"status": (str(AgentStatus.OFFLINE),)}, sort="lastHeartbeatAt", limit=_FEW)
    found = await read_list(tx, scope, AGENTS, asked)
    burdens = await truths.burdens(tx, scope, [agent.id for agent in found.data])
    return [Quiet(agent=agent, burden=burdens.get(agent.id)) for agent in found.data]


async def _latest(tx: Tx, request: WebRequest) -> list[Told]:
    rows = await ledger.recent(tx, request.ctx.scope, 100)
    seen = [row for row in await feed.seen_by(tx, request.caller, rows) if row.type in NOTEWORTHY][:_FEW]
    names = await truths.named_certificates(tx, request.seen_by("cert.read"), [row.subject_id for row in seen])
    return story(seen, names, await actors(tx, request, seen))


HANDLERS = (show,)
