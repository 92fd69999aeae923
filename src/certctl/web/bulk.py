"""/bulk and /batches: one act on many certificates: chosen, previewed item by item, begun, followed to its end.

The preview is a real dry run of the API's batches; what is begun then acts on exactly what the preview said it could.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath

from certctl.client.models.batches import Failures, WavePause, WaveSize
from certctl.control import batches as control
from certctl.control import halting
from certctl.core.batch import Batch, BatchItem, Selection
from certctl.core.catalogue import Owner, Team
from certctl.core.errors import Malformed, NotAllowed
from certctl.core.scope import Scope
from certctl.core.status import BatchAction, BatchStatus, ItemStatus
from certctl.doors import batches as door
from certctl.store import batches as store
from certctl.store import truths, views
from certctl.store.act_listings import ITEMS, batches_shown_to
from certctl.store.lists import Slice
from certctl.store.tx import Tx
from certctl.web import acting, tables
from certctl.web.acts import act, going
from certctl.web.configure import wording
from certctl.web.guard import SIGNED_IN, needs
from certctl.web.marks import Mark
from certctl.web.pages import render
from certctl.web.request import Fields, WebRequest
from certctl.web.words import gettext as _
from certctl.web.words import number

PATH = "/batches"
_NEEDS = {
    BatchAction.RENEW: "cert.issue",
    BatchAction.REVOKE: "cert.bulk_revoke",
    BatchAction.REASSIGN: "cert.edit",
}
# what a selection by filter can say of what the list's filters say
FILTERS = ("profile_id", "owner_id", "agent_id", "issuer_id", "team_id", "status", "environment", "source")
_ROWS = 500
_WAVES = ("wave_size", "wave_pause_seconds", "max_failures")


def offered(request: WebRequest) -> list[tuple[str, str]]:
    """The acts that the caller may do to many; none without an API key behind the session, which a batch needs."""
    if not request.caller.key_id:
        return []
    words = {BatchAction.RENEW: _("Renew"), BatchAction.REASSIGN: _("Give to"), BatchAction.REVOKE: _("Revoke")}
    return [(str(action), text) for action, text in words.items() if request.may(_NEEDS[action])]


def _action(fields: Fields) -> BatchAction:
    try:
        return BatchAction(fields.get("action"))
    except ValueError:
        raise Malformed("this is no act that is done to many") from None


def _chosen(fields: Fields) -> Selection:
    """What is picked, or what the list's filters say when all of it is meant."""
    if fields.get("all") == "yes":
        said = {name: fields.get(name) for name in FILTERS if fields.get(name)}
        moments = {}
        if fields.get("expires_before"):
            moments["expires_before"] = fields.get("expires_before")
        try:
            return msgspec.convert(said | moments, Selection, strict=False)
        except msgspec.ValidationError as error:
            raise Malformed("the filter cannot be read") from error
    return Selection(certificate_ids=tuple(dict.fromkeys(fields.every("id"))))


@post("/bulk", opt=SIGNED_IN)
async def ask(request: WebRequest) -> Response[str]:
    """What is to be done to the chosen ones; nothing is done yet."""
    fields = await request.checked()
    action, chosen = _action(fields), _chosen(fields)
    return await _form(request, action, fields, chosen)


async def _form(
    request: WebRequest, action: BatchAction, fields: Fields, chosen: Selection, fault: str = ""
) -> Response[str]:
    scope = request.caller.reach(_NEEDS[action])
    async with request.ctx.database.read() as tx:
        names = await truths.named_certificates(tx, scope, chosen.certificate_ids[:20])
        owners = await _options(tx, request.seen_by("owner.read"), Owner)
        teams = await _options(tx, request.seen_by("team.read"), Team)
    kept = [pair for pair in fields.pairs if pair[0] in {"id", "all", "action", "expires_before", *FILTERS}]
    return await render(
        request,
        "bulk.html",
        status=400 if fault else 200,
        title=_title(action),
        action=str(action),
        kept=[pair for pair in kept if pair[0] != "action"],
        count=number(len(chosen.certificate_ids)) if chosen.certificate_ids else "",
        empty=chosen.is_empty,
        names=list(names.values()),
        owners=owners,
        teams=[("", _("As it is")), *teams],
        reasons=acting.reasons(),
        waves=[(name, *wording.labels()[name]) for name in _WAVES] if action == BatchAction.RENEW else [],
        fields=fields,
        fault=fault,
    )


async def _options(tx: Tx, scope: Scope, kind: type[Owner | Team]) -> list[tuple[str, str]]:
    found: Any = await views.record_page(tx, scope, kind, Slice(limit=200))
    return [(row.id, row.name) for row in found.data]


def _title(action: str) -> str:
    return {
        "renew": _("Renew many certificates"),
        "revoke": _("Revoke many certificates"),
        "reassign": _("Give many certificates to another owner"),
    }[action]


@post("/bulk/preview", opt=SIGNED_IN)
async def preview(request: WebRequest) -> Response[str]:
    """A dry run: each item is tried and taken back."""
    fields = await request.checked()
    action, chosen = _action(fields), _chosen(fields)
    wanted: dict[str, Any] = {"force": False}
    waves = Waves()
    if action == BatchAction.RENEW:
        try:
            waves = _waves(fields)
        except msgspec.ValidationError:
            return await _form(request, action, fields, chosen, _("Waves are whole numbers, and not enormous ones."))
        wanted |= {"max_failures": waves.max_failures}
    if action == BatchAction.REVOKE:
        wanted = {"reason": fields.get("reason")}
        if not wanted["reason"]:
            return await _form(request, action, fields, chosen, _("Choose a reason: it stands in the CRL."))
    if action == BatchAction.REASSIGN:
        wanted = {"owner_id": fields.get("owner_id"), "team_id": fields.get("team_id")}
        if not wanted["owner_id"]:
            return await _form(request, action, fields, chosen, _("Choose to whom they go."))

    async def doing(_fields: Fields) -> str:
        batch = await _begin(request, action, chosen, wanted, waves, dry_run=True)
        return going(f"{PATH}/{batch.id}")

    return await act(request, doing)


class Waves(msgspec.Struct, frozen=True):
    """How a renewal goes, as the API takes it."""

    wave_size: WaveSize = 0
    wave_pause_seconds: WavePause = 0
    max_failures: Failures | None = None


def _waves(fields: Fields) -> Waves:
    """What the form says of them; msgspec.ValidationError for what is no such number."""
    said = {name: fields.get(name) for name in _WAVES if fields.get(name)}
    return msgspec.convert(said, Waves, strict=False)


async def _begin(
    request: WebRequest, action: BatchAction, chosen: Selection, wanted: dict[str, Any], waves: Waves, *, dry_run: bool
) -> Batch:
    caller, permission = request.caller, _NEEDS[action]
    scope = caller.reach(permission)
    if not caller.key_id:
        # while it runs it is asked again and again what its asker's key still may
        raise NotAllowed("a batch runs on behind an API key, and this session has none: sign in with a key")
    wish = control.Wish(
        action=action,
        permission=permission,
        selection=chosen,
        wanted=wanted,
        key_id=caller.key_id,
        dry_run=dry_run,
        # a preview looks at all, whatever fails
        max_failures=None if dry_run else waves.max_failures,
        lease_owner=request.ctx.owner,
        wave_size=waves.wave_size,
        wave_pause=timedelta(seconds=waves.wave_pause_seconds),
    )
    batch = await control.create(request.ctx, scope, caller.actor, wish)
    await door.run(request.ctx, batch, door.TURN, request.door.draining.is_set)
    return batch


@post(f"{PATH}/{{batch_id:str}}/begin", opt=needs("job.read"))
async def begin(request: WebRequest, batch_id: FromPath[str]) -> Response[str]:
    """Do what a preview said could be done, to those it said it of."""

    async def doing(_fields: Fields) -> str:
        dry = await _load(request, batch_id)
        if not dry.dry_run or dry.status != BatchStatus.COMPLETED:
            raise Malformed("only a preview that has ended can be begun")
        ids = await _doable(request, dry)
        chosen = Selection(certificate_ids=tuple(ids))
        waves = Waves(dry.wave_size, dry.wave_pause_seconds, dry.wanted.get("max_failures"))
        batch = await _begin(request, BatchAction(dry.action), chosen, dry.wanted, waves, dry_run=False)
        return going(f"{PATH}/{batch.id}", "batch")

    return await act(request, doing)


async def _doable(request: WebRequest, dry: Batch) -> list[str]:
    ids: list[str] = []
    last, more = 0, True
    async with request.ctx.database.read() as tx:
        while more:
            found = await store.items(tx, request.ctx.scope, dry.id, last, _ROWS)
            ids += [item.certificate_id for item in found if item.status == ItemStatus.DONE]
            more = len(found) == _ROWS
            last = found[-1].seq if found else last
    return ids


async def _load(request: WebRequest, batch_id: str) -> Batch:
    key = control.scope_key(request.visible)
    async with request.ctx.database.read() as tx:
        return await store.batch(tx, request.visible, batch_id, key=key, requested_by=request.actor.id)


@get(PATH, opt=needs("job.read"))
async def show_all(request: WebRequest) -> Response[str]:
    """Newest first; those with the caller's limits, and their own."""
    mine = batches_shown_to(control.scope_key(request.visible), request.actor.id)
    async with request.ctx.database.read() as tx:
        table = await tables.read(request, tx, mine, request.visible)
    return await render(
        request,
        "batches.html",
        table=table,
        marks={batch.id: mark_of(batch) for batch in table.rows},
        titles={batch.id: _title(batch.action) for batch in table.rows},
    )


@get(f"{PATH}/{{batch_id:str}}", opt=needs("job.read"))
async def show(request: WebRequest, batch_id: FromPath[str]) -> Response[str]:
    """How far it has come, and what became of each."""
    batch = await _load(request, batch_id)
    async with request.ctx.database.read() as tx:
        listing: Any = msgspec.structs.replace(ITEMS, always=ITEMS.table.c.batch_id == batch.id)
        table: tables.Table[BatchItem] = await tables.read(request, tx, listing, request.visible)
        come = await store.progress(tx, request.ctx.scope, batch.id)
        names = await truths.named_certificates(
            tx, request.seen_by("cert.read"), [item.certificate_id for item in table.rows]
        )
    ended = batch.status != BatchStatus.RUNNING
    return await render(
        request,
        "batch.html",
        batch=batch,
        title=_title(batch.action),
        mark=mark_of(batch),
        table=table,
        names=names,
        marks={item.seq: _item_mark(item, batch) for item in table.rows},
        tabs=_tabs(table, batch),
        width=f"{100 * (batch.total - batch.waiting) / batch.total:.2f}%" if batch.total else "0%",
        can_begin=batch.dry_run and batch.status == BatchStatus.COMPLETED and batch.done > 0,
        can_cancel=not ended and request.may("job.cancel"),
        can_resume=batch.status == BatchStatus.HALTED and request.may("job.cancel"),
        progress=[(kind, status, number(count)) for kind, of_it in come.items() for status, count in of_it.items()],
        ended=ended,
    )


def _tabs(table: tables.Table[BatchItem], batch: Batch) -> list[tuple[str, str, str, bool]]:
    done = _("Would be done") if batch.dry_run else _("Done")
    listed: Sequence[tuple[str, str, int]] = (
        (_("All"), "", batch.total),
        (done, str(ItemStatus.DONE), batch.done),
        (_("Skipped"), str(ItemStatus.SKIPPED), batch.skipped),
        (_("Failed"), str(ItemStatus.FAILED), batch.failed),
        (_("Waiting"), str(ItemStatus.PENDING), batch.waiting),
    )
    return [
        (text, number(count), table.to(status=value), table.chosen("status") == value) for text, value, count in listed
    ]


def mark_of(batch: Batch) -> Mark:
    """How a batch stands."""
    s = BatchStatus
    if batch.dry_run and batch.status == s.COMPLETED:
        return Mark("unk", "s-none", _("Preview"))
    return {
        s.RUNNING: Mark("work", "s-work", _("Under way")),
        s.COMPLETED: Mark("warn" if batch.failed else "ok", "s-warn" if batch.failed else "s-ok", _("Ended")),
        s.CANCELLED: Mark("unk", "s-none", _("Cancelled")),
        s.HALTED: Mark("bad", "s-bad", _("Halted")),
    }[BatchStatus(batch.status)]


def _item_mark(item: BatchItem, batch: Batch) -> Mark:
    s = ItemStatus
    if item.status == s.PENDING and batch.status != BatchStatus.RUNNING:
        return Mark("unk", "s-none", _("Not come to"))
    return {
        s.DONE: Mark("ok", "s-ok", _("Would be done") if batch.dry_run else _("Done")),
        s.SKIPPED: Mark("unk", "s-none", _("Skipped")),
        s.FAILED: Mark("bad", "s-bad", _("Failed")),
        s.PENDING: Mark("work", "s-none", _("Waiting")),
    }[ItemStatus(item.status)]


@post(f"{PATH}/{{batch_id:str}}/cancel", opt=needs("job.cancel"))
async def cancel(request: WebRequest, batch_id: FromPath[str]) -> Response[str]:
    """No further item is begun; what was done stays done."""

    async def doing(_fields: Fields) -> str:
        await control.cancel(request.ctx, request.visible, request.actor, batch_id)
        return going(f"{PATH}/{batch_id}", "cancelled")

    return await act(request, doing)


@post(f"{PATH}/{{batch_id:str}}/halt", opt=needs("job.cancel"))
async def halt(request: WebRequest, batch_id: FromPath[str]) -> Response[str]:
    """No further item is begun until it is resumed."""

    async def doing(_fields: Fields) -> str:
        await halting.halt(request.ctx, request.visible, request.actor, batch_id)
        return going(f"{PATH}/{batch_id}")

    return await act(request, doing)


@post(f"{PATH}/{{batch_id:str}}/resume", opt=needs("job.cancel"))
async def resume(request: WebRequest, batch_id: FromPath[str]) -> Response[str]:
    """Whoever resumes it has seen what failed: it goes on however many more do."""

    async def doing(_fields: Fields) -> str:
        await halting.resume(request.ctx, request.visible, request.actor, batch_id, None)
        return going(f"{PATH}/{batch_id}")

    return await act(request, doing)


HANDLERS = (ask, preview, begin, show_all, show, cancel, halt, resume)
