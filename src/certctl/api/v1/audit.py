"""/api/v1/audit: who did what to what, and the proof that none of it was changed since."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

import msgspec
from litestar import get, post
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from certctl.api.guard import needs, refuses
from certctl.api.lists import answer_list, listed
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.audit import (
    AuditEventView,
    AuditPushView,
    AuditReceiverView,
    ConsistencyView,
    InclusionView,
    SealedEventView,
    SealProof,
    SealTrailer,
    SealVerification,
    SealView,
)
from certctl.client.models.page import PageOf
from certctl.control import audit, audit_push
from certctl.control.audit import Extract
from certctl.core.audit import Category, category_of
from certctl.core.errors import Malformed, NotFound, Violation
from certctl.ledger import EventRow
from certctl.lifecycle.context import Context
from certctl.store.listings import AUDIT

From = Annotated[datetime | None, QueryParameter(name="from", description="from the first event at this time or later")]
To = Annotated[datetime | None, QueryParameter(name="to", description="to the last event before this time")]
OfCategory = Annotated[str, QueryParameter(description="only cert_lifecycle, auth or config")]
Most = Annotated[int, QueryParameter(ge=0, description="at most so many events; 0: all")]
Sealed = Annotated[
    bool, QueryParameter(description="with each event's place and hash, and a last line that proves them all")
]


@get("/audit", opt=needs("audit.read") | listed(AUDIT), summary="List audit events")
async def list_audit(request: ApiRequest) -> PageOf[AuditEventView]:
    """Newest first."""
    return await answer_list(request, AuditEventView, show=audit_push.view)


@get(
    "/audit/export",
    opt=needs("audit.export") | refuses(404),
    summary="Export the audit log",
    media_type="application/x-ndjson",
)
async def export_audit(
    request: ApiRequest,
    since: From = None,
    until: To = None,
    category: OfCategory = "",
    limit: Most = 0,
    seal: Sealed = False,
) -> Stream:
    """One JSON object a line, oldest first, of any length. With `seal=true` all events between the first and the last
    of the time asked for, and a last line `{"seal": ...}`: `certctl audit verify` checks it, on a machine that has
    never heard of this server. The export is an event itself.
    """
    request.visible.check_whole("exporting the audit log")
    wanted = _category(category)
    if seal and (wanted or limit):
        said = "a sealed export holds all events of its time: leave out category and limit"
        raise Malformed(said, violations=(Violation("not_together", said, "seal"),))
    for name, moment in (("from", since), ("to", until)):
        if moment is not None and moment.tzinfo is None:
            said = f"{name} needs a time zone (2026-01-31T00:00:00Z)"
            raise Malformed(said, violations=(Violation("time_without_zone", said, name),))
    part = await audit.extract(request.ctx, request.actor, since, until)
    headers = {"Cache-Control": "no-store", "Content-Disposition": 'attachment; filename="audit.ndjson"'}
    lines = _sealed_lines(request.ctx, part) if seal else _lines(request.ctx, part, wanted, limit)
    return Stream(lines, media_type="application/x-ndjson", headers=headers)


@get("/audit/seal", opt=needs("audit.read") | refuses(404), summary="How the audit seal stands")
async def show_seal(request: ApiRequest) -> SealView:
    """The signed head over all sealed events, the key to verify it with, and what verification found last."""
    request.visible.check_whole("reading the audit seal")
    found = await audit.read(request.ctx)
    tree = found.tree
    return SealView(
        origin=tree.origin,
        size=tree.size,
        unsealed=found.unsealed,
        checkpoint=found.head.note if found.head else "",
        verifier_key=found.verifier_key,
        verified_size=tree.verified_size,
        verified_at=tree.verified_at,
        walked_at=tree.walked_at,
        broken_at=tree.broken_at,
        broken=tree.broken,
        pruned_size=tree.pruned_size,
        retention=str(request.ctx.patience.audit_kept or ""),
    )


@get("/audit/push", opt=needs("audit.read"), summary="How the push of the audit log stands")
async def show_push(request: ApiRequest) -> AuditPushView:
    """Each receiver off the box: how far it has come, and why it does not go on."""
    request.visible.check_whole("reading where the audit log goes")
    found = await audit_push.standings(request.ctx, request.door.audit_receivers)
    return AuditPushView(
        receivers=[shown(AuditReceiverView, one.cursor, address=one.address, behind=one.behind) for one in found]
    )


@post("/audit/verify", status_code=200, opt=needs("audit.export") | refuses(404), summary="Verify the audit seal")
async def verify_seal(request: ApiRequest) -> SealVerification:
    """Hold every event against its seal, now, and name the first that does not hold."""
    request.visible.check_whole("verifying the audit seal")
    found = await audit.verify_all(request.ctx)
    broken = found.broken
    return SealVerification(
        looked_at=found.looked_at,
        size=found.size,
        intact=broken is None,
        broken_at=broken.leaf_index if broken else None,
        broken=broken.what if broken else "",
        pruned=found.pruned,
    )


@get("/audit/consistency", opt=needs("audit.read") | refuses(404), summary="Prove that the log only grew")
async def prove_consistency(
    request: ApiRequest,
    first: Annotated[int, QueryParameter(ge=1, description="how many events an older head tells of")],
    second: Annotated[int, QueryParameter(ge=0, description="how many a newer one tells of; 0: the newest")] = 0,
) -> ConsistencyView:
    """Between two sizes (RFC 9162 2.1.4)."""
    request.visible.check_whole("proofs of the audit log")
    if second == 0:
        second = (await audit.read(request.ctx)).tree.size
    found = await audit.prove_consistency(request.ctx, first, second)
    return ConsistencyView(
        first=first,
        second=second,
        proof=[each.hex() for each in found.proof],
        first_root=found.first_root.hex(),
        second_root=found.second_root.hex(),
    )


@get("/audit/{event_id:str}", opt=needs("audit.read"), summary="One audit event")
async def show_audit(request: ApiRequest, event_id: FromPath[str]) -> AuditEventView:
    """By its id."""
    return audit_push.view(await _event(request, event_id))


@get("/audit/{event_id:str}/proof", opt=needs("audit.read"), summary="Prove that an event is sealed")
async def prove_event(request: ApiRequest, event_id: FromPath[str]) -> InclusionView:
    """The path from the event to the signed head (RFC 9162 2.1.3)."""
    request.visible.check_whole("proofs of the audit log")
    found = await audit.prove_inclusion(request.ctx, event_id)
    return InclusionView(
        event_id=event_id,
        leaf_index=found.leaf_index,
        leaf_hash=found.leaf_hash.hex(),
        tree_size=found.head.size,
        path=[each.hex() for each in found.path],
        checkpoint=found.head.note,
    )


async def _event(request: ApiRequest, event_id: str) -> EventRow:
    found = await audit.event(request.ctx, request.visible, event_id)
    if found is None:
        raise NotFound(f"no audit event {event_id}")
    return found


def _category(text: str) -> Category | None:
    if not text:
        return None
    try:
        return Category(text.lower())
    except ValueError as error:
        said = f"category is one of {', '.join(Category)}, not {text[:64]!r}"
        raise Malformed(said, violations=(Violation("unknown_word", said, "category"),)) from error


async def _lines(ctx: Context, part: Extract, wanted: Category | None, limit: int) -> AsyncIterator[bytes]:
    told = 0
    async for leaf in audit.each_leaf(ctx, part.start, part.end):
        if leaf.event is None or (wanted and category_of(leaf.event.type) is not wanted):
            continue
        yield msgspec.json.encode(audit_push.view(leaf.event)) + b"\n"
        told += 1
        if told == limit:
            return


async def _sealed_lines(ctx: Context, part: Extract) -> AsyncIterator[bytes]:
    async for leaf in audit.each_leaf(ctx, part.start, part.end):
        if leaf.event is not None:  # a removed one is missed by whoever verifies
            seen = msgspec.structs.asdict(audit_push.view(leaf.event))
            line = SealedEventView(leaf_index=leaf.leaf_index, leaf_hash=leaf.hash.hex(), **seen)
            yield msgspec.json.encode(line) + b"\n"
    proof = SealProof(
        checkpoint=part.head.note,
        verifier_key=part.verifier_key,
        start=part.start,
        end=part.end,
        beside=[each.hex() for each in part.beside],
    )
    yield msgspec.json.encode(SealTrailer(seal=proof)) + b"\n"


HANDLERS = (
    list_audit,
    export_audit,
    show_seal,
    show_push,
    verify_seal,
    prove_consistency,
    show_audit,
    prove_event,
)
