"""/api/v1/approvals and the same by job: a second person's word on what a profile does not let one ask for alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from litestar import get, post
from litestar.params import FromPath, JSONBody

from certctl.api.guard import needs
from certctl.api.lists import answer_list, listed
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.approvals import (
    ApprovalView,
    BatchDecisionAnswer,
    BatchDecisionBody,
    DecisionAnswer,
    DecisionBody,
    RejectBody,
    WordView,
)
from certctl.client.models.page import PageOf, StatusAnswer
from certctl.control import approvals as control
from certctl.core.approval import PROFILE_EDIT, Approval, Word
from certctl.core.status import ApprovalState
from certctl.doors.driving import drive
from certctl.lifecycle.approve import Decision
from certctl.store import approvals as store
from certctl.store.act_listings import APPROVALS

# so long one call goes on; what is left is for the next one
_BATCH_SECONDS = 10.0
_MOST_REASONS = 20


@get("/approvals", opt=needs("approval.read") | listed(APPROVALS), summary="List approvals")
async def list_approvals(request: ApiRequest) -> PageOf[ApprovalView]:
    """Newest first."""
    return await answer_list(request, ApprovalView, show=_view)


def _view(approval: Approval, words: Sequence[Word] = ()) -> ApprovalView:
    return shown(
        ApprovalView,
        approval,
        job_id="" if approval.kind == PROFILE_EDIT else approval.job_id,
        payload=approval.payload or {},
        approved_by=[shown(WordView, word) for word in words],
    )


@get("/approvals/{approval_id:str}", opt=needs("approval.read"), summary="One approval")
async def show_approval(request: ApiRequest, approval_id: FromPath[str]) -> ApprovalView:
    """What was asked and judged, and what was said."""
    async with request.ctx.database.read() as tx:
        found = await store.approval(tx, request.visible, approval_id)
        return _view(found, await store.words(tx, request.ctx.scope, found.id))


@post(
    "/approvals/{approval_id:str}/approve", status_code=200, opt=needs("approval.approve"), summary="Approve a request"
)
async def approve(
    request: ApiRequest, approval_id: FromPath[str], data: JSONBody[DecisionBody | None] = None
) -> DecisionAnswer:
    """By another person than who asked. Covers just what was judged: a changed profile makes it a 409. Where a profile
    asks for several people, `action` is `pending` until the last of them has said yes.
    """
    return await _decide(request, approval_id, data or DecisionBody(), approved=True)


@post("/approvals/{approval_id:str}/reject", status_code=200, opt=needs("approval.reject"), summary="Reject a request")
async def reject(
    request: ApiRequest, approval_id: FromPath[str], data: JSONBody[DecisionBody | None] = None
) -> DecisionAnswer:
    """The job is cancelled; nobody is asked the same again within a day unless a person asks."""
    return await _decide(request, approval_id, data or DecisionBody(), approved=False)


async def _decide(request: ApiRequest, approval_id: str, said: DecisionBody, *, approved: bool) -> DecisionAnswer:
    decision = Decision(approved=approved, note=said.note, decision_hash=said.decision_hash)
    decided = await control.decide_approval(request.ctx, request.visible, request.actor, approval_id, decision)
    if decided.kind != PROFILE_EDIT:
        await drive(request.door, [decided.job_id])
    return DecisionAnswer(id=decided.id, decided_by=decided.decided_by or request.actor.id, action=str(decided.state))


@post("/jobs/{job_id:str}/approve", status_code=200, opt=needs("approval.approve"), summary="Approve a job")
async def approve_job(
    request: ApiRequest, job_id: FromPath[str], data: JSONBody[DecisionBody | None] = None
) -> StatusAnswer:
    """The same as approving its approval."""
    said = data or DecisionBody()
    decision = Decision(approved=True, note=said.note, decision_hash=said.decision_hash)
    decided = await control.decide(request.ctx, request.visible, request.actor, job_id, decision)
    await drive(request.door, [job_id])
    approved = decided.state == ApprovalState.APPROVED
    return StatusAnswer(status="job_approved" if approved else "approval_given", job_id=job_id)


@post("/jobs/{job_id:str}/reject", status_code=200, opt=needs("approval.reject"), summary="Reject a job")
async def reject_job(
    request: ApiRequest, job_id: FromPath[str], data: JSONBody[RejectBody | None] = None
) -> StatusAnswer:
    """The same as rejecting its approval."""
    decision = Decision(approved=False, note=(data or RejectBody()).reason)
    await control.decide(request.ctx, request.visible, request.actor, job_id, decision)
    return StatusAnswer(status="job_rejected", job_id=job_id)


@post(
    "/batches/{batch_id:str}/approve",
    status_code=200,
    opt=needs("approval.approve"),
    summary="Approve what a batch asks for",
)
async def approve_batch(
    request: ApiRequest, batch_id: FromPath[str], data: JSONBody[BatchDecisionBody | None] = None
) -> BatchDecisionAnswer:
    """One yes to every request of a batch that waits for people, each judged and told as by itself. Never by who asked
    for the batch. While `is_over` is false there are more: say it again with `after`.
    """
    return await _decide_batch(request, batch_id, data, approved=True)


@post(
    "/batches/{batch_id:str}/reject",
    status_code=200,
    opt=needs("approval.reject"),
    summary="Reject what a batch asks for",
)
async def reject_batch(
    request: ApiRequest, batch_id: FromPath[str], data: JSONBody[BatchDecisionBody | None] = None
) -> BatchDecisionAnswer:
    """One no to every request of a batch that waits for people. While `is_over` is false there are more: say it again
    with `after`.
    """
    return await _decide_batch(request, batch_id, data, approved=False)


async def _decide_batch(
    request: ApiRequest, batch_id: str, data: BatchDecisionBody | None, *, approved: bool
) -> BatchDecisionAnswer:
    clock, draining = asyncio.get_running_loop(), request.door.draining
    deadline = clock.time() + _BATCH_SECONDS
    body, acting = data or BatchDecisionBody(), (request.ctx, request.visible, request.actor)
    decision = Decision(approved=approved, note=body.note)
    said = await control.decide_batch(
        *acting, batch_id, decision, body.after, lambda: clock.time() < deadline and not draining.is_set()
    )
    return BatchDecisionAnswer(
        batch_id=batch_id,
        approved=said.approved,
        rejected=said.rejected,
        given=said.given,
        refused=said.reasons.total(),
        is_over=said.is_over,
        after=said.after,
        reasons=[reason for reason, _ in said.reasons.most_common(_MOST_REASONS)],
    )


HANDLERS = (
    list_approvals,
    show_approval,
    approve,
    reject,
    approve_job,
    reject_job,
    approve_batch,
    reject_batch,
)
