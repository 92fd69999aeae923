"""/find: the command palette, and the same as a page without script: certificates, places, pages."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from litestar import Response, get
from msgspec import Struct
from msgspec.structs import replace

from certctl.core.certificate import Certificate
from certctl.core.scope import Scope
from certctl.store import saved_views
from certctl.store.listings import CERTIFICATES, TARGETS
from certctl.store.lists import Asked, read_list
from certctl.store.stats import IN_USE
from certctl.store.tx import Tx
from certctl.web import marks
from certctl.web.configure.kinds import KINDS
from certctl.web.entries import entries
from certctl.web.guard import needs
from certctl.web.marks import Mark
from certctl.web.pages import render
from certctl.web.request import WebRequest
from certctl.web.rows import gather
from certctl.web.saved import lists
from certctl.web.words import gettext as _

_MOST = 6
_LONGEST = 256


class Option(Struct, frozen=True, kw_only=True):
    """One thing found."""

    href: str
    icon: str
    kind: str
    text: str
    more: str
    end: str


class Shelf(Struct, frozen=True, kw_only=True):
    """Things of one sort."""

    heading: str
    options: list[Option]


@get("/find", opt=needs("cert.read"))
async def show(request: WebRequest) -> Response[str]:
    """What fits; `>` looks for pages and acts alone, `#` for serial numbers and fingerprints, `@` for places."""
    typed = request.query_params.get("q", "").strip()[:_LONGEST]
    sign, word = (typed[:1], typed[1:].strip()) if typed[:1] in {">", "#", "@"} else ("", typed)
    shelves = []
    if word and sign in {"", "#"}:
        shelves.append(await _certificates(request, word))
    if word and sign in {"", "@"} and request.may("target.read"):
        shelves.append(await _places(request, request.seen_by("target.read"), word))
    if sign in {"", ">"}:
        shelves.append(_pages(request, word))
        shelves.append(await _views(request, word))
    if sign == ">" or (word and not sign):
        shelves.append(_acts(request, word))
    return await render(request, "find.html", q=typed, shelves=[shelf for shelf in shelves if shelf.options])


async def _certificates(request: WebRequest, word: str) -> Shelf:
    asked = Asked(q=word, sort="expiresAt", limit=_MOST)
    now = request.ctx.now()
    async with request.ctx.database.read() as tx:
        found = await read_list(tx, request.visible, CERTIFICATES, asked)
        best = await _in_use_first(tx, request.visible, found.data, asked)
        gathered = await gather(tx, request.visible, best, now)
    options = []
    for facts in gathered:
        mark: Mark = marks.mark(facts)
        end = facts.certificate.expires_at
        options.append(
            Option(
                href=f"/certificates/{facts.certificate.id}",
                icon=mark.shape,
                kind=mark.kind,
                text=facts.certificate.name,
                more=mark.word,
                end=end.strftime("%Y-%m-%d") if end else "",
            )
        )
    total = f"{found.total:,}{'+' if found.estimated else ''}"
    heading = _("Certificates, {shown} of {total}").format(shown=len(options), total=total)
    if found.total > len(options):
        options.append(
            Option(
                href=f"/certificates?q={_quoted(word)}",
                icon="i-search",
                kind="",
                text=_("Show all {total} in Certificates").format(total=total),
                more="",
                end="",
            )
        )
    return Shelf(heading=heading, options=options)


async def _in_use_first(tx: Tx, scope: Scope, found: Sequence[Certificate], asked: Asked) -> list[Certificate]:
    """What was revoked or archived ended long ago and would come first: who looks for a name means the living one."""
    if all(each.status in IN_USE for each in found):
        return list(found)
    living = (
        await read_list(tx, scope, CERTIFICATES, replace(asked, filters={"status": tuple(map(str, IN_USE))}))
    ).data
    known = {each.id for each in living}
    return [*living, *(each for each in found if each.id not in known)][: asked.limit]


def _quoted(word: str) -> str:
    return quote(word, safe="")


async def _places(request: WebRequest, scope: Scope, word: str) -> Shelf:
    async with request.ctx.database.read() as tx:
        found = await read_list(tx, scope, TARGETS, Asked(q=word, sort="name", limit=_MOST))
        mapped = {row.id: row for row in found.data}
    options = [
        Option(
            href=f"/certificates?target_id={_quoted(row.id)}",
            icon="i-target",
            kind="",
            text=row.name,
            more=row.type,
            end="",
        )
        for row in mapped.values()
    ]
    return Shelf(heading=_("Places"), options=options)


def _pages(request: WebRequest, word: str) -> Shelf:
    wanted = word.lower()
    listed = [(each.text, each.path, each.icon, each.permission) for _heading, group in entries(None) for each in group]
    listed += [(kind.words().many, kind.path, "i-gear", kind.read) for kind in KINDS]
    return _shelf(request, _("Pages"), wanted, listed)


async def _views(request: WebRequest, word: str) -> Shelf:
    """The filters that the caller keeps under a name."""
    async with request.ctx.database.read() as tx:
        kept = await saved_views.of_actor(tx, request.ctx.scope, request.actor.id)
    known = lists()
    options = [
        Option(
            href=f"{view.path}?{view.query}" if view.query else view.path,
            icon="i-search",
            kind="",
            text=view.name,
            more=known[view.path][0],
            end="",
        )
        for view in kept
        if word.lower() in view.name.lower() and view.path in known and request.may(known[view.path][1])
    ]
    return Shelf(heading=_("Your views"), options=options)


def _acts(request: WebRequest, word: str) -> Shelf:
    """What can be begun, by its verb."""
    listed = [
        (_("Request a certificate"), "/request", "i-plus", "cert.issue"),
        (_("Your views"), "/views", "i-gear", ""),
        (_("Enrol an agent"), "/enrol", "i-plus", "agent.edit"),
        (_("New key"), "/keys/new", "i-plus", "auth.key.create"),
        (_("New role"), "/roles/new", "i-plus", "auth.role.create"),
        (_("New health check"), "/health-checks/new", "i-plus", "healthcheck.edit"),
    ]
    listed += [(kind.words().new, f"{kind.path}/new", "i-plus", kind.edit) for kind in KINDS]
    return _shelf(request, _("Acts"), word.lower(), listed)


def _shelf(request: WebRequest, heading: str, wanted: str, listed: Sequence[tuple[str, str, str, str]]) -> Shelf:
    """Those whose text holds the word and that the caller may open, each address once."""
    found: dict[str, Option] = {}
    for text, path, icon, permission in listed:
        if wanted in text.lower() and (not permission or request.may(permission)):
            found.setdefault(path, Option(href=path, icon=icon, kind="", text=text, more="", end=""))
    return Shelf(heading=heading, options=list(found.values()))


HANDLERS = (show,)
