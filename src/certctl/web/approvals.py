"""/approvals: what waits for a second person, why, and what changes; approve it, or reject it with a reason."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath
from msgspec import Struct

from certctl.control import approvals as control
from certctl.core.approval import PROFILE_EDIT, Approval
from certctl.core.catalogue import IssuerRecord, Profile
from certctl.core.errors import NotAllowed, NotFound
from certctl.core.scope import Scope
from certctl.core.status import ApprovalState
from certctl.doors.driving import drive
from certctl.lifecycle.approve import Decision
from certctl.store import approvals as store
from certctl.store import truths, views
from certctl.store.act_listings import APPROVALS
from certctl.store.truths import Leaf
from certctl.store.tx import Tx
from certctl.web import tables
from certctl.web.acts import act, going
from certctl.web.guard import needs
from certctl.web.jobs import type_word
from certctl.web.marks import URGENT, Mark
from certctl.web.pages import render
from certctl.web.request import Fields, WebRequest
from certctl.web.words import gettext as _
from certctl.web.words import span

PATH = "/approvals"


class Change(Struct, frozen=True, kw_only=True):
    """One field of what is asked against what is there."""

    name: str
    gone: tuple[str, ...]
    come: tuple[str, ...]
    same: tuple[str, ...]


@get(PATH, opt=needs("approval.read"))
async def show_all(request: WebRequest) -> Response[str]:
    """The queue; the first that waits is open."""
    return await _page(request, "")


@get(f"{PATH}/{{approval_id:str}}", opt=needs("approval.read"))
async def show(request: WebRequest, approval_id: FromPath[str]) -> Response[str]:
    """One to decide about, beside the queue."""
    return await _page(request, approval_id)


async def _page(request: WebRequest, approval_id: str, fault: str = "", note: str = "") -> Response[str]:
    scope, now = request.visible, request.ctx.now()
    usual = {"state": str(ApprovalState.PENDING), "sort": "createdAt"}
    async with request.ctx.database.read() as tx:
        table = await tables.read(request, tx, APPROVALS, scope, unless_said=usual)
        names = await truths.named_certificates(tx, scope, [row.certificate_id for row in table.rows])
        one = await _chosen(tx, scope, table.rows, approval_id)
        if one is not None and one.certificate_id not in names:
            names |= await truths.named_certificates(tx, scope, [one.certificate_id])
        detail: dict[str, Any] = {
            "changes": [],
            "profile": "",
            "mine": False,
            "deadline": None,
            "issuer": "",
            "urgent": False,
        }
        if one is not None:
            detail |= await _detail(request, tx, scope, one)
    return await render(
        request,
        "approvals.html",
        type_word=type_word,
        status=400 if fault else 200,
        table=table,
        names=names,
        one=one,
        fault=fault,
        note=note,
        marks={row.id: state_mark(row) for row in [*table.rows, *([one] if one else [])]},
        tabs=[
            (_("Waiting"), table.to(state=""), table.chosen("state") in {"", "pending"}),
            (_("Approved"), table.to(state="approved"), table.chosen("state") == "approved"),
            (_("Rejected"), table.to(state="rejected"), table.chosen("state") == "rejected"),
            (_("Ended undecided"), table.to(state="expired"), table.chosen("state") == "expired"),
        ],
        waited={row.id: span(now - row.created_at) for row in table.rows},
        **detail,
    )


async def _chosen(tx: Tx, scope: Scope, rows: list[Approval], approval_id: str) -> Approval | None:
    if approval_id:
        return await store.approval(tx, scope, approval_id)
    return rows[0] if rows else None


async def _detail(request: WebRequest, tx: Tx, scope: Scope, one: Approval) -> dict[str, Any]:
    """What is asked against the version that is there, and whether the caller may be the second person."""
    whole = Scope.whole(scope.tenant_id)
    if one.kind == PROFILE_EDIT:
        profiles = await truths.named(tx, whole, Profile, [one.profile_id])
        mine = await _is_mine(tx, request, one)
        return {"changes": edit_of(one), "profile": profiles.get(one.profile_id, one.profile_id), "mine": mine}
    try:
        certificate = await views.certificate(tx, scope, one.certificate_id)
    except NotFound:
        return {}
    leaves = (await truths.leaves(tx, scope, [one.certificate_id]))[one.certificate_id]
    issuer_id = str(one.metadata.get("issuer_id", ""))
    issuers = await truths.named(tx, whole, IssuerRecord, [issuer_id, *(leaf.issuer_id for leaf in leaves)])
    profiles = await truths.named(tx, whole, Profile, [one.profile_id])
    mine = await _is_mine(tx, request, one)
    end = certificate.expires_at if leaves else None
    return {
        "changes": changes_of(one, leaves[0] if leaves else None, issuers),
        "profile": profiles.get(one.profile_id, one.profile_id),
        "issuer": issuers.get(issuer_id, issuer_id),
        "mine": mine,
        "deadline": end,
        "urgent": end is not None and end - request.ctx.now() <= URGENT,
    }


async def _is_mine(tx: Tx, request: WebRequest, one: Approval) -> bool:
    try:
        return bool(await control.same_hands(tx, request.ctx, request.actor.id, one.requested_by, one.created_at))
    except NotAllowed:
        return True


def edit_of(one: Approval) -> list[Change]:
    """Each field that an edit of a profile changes: what goes and what comes."""
    before = dict(one.metadata.get("before", {}))
    return [
        Change(name=name, gone=(_told(before.get(name)),), come=(_told(value),), same=())
        for name, value in sorted((one.payload or {}).items())
    ]


def _told(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def changes_of(one: Approval, leaf: Leaf | None, issuers: dict[str, str]) -> list[Change]:
    """Each field of what is asked; with a version there, what goes and what comes."""
    said = one.metadata
    every = [str(said.get("common_name", "")), *(str(name).removeprefix("dns:") for name in said.get("names", []))]
    names = tuple(dict.fromkeys(every))
    life = span(timedelta(seconds=int(said.get("validity_seconds") or 0)))
    issuer_id = str(said.get("issuer_id", ""))
    asked = [
        (_("Names"), names, names),
        (_("Life"), (life,), (span(leaf.not_after - leaf.not_before),) if leaf else ()),
        (
            _("Issuer"),
            (issuers.get(issuer_id, issuer_id),),
            (issuers.get(leaf.issuer_id, leaf.issuer_id),) if leaf else (),
        ),
    ]
    if said.get("key_algorithm"):
        key = str(said["key_algorithm"])
        asked.append((_("Key"), (key,), (key,)))
    found = []
    for name, new, old in asked:
        before = old if leaf is not None else ()
        found.append(
            Change(
                name=name,
                gone=tuple(each for each in before if each not in new),
                come=tuple(each for each in new if each not in before),
                same=tuple(each for each in new if each in before),
            )
        )
    return found


def state_mark(row: Approval) -> Mark:
    """How an approval stands."""
    s = ApprovalState
    return {
        s.PENDING: Mark("warn", "s-wait", _("Waits")),
        s.APPROVED: Mark("ok", "s-ok", _("Approved")),
        s.REJECTED: Mark("bad", "s-bad", _("Rejected")),
        s.EXPIRED: Mark("unk", "s-none", _("Ended undecided")),
    }[ApprovalState(row.state)]


@post(f"{PATH}/{{approval_id:str}}/approve", opt=needs("approval.approve"))
async def approve(request: WebRequest, approval_id: FromPath[str]) -> Response[str]:
    """By another person than who asked; covers just what was shown."""

    async def doing(fields: Fields) -> str:
        await _decide(request, approval_id, fields, approved=True)
        return going(f"{PATH}/{approval_id}", "approved")

    return await act(request, doing)


@post(f"{PATH}/{{approval_id:str}}/reject", opt=needs("approval.reject"))
async def reject(request: WebRequest, approval_id: FromPath[str]) -> Response[str]:
    """The job is cancelled; the reason is kept."""
    fields = await request.checked()
    if not fields.get("note"):
        return await _page(request, approval_id, _("Say why: whoever asked reads it, and it stays in the record."))

    async def doing(said: Fields) -> str:
        await _decide(request, approval_id, said, approved=False)
        return going(f"{PATH}/{approval_id}", "rejected")

    return await act(request, doing)


async def _decide(request: WebRequest, approval_id: str, fields: Fields, *, approved: bool) -> None:
    decision = Decision(approved=approved, note=fields.get("note")[:2000], decision_hash=fields.get("decision_hash"))
    decided = await control.decide_approval(request.ctx, request.visible, request.actor, approval_id, decision)
    if decided.kind != PROFILE_EDIT:
        await drive(request.door, [decided.job_id])


HANDLERS = (show_all, show, approve, reject)
