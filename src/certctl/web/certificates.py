"""/certificates: find one of a million. Filters, order and place live in the address; pages go by keyset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from litestar import Response, get
from msgspec import Struct

from certctl.core.catalogue import IssuerRecord, Owner, Profile, RenewalPolicy, Team
from certctl.core.certificate import Certificate
from certctl.core.scope import Scope
from certctl.core.status import CertificateStatus
from certctl.core.target import AgentRecord, TargetRecord
from certctl.doors.paging import read_list_query, read_query
from certctl.doors.totals import Totals
from certctl.store import labels, stats, truths
from certctl.store.listings import CERTIFICATES
from certctl.store.lists import MOST_COUNTED, Asked, Found, Total, read_list
from certctl.store.stats import Summary
from certctl.store.tx import Tx
from certctl.web import bulk
from certctl.web.axis import around, day_ticks
from certctl.web.guard import needs
from certctl.web.pages import render
from certctl.web.request import WebRequest
from certctl.web.rows import gather, names_of, rows
from certctl.web.words import gettext as _
from certctl.web.words import ngettext, number

PATH = "/certificates"
SIZE = 50
# parameters of the page itself, not of the list
_OWN = frozenset({"done"})
_SHOWN_STATUSES = ",".join(str(each) for each in CertificateStatus if each != CertificateStatus.ARCHIVED)
_ENDED = frozenset({CertificateStatus.ARCHIVED, CertificateStatus.REVOKED})
_IN_USE = ",".join(str(each) for each in CertificateStatus if each not in _ENDED)
_ATTENTION = (CertificateStatus.FAILED, CertificateStatus.EXPIRED)
_KINDS: Mapping[str, type[Struct]] = {
    "issuer_id": IssuerRecord,
    "team_id": Team,
    "owner_id": Owner,
    "profile_id": Profile,
    "renewal_policy_id": RenewalPolicy,
    "agent_id": AgentRecord,
    "target_id": TargetRecord,
}


class Chip(Struct, frozen=True, kw_only=True):
    """One filter that is set, and the address without it."""

    name: str
    field: str
    value: str
    without: str


class View(Struct, frozen=True, kw_only=True):
    """A tab above the list."""

    text: str
    href: str
    count: str
    current: bool


class Heading(Struct, frozen=True, kw_only=True):
    """A column that sorts: where its click leads, and how it sorts now."""

    text: str
    href: str
    sort: str


class Shown(Struct, frozen=True, kw_only=True):
    """What a pager needs."""

    told: str
    first: str
    next: str


@get(PATH, opt=needs("cert.read"))
async def show(request: WebRequest) -> Response[str]:
    """The list."""
    now = request.ctx.now()
    given = {name: values for name, values in read_query(request.scope["query_string"]).items() if name not in _OWN}
    given = {name: values for name, values in given.items() if any(values)}
    asked = read_list_query(
        CERTIFICATES,
        _completed(given),
        request.door.cursors,
        tenant_id=request.visible.tenant_id,
        fields=[],
    )
    axis = around(now, 60, 120)

    async def read(tx: Tx, totals: Totals | None) -> tuple[Any, ...]:
        found = await read_list(tx, request.visible, CERTIFICATES, asked.asked, totals)
        return (
            found,
            await gather(tx, request.visible, found.data, now),
            await names_of(tx, request.visible, found.data),
            await _views(request, tx, totals, given, now),
            await _chips(tx, request.visible, given),
            await _choices(tx, request.visible),
        )

    found, gathered, names, tabs, chips, choices = await request.door.reads.ask(request.known, read)
    following = request.door.cursors.write(found.last, asked.bound_to) if found.last else ""
    sort = given.get("sort", ["expiresAt"])[0]
    return await render(
        request,
        "certificates.html",
        rows=rows(gathered, names, axis),
        axis=axis,
        ticks=day_ticks(axis, 30),
        q=given.get("q", [""])[0],
        chips=chips,
        kept=[(name, values[0]) for name, values in given.items() if name not in {"q", "cursor"}],
        tabs=tabs,
        choices=choices,
        chosen={name: values[0] for name, values in given.items()},
        heads={name: _heading(given, sort, name, text) for name, text in _columns()},
        pager=_pager(given, found, following),
        told=_told(found),
        narrowed=bool(chips or given.get("q")),
        offered=bulk.offered(request),
        filtered=_filtered(given),
    )


def _filtered(given: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """The filters as a batch can be told them, when it can be told all of them; else nothing."""
    narrowing = {name: values for name, values in given.items() if name not in {"sort", "cursor", "page_size"}}
    known = {*bulk.FILTERS, "expires_before"}
    if not narrowing or any(name not in known or len(v) != 1 or "," in v[0] for name, v in narrowing.items()):
        return []
    return [(name, values[0]) for name, values in narrowing.items()]


def _completed(given: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    # what needs somebody comes first; what was revoked ended long ago and needs nobody, but is found by its name
    shown = _SHOWN_STATUSES if "q" in given else _IN_USE
    return {"status": [shown], "sort": ["expiresAt"], "page_size": [str(SIZE)]} | dict(given)


def _columns() -> list[tuple[str, str]]:
    return [("status", _("State")), ("name", _("Name")), ("expiresAt", _("Expires"))]


def address(given: Mapping[str, Sequence[str]], but: Sequence[str] = (), **changes: str) -> str:
    """The list's address with some parameters changed, from its beginning."""
    left_out = {"cursor", *but}
    kept = {name: list(values) for name, values in given.items() if name not in left_out}
    kept |= {name: [value] for name, value in changes.items() if value}
    return f"{PATH}?{urlencode(kept, doseq=True)}" if kept else PATH


def _heading(given: Mapping[str, Sequence[str]], sort: str, name: str, text: str) -> Heading:
    here = sort.removeprefix("-") == name
    descends = sort.startswith("-")
    turned = f"-{name}" if here and not descends else name
    told = ("descending" if descends else "ascending") if here else ""
    return Heading(text=text, href=address(given, sort=turned), sort=told)


def _told(found: Found[Certificate]) -> str:
    total = number(found.total) + ("+" if found.estimated else "")
    return ngettext("{total} certificate, {shown} shown", "{total} certificates, {shown} shown", found.total).format(
        total=total, shown=len(found.data)
    )


def _pager(given: Mapping[str, Sequence[str]], found: Found[Certificate], following: str) -> Shown:
    return Shown(
        told=_told(found),
        first=address(given) if "cursor" in given else "",
        next=address(given, cursor=following) if following else "",
    )


async def _views(
    request: WebRequest, tx: Tx, totals: Totals | None, given: Mapping[str, Sequence[str]], now: datetime
) -> list[View]:
    counts = await _by_status(tx, request.visible, totals)
    kept = [each for each in CertificateStatus if each not in _ENDED]
    everything = await _whole_summary(request) if any(total.estimated for total in counts.values()) else None
    living = everything.total_certificates - everything.revoked_certificates if everything else None
    soon = (now + timedelta(days=14)).strftime("%Y-%m-%dT00:00:00Z")
    listed: list[tuple[str, dict[str, str], str]] = [
        (_("In use"), {}, number(living) if living is not None else _at_least(counts, *kept)),
        (_("Need someone"), {"status": ",".join(_ATTENTION)}, _at_least(counts, *_ATTENTION)),
        (_("End within 14 days"), {"status": _IN_USE, "expires_before": soon}, ""),
        (_("Renewing"), {"status": "RenewalInProgress"}, _at_least(counts, CertificateStatus.RENEWAL_IN_PROGRESS)),
        (_("Nothing issued"), {"status": "Pending"}, _at_least(counts, CertificateStatus.PENDING)),
        (_("Revoked"), {"status": "Revoked"}, _at_least(counts, CertificateStatus.REVOKED)),
        (_("Archived"), {"status": "Archived"}, _at_least(counts, CertificateStatus.ARCHIVED)),
    ]
    narrowed = {name: values[0] for name, values in given.items() if name not in {"q", "sort", "cursor", "page_size"}}
    return [
        View(text=text, href=address({}, **filters), count=count, current=narrowed == filters)
        for text, filters, count in listed
    ]


async def _by_status(tx: Tx, scope: Scope, totals: Totals | None) -> dict[CertificateStatus, Total]:
    """How many read so; of the many it is remembered for a moment, as the list's own total is."""

    async def count(among: Sequence[CertificateStatus]) -> dict[CertificateStatus, Total]:
        return await stats.by_status_up_to(tx, scope, MOST_COUNTED, among)

    if totals is None:
        return await count(tuple(CertificateStatus))
    asked = {status: Asked(filters={"status": (str(status),)}) for status in CertificateStatus}
    return await totals.of_each(scope, CERTIFICATES, asked, count)


async def _whole_summary(request: WebRequest) -> Summary | None:
    """What the navigation counts anyway, where it counts the same certificates."""
    if not request.may("stats.read") or request.seen_by("stats.read") != request.visible:
        return None
    return await request.door.summaries.of(request.ctx, request.visible)


def _at_least(counts: Mapping[CertificateStatus, Total], *statuses: CertificateStatus) -> str:
    """How many read one of these; with a plus when one of them was not counted to its end."""
    asked = [counts[status] for status in statuses if status in counts]
    if any(total.estimated for total in asked):
        return f"{number(MOST_COUNTED)}+"
    return number(sum(total.number for total in asked))


async def _chips(tx: Tx, scope: Scope, given: Mapping[str, Sequence[str]]) -> list[Chip]:
    found = []
    for name, values in given.items():
        if name not in CERTIFICATES.filters:
            continue
        value = values[0]
        if name in _KINDS:
            whole = Scope.whole(scope.tenant_id)
            known = await truths.named(tx, whole if name == "issuer_id" else scope, _KINDS[name], value.split(","))
            value = ", ".join(known.get(each, each) for each in value.split(","))
        told = value.replace(",", ", ") if name == "status" else value
        found.append(Chip(name=name, field=_field(name), value=told, without=address(given, but=[name])))
    return found


def _field(name: str) -> str:
    return {
        "status": _("State"),
        "environment": _("Environment"),
        "owner_id": _("Owner"),
        "team_id": _("Team"),
        "issuer_id": _("Issuer"),
        "profile_id": _("Profile"),
        "renewal_policy_id": _("Renewal policy"),
        "agent_id": _("Agent"),
        "target_id": _("Target"),
        "source": _("Source"),
        "expires_before": _("Ends before"),
        "expires_after": _("Ends after"),
    }.get(name, name.replace("_", " ").capitalize())


async def _choices(tx: Tx, scope: Scope) -> dict[str, list[tuple[str, str]]]:
    """What the filter's selects offer."""
    found: dict[str, list[tuple[str, str]]] = {
        "status": [(str(each), str(each)) for each in CertificateStatus],
    }
    kinds = {"team_id": Team, "issuer_id": IssuerRecord, "profile_id": Profile}
    offered = await labels.first(tx, scope, list(kinds.values()), 200)
    return found | {name: [(label.id, label.name) for label in offered[kind]] for name, kind in kinds.items()}


HANDLERS = (show,)
