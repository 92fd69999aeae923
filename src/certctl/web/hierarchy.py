"""/issuers/.../hierarchy: an issuer's CAs as a tree: which issues, when each ends, how its CRL stands, what needs it;
a successor made, an old one retired.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath
from msgspec import Struct

from certctl.authority.hierarchy import CaSubject
from certctl.client.models.intermediates import IntermediateWrite
from certctl.control import hierarchy
from certctl.control.hierarchy import NewIntermediate
from certctl.core.catalogue import CaCertificate, IssuerRecord
from certctl.core.errors import CallerError, Conflict
from certctl.pki.algorithms import KeyAlgorithm
from certctl.store import authority, catalogue
from certctl.store import crl as crls
from certctl.store.authority import CaDependencies
from certctl.store.crl import CrlHead
from certctl.store.tx import Tx
from certctl.web.acts import act, going
from certctl.web.axis import Axis, Life, date_ticks, life
from certctl.web.configure.fields import ABSENT, Faults, Field, fields_of, read
from certctl.web.configure.form import Filled, Line, faults_of
from certctl.web.guard import needs
from certctl.web.marks import Mark
from certctl.web.pages import render
from certctl.web.request import Fields, WebRequest
from certctl.web.words import gettext as _

_CLEAR = 15.0  # percent of the axis
_AT = "/issuers/{issuer_id:str}/hierarchy"
_SOON = timedelta(days=180)
_NOT_ASKED = frozenset(
    {"subject", "root_cert_pem", "key_driver_id", "ocsp_responder_url", "metadata", "name_constraints"}
)


class Node(Struct, frozen=True, kw_only=True):
    """One CA of the tree, at its depth."""

    ca: CaCertificate
    depth: int
    mark: Mark
    life: Life
    crl: CrlHead | None
    crl_mark: Mark
    needed: CaDependencies
    parent: str
    revoked: bool


@get(_AT, opt=needs("ca.hierarchy.manage"))
async def show(request: WebRequest, issuer_id: FromPath[str]) -> Response[str]:
    """The tree, on one axis of time."""
    now = request.ctx.now()
    async with request.ctx.database.read() as tx:
        issuer = await hierarchy.issuer(tx, request.visible, issuer_id)
        found = await authority.ca_certificates_of(tx, request.ctx.scope, issuer_id)
        revoked = await authority.ca_revocations(tx, request.ctx.scope, issuer_id)
        axis = _axis(found, now)
        nodes = [await _node(tx, request, ca, depth, axis, found, revoked) for ca, depth in tree(found)]
    ends = [node.ca.not_after for node in nodes if node.ca.state == "active"]
    return await render(
        request,
        "hierarchy.html",
        issuer=issuer,
        nodes=nodes,
        axis=axis,
        # years are long words: few of them, and none under the word "now"
        ticks=[each for each in date_ticks(axis, 4) if abs(float(each.x.rstrip("%")) - axis.at(axis.now)) > _CLEAR],
        next_end=min(ends, default=None),
        addresses={node.ca.id: request.ctx.addresses.crl(node.ca.id) for node in nodes},
    )


def tree(found: Sequence[CaCertificate]) -> Iterator[tuple[CaCertificate, int]]:
    """Roots first, each with what stands below it, the newest first; one whose parent is elsewhere stands as a root."""
    known = {ca.id for ca in found}
    ordered = sorted(found, key=lambda ca: (ca.state == "retired", -ca.generation))
    below: dict[str, list[CaCertificate]] = {}
    for ca in ordered:
        parent = ca.parent_id if ca.parent_id in known and ca.parent_id != ca.id else ""
        below.setdefault(parent, []).append(ca)

    def walk(parent: str, depth: int) -> Iterator[tuple[CaCertificate, int]]:
        for ca in below.get(parent, ()):
            yield ca, depth
            yield from walk(ca.id, depth + 1)

    yield from walk("", 0)


def _axis(found: Sequence[CaCertificate], now: datetime) -> Axis:
    """From the first beginning to the last end; a root of decades does not hide the next few years."""
    begin = min((ca.not_before for ca in found), default=now) - timedelta(days=30)
    last = max((ca.not_after for ca in found if ca.kind != "root"), default=now + timedelta(days=365))
    return Axis(begin=begin, end=last + timedelta(days=180), now=now, left=2.0, right=98.0)


async def _node(
    tx: Tx,
    request: WebRequest,
    ca: CaCertificate,
    depth: int,
    axis: Axis,
    found: Sequence[CaCertificate],
    revoked: Container[str],
) -> Node:
    now = axis.now
    crl = (await crls.state(tx, request.ctx.scope, ca.id)).head
    mark = mark_of(ca, now, issues=_issues(ca, found), revoked=ca.id in revoked)
    parent = next((each.name or each.subject for each in found if each.id == ca.parent_id), "")
    return Node(
        ca=ca,
        depth=min(depth, 4),
        mark=mark,
        life=life(axis, ca.not_before, ca.not_after, None, "" if mark.kind in {"ok", "unk"} else mark.kind),
        crl=crl,
        crl_mark=crl_mark(crl, now),
        needed=await authority.ca_dependencies(tx, request.seen_by("cert.read"), ca.id, now),
        parent=parent if ca.kind != "root" else "",
        revoked=ca.id in revoked,
    )


def _issues(ca: CaCertificate, found: Sequence[CaCertificate]) -> bool:
    """Whether leaves are signed under this one: of several that could the newest."""
    issuing = [each for each in found if each.issues_leaves]
    return bool(issuing) and max(issuing, key=lambda each: each.generation).id == ca.id


def mark_of(ca: CaCertificate, now: datetime, *, issues: bool, revoked: bool = False) -> Mark:
    """How a CA stands."""
    if revoked:
        return Mark("bad", "s-off", _("Revoked"))
    if ca.state == "retired":
        return Mark("unk", "s-none", _("Retired"))
    if ca.not_after <= now:
        return Mark("bad", "s-bad", _("Expired"))
    if ca.not_after - now < _SOON:
        return Mark("warn", "s-due", _("Ends soon"))
    if ca.state == "retiring":
        return Mark("work", "s-work", _("Retiring"))
    if issues:
        return Mark("ok", "s-ok", _("Issues"))
    return Mark("unk", "s-ok", _("Root") if ca.kind == "root" else _("Active"))


def crl_mark(crl: CrlHead | None, now: datetime) -> Mark:
    """How its revocation list stands: what clients can fetch now."""
    if crl is None:
        return Mark("unk", "s-none", _("No CRL"))
    if crl.next_update <= now:
        return Mark("bad", "s-bad", _("Overdue"))
    return Mark("ok", "s-ok", _("CRL {number}").format(number=crl.number))


async def _form(request: WebRequest, issuer_id: str) -> tuple[IssuerRecord, list[CaCertificate], Filled]:
    async with request.ctx.database.read() as tx:
        issuer = await hierarchy.issuer(tx, request.visible, issuer_id)
        found = await authority.ca_certificates_of(tx, request.ctx.scope, issuer_id)
    above = [(ca.id, ca.name or ca.subject) for ca in found if ca.state == "active" and not ca.issues_leaves]
    options = {
        "parent_ca_id": [("", _("The root")), *above],
        "algorithm": [("", _("ECDSA-P256, as by default")), *((str(each), str(each)) for each in KeyAlgorithm)],
    }
    words = {
        "name": (_("Called here"), _("Such as Issuing CA 2027")),
        "parent_ca_id": (_("Below"), ""),
        "algorithm": (_("Key"), ""),
        "ttl_days": (_("Life in days"), _("It ends no later than what stands above it; five years are 1826")),
        "path_len_constraint": (_("Levels of CAs below it"), _("0: it issues certificates, and takes over at once")),
    }
    fields = fields_of(msgspec.json.schema(IntermediateWrite), words=words, options=options, left_out=_NOT_ASKED)
    common_name = Field(
        path="subject.common_name",
        kind="text",
        label=_("Common name"),
        hint=_("Stands in every certificate as its issuer"),
        required=True,
        longest=64,
    )
    return issuer, found, Filled(fields=(fields[0], common_name, *fields[1:]))


@get(f"{_AT}/new", opt=needs("ca.hierarchy.manage"))
async def ask(request: WebRequest, issuer_id: FromPath[str]) -> Response[str]:
    """A successor for what issues now, named after it."""
    issuer, found, form = await _form(request, issuer_id)
    now = next((ca for ca in found if _issues(ca, found)), None)
    begun: dict[str, Any] = {"path_len_constraint": 0}
    if now is not None:
        begun |= {"name": f"{now.subject} {now.generation + 1}", "subject": {"common_name": now.subject}}
    return await _new_page(request, issuer, form.lines(begun))


async def _new_page(
    request: WebRequest, issuer: IssuerRecord, lines: list[Line], faults: Sequence[str] = ()
) -> Response[str]:
    wrong = bool(faults) or any(line.fault for line in lines)
    return await render(
        request, "ca-new.html", status=400 if wrong else 200, issuer=issuer, lines=lines, faults=list(faults)
    )


@post(f"{_AT}/new", opt=needs("ca.hierarchy.manage"))
async def make(request: WebRequest, issuer_id: FromPath[str]) -> Response[str]:
    """One that issues takes over at once, and what issued before it retires."""
    said = await request.checked()
    issuer, _found, form = await _form(request, issuer_id)
    faults: Faults = {}
    values = {field.path: read(field, said, faults) for field in form.fields}
    if faults:
        return await _new_page(request, issuer, form.sent(said, faults))

    async def doing(_fields: Fields) -> str:
        wanted = NewIntermediate(
            name=values["name"],
            subject=CaSubject(common_name=values["subject.common_name"]),
            parent_ca_id=values["parent_ca_id"],
            algorithm=values["algorithm"],
            ttl_days=_or(values["ttl_days"], hierarchy.DEFAULT_DAYS),
            path_length=_or(values["path_len_constraint"], 0),
        )
        await hierarchy.create(request.ctx, request.visible, request.actor, issuer_id, wanted)
        return going(f"/issuers/{issuer_id}/hierarchy", "ca-made")

    try:
        return await act(request, doing)
    except CallerError as error:
        at_fields, rest = faults_of(form, error)
        return await _new_page(request, issuer, form.sent(said, at_fields), rest)


def _or(value: Any, usual: int) -> int:
    return usual if value is ABSENT else int(value)


@get(f"{_AT}/{{ca_id:str}}/retire", opt=needs("ca.hierarchy.manage"))
async def ask_retire(request: WebRequest, issuer_id: FromPath[str], ca_id: FromPath[str]) -> Response[str]:
    """What retiring means now."""
    return await _retire_page(request, issuer_id, ca_id)


async def _retire_page(
    request: WebRequest, issuer_id: str, ca_id: str, fault: str = "", status: int = 400
) -> Response[str]:
    async with request.ctx.database.read() as tx:
        issuer = await catalogue.get(tx, request.visible, IssuerRecord, issuer_id)
        ca = await hierarchy.find(tx, request.visible, ca_id)
        needed = await authority.ca_dependencies(tx, request.seen_by("cert.read"), ca.id, request.ctx.now())
    return await render(
        request,
        "ca-retire.html",
        status=status if fault else 200,
        issuer=issuer,
        ca=ca,
        name=ca.name or ca.subject,
        needed=needed,
        fault=fault,
    )


@post(f"{_AT}/{{ca_id:str}}/retire", opt=needs("ca.hierarchy.manage"))
async def retire(request: WebRequest, issuer_id: FromPath[str], ca_id: FromPath[str]) -> Response[str]:
    """First it issues no more; then, once nothing needs it, it is retired."""
    said = await request.checked()
    async with request.ctx.database.read() as tx:
        ca = await hierarchy.find(tx, request.visible, ca_id)
    name = ca.name or ca.subject
    if said.get("typed") != name.strip():
        fault = _("Type the name as it stands: {name}").format(name=name)
        return await _retire_page(request, issuer_id, ca_id, fault)

    async def doing(fields: Fields) -> str:
        await hierarchy.retire(
            request.ctx,
            request.visible,
            request.actor,
            ca_id,
            note=fields.get("note")[:255],
            confirm=True,
            sees=request.seen_by,
        )
        return going(f"/issuers/{issuer_id}/hierarchy", "ca-retired")

    try:
        return await act(request, doing)
    except Conflict as error:
        return await _retire_page(request, issuer_id, ca_id, error.message[:1].upper() + error.message[1:], 409)


HANDLERS = (show, ask, make, ask_retire, retire)
