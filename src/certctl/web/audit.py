"""/audit: who did what to what, when and from where; whether the log still is what was sealed; the file to take away.

What is shown is the API's own list, with its filters in the address. The seal's state is for those who may read the
whole log; verifying it anew and exporting need a permission of their own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from litestar import Response, get, post
from litestar.params import FromPath
from msgspec import Struct

from certctl.control import audit
from certctl.core.actor import ActorType
from certctl.core.audit import Category, category_of
from certctl.core.errors import NotFound
from certctl.core.events import EventType
from certctl.ledger import EventRow
from certctl.ledger.seal import Seal
from certctl.store import truths
from certctl.store.listings import AUDIT
from certctl.web import tables
from certctl.web.guard import needs
from certctl.web.marks import Mark
from certctl.web.pages import render
from certctl.web.request import WebRequest
from certctl.web.story import actors, story
from certctl.web.words import gettext as _
from certctl.web.words import ngettext, number

PATH = "/audit"
_FILTERS = ("actor", "actor_type", "action", "resource_type", "resource_id", "request_id", "since", "until")
# where a thing that an event speaks of has its page, and what it takes to open that
_PAGES = {
    "certificate": ("/certificates", "cert.read"), "job": ("/jobs", "job.read"), "agent": ("/agents", "agent.read"),
    "issuer": ("/issuers", "issuer.read"), "target": ("/targets", "target.read"),
    "profile": ("/profiles", "profile.read"), "renewal_policy": ("/renewal-policies", "policy.read"),
    "policy": ("/policies", "policy.read"), "team": ("/teams", "team.read"), "owner": ("/owners", "owner.read"),
    "agent_group": ("/agent-groups", "agent.read"), "api_key": ("/keys", "auth.key.list"),
    "role": ("/roles", "auth.role.list"), "batch": ("/batches", "job.read"),
    "approval": ("/approvals", "approval.read"),
    "notification_channel": ("/notification-channels", "notification.read"),
    "notification": ("/notifications", "notification.read"),
    "health_check": ("/health-checks", "healthcheck.read"),
}  # fmt: skip


class Standing(Struct, frozen=True, kw_only=True):
    """How the seal stands, as a verdict: its mark, a sentence, and what it rests on."""

    mark: Mark
    told: str
    more: str
    verified_at: datetime | None = None
    walked_at: datetime | None = None
    key: str = ""


@get(PATH, opt=needs("audit.read"))
async def show_all(request: WebRequest) -> Response[str]:
    """Newest first."""
    async with request.ctx.database.read() as tx:
        table = await tables.read(request, tx, AUDIT, request.visible)
        certificates = [row.subject_id for row in table.rows if row.subject_type == "certificate"]
        names = await truths.named_certificates(tx, request.seen_by("cert.read"), certificates)
        who = await actors(tx, request, table.rows)
    return await _page(request, table, _lines(request, table.rows, names, who))


async def _page(request: WebRequest, table: tables.Table[EventRow], lines: Sequence[dict[str, Any]]) -> Response[str]:
    whole = request.visible.is_whole
    return await render(
        request,
        "audit.html",
        table=table,
        lines=lines,
        tabs=_tabs(table),
        spans=_spans(table, request.ctx.now()),
        chips=[(name.replace("_", " "), table.chosen(name), table.to(**{name: ""})) for name in _asked(table)],
        given={name: table.chosen(name) for name in _FILTERS},
        actor_types=[("", _("Any")), *((str(each), str(each)) for each in ActorType)],
        actions=[("", _("Any")), *((str(each), str(each)) for each in sorted(EventType))],
        standing=await _standing(request) if whole else None,
        export=_export(table) if whole and request.may("audit.export") else None,
    )


def _asked(table: tables.Table[EventRow]) -> list[str]:
    return [name for name in _FILTERS if table.chosen(name)]


def _tabs(table: tables.Table[EventRow]) -> list[tuple[str, str, bool]]:
    told = {
        "": _("All"),
        Category.LIFECYCLE: _("Certificates"),
        Category.AUTH: _("Access"),
        Category.CONFIG: _("Configuration"),
    }
    now = table.chosen("category")
    return [(text, table.to(category=str(word)), now == str(word)) for word, text in told.items()]


def _spans(table: tables.Table[EventRow], now: datetime) -> list[tuple[str, str]]:
    """Times that are asked for often, as links."""
    lengths = ((_("Last hour"), 1), (_("Last day"), 24), (_("Last week"), 168), (_("Last 30 days"), 720))
    return [(text, table.to(since=_rfc3339(now - timedelta(hours=hours)))) for text, hours in lengths]


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _export(table: tables.Table[EventRow]) -> list[tuple[str, str, str]]:
    """The API's own export of the time that is shown."""
    span = {"from": table.chosen("since"), "to": table.chosen("until")}
    asked = {name: value for name, value in span.items() if value}
    path = "/api/v1/audit/export"
    category = table.chosen("category")
    plain = asked | ({"category": category} if category else {})
    return [
        (_("Export, sealed"), f"{path}?{urlencode(asked | {'seal': 'true'})}", "audit-sealed.ndjson"),
        (_("Export"), f"{path}?{urlencode(plain)}" if plain else path, "audit.ndjson"),
    ]


def _lines(
    request: WebRequest, rows: Sequence[EventRow], names: dict[str, str], who: dict[str, str]
) -> list[dict[str, Any]]:
    """Each event with its sentence, who did it, and where what it speaks of has its page."""
    told = story(rows, names, who)
    return [
        {
            "event": row,
            "told": line,
            "who": who.get(row.actor, row.actor),
            "href": _page_of(request, row),
            "name": names.get(row.subject_id, row.subject_id),
        }
        for row, line in zip(rows, told, strict=True)
    ]


def _page_of(request: WebRequest, row: EventRow) -> str:
    page, permission = _PAGES.get(row.subject_type, ("", ""))
    return f"{page}/{row.subject_id}" if page and row.subject_id and request.may(permission) else ""


async def _standing(request: WebRequest) -> Standing:
    try:
        return standing(await audit.read(request.ctx))
    except NotFound:
        told = _("Nothing is sealed yet. The first events are within seconds.")
        return Standing(mark=Mark("unk", "s-unknown", _("Not sealed yet")), told=told, more="")


def standing(seal: Seal) -> Standing:
    """The seal's state in words: what verification found last, and how much of the log it looked at."""
    tree = seal.tree
    facts: dict[str, Any] = {
        "verified_at": tree.verified_at,
        "walked_at": tree.walked_at,
        "key": seal.verifier_key,
        "more": _waiting(seal.unsealed),
    }
    if tree.broken:
        said = _("Entry {number} is not what was sealed: {what}").format(
            number=number(tree.broken_at or 0), what=tree.broken
        )
        return Standing(mark=Mark("bad", "s-bad", _("Broken")), told=said, **facts)
    if tree.verified_at is None:
        said = _("{size} events are sealed; nobody has verified them yet.").format(size=number(tree.size))
        return Standing(mark=Mark("unk", "s-unknown", _("Sealed, not verified")), told=said, **facts)
    said = _("{verified} of {size} sealed events were held against their seal and are unchanged.").format(
        verified=number(tree.verified_size), size=number(tree.size)
    )
    return Standing(mark=Mark("ok", "s-ok", _("Unchanged")), told=said, **facts)


def _waiting(unsealed: int) -> str:
    if not unsealed:
        return ""
    return ngettext("{number} event waits for its seal.", "{number} events wait for their seal.", unsealed).format(
        number=number(unsealed)
    )


@post(f"{PATH}/verify", opt=needs("audit.export"))
async def verify(request: WebRequest) -> Response[str]:
    """Hold every event against its seal, now; what was found is kept and shown."""
    await request.checked()
    request.visible.check_whole("verifying the audit seal")
    found = await audit.verify_all(request.ctx)
    result = Mark("ok", "s-ok", _("Unchanged")) if found.broken is None else Mark("bad", "s-bad", _("Broken"))
    return await render(
        request,
        "verified.html",
        found=found,
        result=result,
        standing=standing(await audit.read(request.ctx)),
    )


@get(f"{PATH}/{{event_id:str}}", opt=needs("audit.read"))
async def show(request: WebRequest, event_id: FromPath[str]) -> Response[str]:
    """One event whole, and its place under the seal."""
    row = await audit.event(request.ctx, request.visible, event_id)
    if row is None:
        raise NotFound(f"no audit event {event_id}")
    async with request.ctx.database.read() as tx:
        names = await truths.named_certificates(tx, request.seen_by("cert.read"), [row.subject_id])
        who = await actors(tx, request, [row])
    (line,) = _lines(request, [row], names, who)
    return await render(
        request,
        "audit-event.html",
        line=line,
        category=category_of(row.type),
        details=[(name, _told(value)) for name, value in sorted(row.details.items())],
        proof=await _proof(request, event_id) if request.visible.is_whole else None,
    )


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


async def _proof(request: WebRequest, event_id: str) -> audit.Inclusion | None:
    try:
        return await audit.prove_inclusion(request.ctx, event_id)
    except NotFound:
        return None


HANDLERS = (show_all, verify, show)
