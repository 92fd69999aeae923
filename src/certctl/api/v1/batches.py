"""/api/v1/certificates/bulk-* and /api/v1/batches: one action over any number of certificates.

Answers 200 with complete totals when the batch ends within the time given, else 202 and where to look; the worker
goes on. `Prefer: respond-async` and `Prefer: wait=N` (RFC 7240) say how long to wait.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from litestar import Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Struct

from certctl.api.guard import needs
from certctl.api.lists import answer_list, listed
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.batches import (
    BatchItemView,
    BatchResumeBody,
    BatchView,
    BulkError,
    BulkReassignAnswer,
    BulkReassignBody,
    BulkRenewAnswer,
    BulkRenewBody,
    BulkRevokeAnswer,
    BulkRevokeBody,
    EnqueuedJob,
)
from certctl.client.models.page import PageOf
from certctl.control import batches as control
from certctl.control import halting
from certctl.core.batch import Batch, BatchItem, Selection
from certctl.core.errors import Malformed, NotAllowed, Violation
from certctl.core.status import BatchAction, BatchStatus, ItemStatus
from certctl.doors import batches as door
from certctl.store import batches as store
from certctl.store.act_listings import BATCHES, ITEMS, batches_shown_to

_LONGEST_WAIT_SECONDS = 30
_ROWS = 500
_PREVIEW_ITEMS = 100
# of a batch that goes on, so many are told at once; all of them are its items
_TOLD_EARLY = 1000
_POLL_SECONDS = 1.0
_PREFERENCE = re.compile(r"(respond-async|wait)(?:\s*=\s*\"?(\d{1,9})\"?)?", re.IGNORECASE)

Wait = Annotated[float, QueryParameter(ge=0, le=60, description="seconds to wait for the batch to end")]


@post(
    "/certificates/bulk-renew",
    status_code=200,
    opt=needs("cert.issue"),
    summary="Renew many",
    responses={202: ResponseSpec(BulkRenewAnswer, description="it goes on; look at /api/v1/batches/{batch_id}")},
)
async def bulk_renew(request: ApiRequest, data: JSONBody[BulkRenewBody]) -> Response[BulkRenewAnswer]:
    """Every key holder of each certificate makes a new key. What is under way already is skipped, unless `force`."""
    ended = await _act(
        request,
        BatchAction.RENEW,
        "cert.issue",
        _selection(data),
        {"force": data.force},
        data.dry_run,
        data.max_failures,
        (data.wave_size, timedelta(seconds=data.wave_pause_seconds)),
    )
    jobs = [
        EnqueuedJob(certificate_id=item.certificate_id, job_id=job_id)
        for item in ended.items
        if not ended.batch.dry_run
        for job_id in item.job_ids
    ]
    return ended.answer(BulkRenewAnswer, "total_enqueued", enqueued_jobs=jobs)


@post(
    "/certificates/bulk-revoke",
    status_code=200,
    opt=needs("cert.bulk_revoke"),
    summary="Revoke many",
    responses={202: ResponseSpec(BulkRevokeAnswer, description="it goes on; look at /api/v1/batches/{batch_id}")},
)
async def bulk_revoke(request: ApiRequest, data: JSONBody[BulkRevokeBody]) -> Response[BulkRevokeAnswer]:
    """Every version of each certificate that could still be trusted."""
    wanted = {"reason": data.reason}
    ended = await _act(
        request, BatchAction.REVOKE, "cert.bulk_revoke", _selection(data), wanted, data.dry_run, data.max_failures
    )
    return ended.answer(BulkRevokeAnswer, "total_revoked")


@post(
    "/certificates/bulk-reassign",
    status_code=200,
    opt=needs("cert.edit"),
    summary="Give many to another owner",
    responses={202: ResponseSpec(BulkReassignAnswer, description="it goes on; look at /api/v1/batches/{batch_id}")},
)
async def bulk_reassign(request: ApiRequest, data: JSONBody[BulkReassignBody]) -> Response[BulkReassignAnswer]:
    """Owner, and team when given; what is theirs already is skipped."""
    if not data.owner_id:
        message = "owner_id is needed: to whom the certificates go"
        raise Malformed(message, violations=(Violation("field_is_missing", message, "owner_id"),))
    wanted = {"owner_id": data.owner_id, "team_id": data.team_id}
    chosen = _selection(data.filter, certificate_ids=_ids(data.certificate_ids))
    ended = await _act(request, BatchAction.REASSIGN, "cert.edit", chosen, wanted, data.dry_run, data.max_failures)
    return ended.answer(BulkReassignAnswer, "total_reassigned")


def _selection(body: Struct | None, **more: Any) -> Selection:
    values: dict[str, Any] = {}
    for name in Selection.__struct_fields__:
        value = getattr(body, name, None)
        if value is not None:
            values[name] = _ids(value) if name == "certificate_ids" else value
    moment: datetime | None = values.get("expires_before")
    if moment is not None and moment.tzinfo is None:
        message = "expires_before needs a time zone (2026-01-31T00:00:00Z)"
        raise Malformed(message, violations=(Violation("time_without_zone", message, "expires_before"),))
    return Selection(**(values | more))


def _ids(ids: Sequence[str] | None) -> tuple[str, ...]:
    """The ids named. A list that is there and empty chooses nothing: were it passed over, a filter would choose all."""
    if ids is not None and not ids:
        message = "certificate_ids is empty: leave it out to choose by filter, or name certificates"
        raise Malformed(message, violations=(Violation("selection_is_empty", message, "certificate_ids"),))
    return tuple(ids or ())


class _Ended(Struct, frozen=True):
    """A batch as it stands when the call is answered, with the items the answer tells of."""

    batch: Batch
    items: list[BatchItem]
    preferred: str

    def answer(self, kind: Any, done: str, **more: Any) -> Response[Any]:
        """200 when it has ended, else 202 and where to look."""
        batch, goes_on = self.batch, self.batch.status == BatchStatus.RUNNING
        failed = [item for item in self.items if item.status == ItemStatus.FAILED]
        body = kind(
            total_matched=batch.total,
            total_skipped=batch.skipped,
            total_failed=batch.failed,
            batch_id=batch.id,
            status=str(batch.status),
            errors=[BulkError(certificate_id=item.certificate_id, error=item.reason) for item in failed],
            dry_run=batch.dry_run,
            items=[_item(item, batch) for item in self.items[:_PREVIEW_ITEMS]] if batch.dry_run else [],
            **{done: batch.done},
            **more,
        )
        headers = {"Location": f"/api/v1/batches/{batch.id}"} if goes_on else {}
        if self.preferred:
            headers["Preference-Applied"] = self.preferred
        return Response(body, status_code=202 if goes_on else 200, headers=headers, media_type="application/json")


async def _act(
    request: ApiRequest,
    action: BatchAction,
    permission: str,
    chosen: Selection,
    wanted: dict[str, Any],
    dry_run: bool,
    max_failures: int | None,
    waves: tuple[int, timedelta] = (0, timedelta(0)),
) -> _Ended:
    ctx, caller = request.ctx, request.caller
    if not caller.key_id:
        # a batch outlives the call: while it runs it is asked again and again what its asker's key still may
        raise NotAllowed("a batch runs on behind an API key; this session has none: sign in with a key, or send it")
    preferred, budget = _preference(request.headers.get("prefer", ""))
    wish = control.Wish(
        action=action,
        permission=permission,
        selection=chosen,
        wanted=wanted,
        key_id=caller.key_id,
        dry_run=dry_run,
        max_failures=max_failures,
        lease_owner=ctx.owner if budget else "",
        wave_size=waves[0],
        wave_pause=waves[1],
    )
    batch = await control.create(ctx, request.visible, caller.actor, wish)
    if budget:
        await door.run(ctx, batch, budget, request.door.draining.is_set)
    async with ctx.database.read() as tx:
        now = await store.batch(tx, ctx.scope, batch.id)
        most = _TOLD_EARLY if now.status == BatchStatus.RUNNING else now.total
        items: list[BatchItem] = []
        while len(items) < most:
            last = items[-1].seq if items else 0
            found = await store.items(tx, ctx.scope, batch.id, last, min(_ROWS, most - len(items)))
            items += found
            if not found:
                break
    return _Ended(now, items, preferred)


def _preference(prefer: str) -> tuple[str, timedelta]:
    """What of `Prefer` is heeded, and how long the answer may take."""
    for told in prefer.split(","):
        found = _PREFERENCE.fullmatch(told.strip())
        if found is None:
            continue
        if found[1].lower() == "respond-async" and found[2] is None:
            return "respond-async", timedelta(0)
        if found[1].lower() == "wait" and found[2] is not None:
            seconds = min(int(found[2]), _LONGEST_WAIT_SECONDS)
            return f"wait={seconds}", timedelta(seconds=seconds)
    return "", door.TURN


def _item(item: BatchItem, batch: Batch) -> BatchItemView:
    not_run = item.status == ItemStatus.PENDING and batch.status != BatchStatus.RUNNING
    # a dry run took its jobs back: their ids name nothing
    job_ids = [] if batch.dry_run else item.job_ids
    return shown(BatchItemView, item, status="not_run" if not_run else str(item.status), job_ids=job_ids)


@get("/batches", opt=needs("job.read") | listed(BATCHES), summary="List batches")
async def list_batches(request: ApiRequest) -> PageOf[BatchView]:
    """Newest first; those that were asked for with your limits, or by you."""
    mine = batches_shown_to(control.scope_key(request.visible), request.actor.id)
    return await answer_list(request, BatchView, listing=mine)


@get("/batches/{batch_id:str}", opt=needs("job.read"), summary="One batch")
async def show_batch(request: ApiRequest, batch_id: FromPath[str], wait: Wait = 0) -> BatchView:
    """How far it has come. `wait` holds the answer until it has ended, at most so many seconds."""
    clock, process = asyncio.get_running_loop(), request.door
    deadline = clock.time() + wait
    with process.wakeups.watch(store.batch_channel(batch_id)) as watch:
        batch = await _load(request, batch_id)
        while batch.status == BatchStatus.RUNNING and not process.draining.is_set():
            left = deadline - clock.time()
            if left <= 0:
                break
            await watch.wait(min(left, _POLL_SECONDS))
            batch = await _load(request, batch_id)
    async with request.ctx.database.read() as tx:
        return shown(BatchView, batch, progress=await store.progress(tx, request.ctx.scope, batch.id))


@get("/batches/{batch_id:str}/items", opt=needs("job.read") | listed(ITEMS), summary="Items of a batch")
async def list_items(request: ApiRequest, batch_id: FromPath[str]) -> PageOf[BatchItemView]:
    """In order; what a batch that has ended never came to reads `not_run`, and is found as pending."""
    batch = await _load(request, batch_id)
    fixed = {"batch_id": batch.id}
    return await answer_list(request, BatchItemView, show=lambda item: _item(item, batch), fixed=fixed)


@post("/batches/{batch_id:str}/cancel", status_code=200, opt=needs("job.cancel"), summary="Cancel a batch")
async def cancel_batch(request: ApiRequest, batch_id: FromPath[str]) -> BatchView:
    """No further item is begun; what was done stays done, and jobs that were written go on."""
    return _view(await control.cancel(request.ctx, request.visible, request.actor, batch_id))


@post("/batches/{batch_id:str}/halt", status_code=200, opt=needs("job.cancel"), summary="Halt a batch")
async def halt_batch(request: ApiRequest, batch_id: FromPath[str]) -> BatchView:
    """No further item is begun until it is resumed; jobs that were written go on."""
    return _view(await halting.halt(request.ctx, request.visible, request.actor, batch_id))


@post("/batches/{batch_id:str}/resume", status_code=200, opt=needs("job.cancel"), summary="Resume a batch")
async def resume_batch(request: ApiRequest, batch_id: FromPath[str], data: JSONBody[BatchResumeBody]) -> BatchView:
    """A halted batch goes on behind the last item that it came to, as whoever asked for it."""
    acting = (request.ctx, request.visible, request.actor)
    return _view(await halting.resume(*acting, batch_id, data.max_failures))


async def _load(request: ApiRequest, batch_id: str) -> Batch:
    key = control.scope_key(request.visible)
    async with request.ctx.database.read() as tx:
        return await store.batch(tx, request.visible, batch_id, key=key, requested_by=request.actor.id)


def _view(batch: Batch) -> BatchView:
    return shown(BatchView, batch)


HANDLERS = (
    bulk_renew,
    bulk_revoke,
    bulk_reassign,
    list_batches,
    show_batch,
    list_items,
    cancel_batch,
    halt_batch,
    resume_batch,
)
