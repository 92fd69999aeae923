"""Batches: one action over any number of certificates, each item exactly once through the ordinary lifecycle.

An item's result is written in the transaction of what it did: after kill -9 it is done and recorded, or neither. A dry
run does the same and takes it back, so that a preview is what would happen. What an item is refused becomes its result;
a database that cannot be reached does not.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import structlog

from certctl.control import waves
from certctl.core.actor import Actor
from certctl.core.batch import Batch, BatchItem, Selection
from certctl.core.catalogue import Owner, Team
from certctl.core.errors import CertctlError, Conflict, Malformed, NotFound, StaleFence, Temporary, TooLarge, Violation
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.scope import Scope
from certctl.core.status import BatchAction, BatchStatus, CertificateStatus, ItemStatus
from certctl.ledger import append
from certctl.lifecycle import renew, request, revoke
from certctl.lifecycle.context import Context
from certctl.policy.revocation import parse_reason
from certctl.store import batches, catalogue, views
from certctl.store.tx import Tx

log = structlog.get_logger(__name__)

MOST_IDS = 10_000
_CHUNK = 50
# written in a few statements: a tenth of a second
_CHUNK_TO_RENEW = 250
_CHUNK_TO_REVOKE = 250
_LONGEST_TOGETHER = 1.0  # seconds
_NO_FENCE = 0
_PURGED_AT_ONCE = 5000


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A batch to make. `wanted` are the action's parameters; `lease_owner` takes it in hand at once."""

    action: BatchAction
    permission: str
    selection: Selection
    wanted: dict[str, Any]
    key_id: str
    dry_run: bool = False
    max_failures: int | None = None
    lease_owner: str = ""
    wave_size: int = 0
    wave_pause: timedelta = timedelta(0)


class Outcome(msgspec.Struct, frozen=True):
    """What became of an item."""

    status: ItemStatus
    reason: str = ""
    error_kind: str = ""
    job_ids: list[str] = []


class _TakenBack(Exception):
    """Carries what would have happened out of a transaction that is rolled back."""

    def __init__(self, *outcomes: Outcome) -> None:
        super().__init__()
        self.outcomes = outcomes


def scope_key(scope: Scope) -> str:
    """A scope as text, the same for the same limits in any order."""
    limits = ({field: sorted(ids) for field, ids in reach.limits()} for reach in scope.reaches)
    return json.dumps([scope.tenant_id, *sorted(json.dumps(each, sort_keys=True) for each in limits)])


async def create(ctx: Context, scope: Scope, actor: Actor, wish: Wish) -> Batch:
    """Choose and freeze; nothing has been done to a certificate yet. Malformed for an empty selection, TooLarge."""
    _check(wish)
    now = ctx.now()
    batch = Batch(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("batch"),
        action=wish.action,
        dry_run=wish.dry_run,
        status=BatchStatus.RUNNING,
        status_reason="",
        selection=_told(wish.selection),
        wanted=wish.wanted,
        max_failures=wish.max_failures,
        scope=msgspec.to_builtins(scope),
        scope_key=scope_key(scope),
        key_id=wish.key_id,
        permission=wish.permission,
        requested_by=actor.id,
        actor_type=str(actor.type),
        request_id=actor.request_id,
        address=actor.address,
        total=0,
        done=0,
        skipped=0,
        failed=0,
        lease_owner=wish.lease_owner,
        lease_until=now + ctx.patience.lease if wish.lease_owner else None,
        fence=1 if wish.lease_owner else _NO_FENCE,
        run_at=now,
        created_at=now,
        updated_at=now,
        ended_at=None,
        wave_size=wish.wave_size,
        wave_pause_seconds=int(wish.wave_pause.total_seconds()),
    )
    async with ctx.database.begin("batch.create") as tx:
        await _check_wanted(tx, scope, wish)
        await batches.insert(tx, ctx.scope, batch)
        total = await batches.freeze(tx, scope, batch, wish.selection)
        details = {"action": str(wish.action), "dry_run": wish.dry_run, "total": total, "selection": batch.selection}
        await append(tx, ctx.scope, now, event(EventType.BATCH_CREATED, batch.id, actor, details))
        tx.wake(batches.CHANNEL)
        return await batches.batch(tx, ctx.scope, batch.id)


def _check(wish: Wish) -> None:
    if wish.selection.is_empty:
        message = "say which certificates: certificate_ids or at least one filter; an empty selection is never all"
        raise Malformed(message, violations=(Violation("selection_is_empty", message, "certificate_ids"),))
    if len(wish.selection.certificate_ids) > MOST_IDS:
        raise TooLarge(f"certificate_ids may name at most {MOST_IDS}; choose more by a filter, which has no limit")
    if wish.action == BatchAction.REVOKE:
        parse_reason(str(wish.wanted.get("reason") or "unspecified"))


async def _check_wanted(tx: Tx, scope: Scope, wish: Wish) -> None:
    """What no item could do is refused before there is a batch."""
    violations: list[Violation] = []
    kinds: tuple[tuple[str, type[msgspec.Struct]], ...] = (("owner_id", Owner), ("team_id", Team))
    for field, kind in kinds:
        if value := wish.wanted.get(field):
            try:
                await catalogue.get(tx, scope, kind, value)
            except NotFound as error:
                violations.append(Violation("unknown_reference", error.message, field))
    if violations:
        raise Malformed("; ".join(each.message for each in violations), violations=tuple(violations))


def _told(selection: Selection) -> dict[str, Any]:
    """The selection for the record: the ids themselves are the items."""
    said: dict[str, Any] = msgspec.to_builtins(selection)
    if ids := said.pop("certificate_ids", ()):
        said["certificate_ids"] = len(ids)
    return said


async def claim(ctx: Context) -> Batch | None:
    """Lease the batch whose turn it is; an idle worker's look takes no lock."""
    async with ctx.database.read() as tx:
        if not await batches.has_due(tx, ctx.scope, ctx.now()):
            return None
    async with ctx.database.begin("batch.claim") as tx:
        return await batches.claim(tx, ctx.scope, owner=ctx.owner, lease=ctx.patience.lease, now=ctx.now())


async def free_earlier_runs(ctx: Context, owner_prefix: str) -> int:
    """At the start of the only server process: what its earlier runs held is free at once."""
    async with ctx.database.begin("release") as tx:
        return await batches.release_of_earlier_boots(tx, ctx.scope, owner_prefix, ctx.owner)


async def work(ctx: Context, batch: Batch, scope: Scope, may_go_on: Callable[[], bool]) -> None:
    """Run a leased batch's items one after the other while `may_go_on`; then give it back, or end it.

    `scope` is what the asker may still see. A batch that has passed on or was cancelled is left alone.
    """
    gate = waves.Gate()
    try:
        while may_go_on():
            async with ctx.database.read() as tx:
                waiting = await batches.pending_items(tx, ctx.scope, batch, _chunk(batch))
                now = await batches.batch(tx, ctx.scope, batch.id)
                gate = await waves.gate(tx, ctx.scope, now, waiting[0], ctx.now()) if waiting else waves.Gate()
            if gate.rest_until is not None:
                break
            if gate.halt:
                await _finish(ctx, batch, BatchStatus.HALTED, EventType.BATCH_HALTED, gate.halt)
                return
            if not waiting:
                await _finish(ctx, batch, BatchStatus.COMPLETED, EventType.BATCH_COMPLETED)
                return
            if batch.max_failures is not None and now.failed > batch.max_failures:
                reason = f"more than {batch.max_failures} items failed"
                await _finish(ctx, batch, BatchStatus.HALTED, EventType.BATCH_HALTED, reason)
                return
            waiting = waves.of_one_wave(batch, waiting)
            room = len(waiting) if batch.max_failures is None else batch.max_failures - now.failed + 1
            if batch.action == BatchAction.RENEW:
                waiting = await _renew_together(ctx, batch, waiting, scope, may_go_on, room)
            elif not batch.dry_run:
                waiting = await _revoke_own(ctx, batch, waiting, scope, may_go_on)
                waiting = await _run_together(ctx, batch, waiting[:_CHUNK], scope, may_go_on) if waiting else []
            for item in waiting[:room]:
                if not may_go_on():
                    break
                await _run_item(ctx, batch, item, scope)
        async with ctx.database.begin("batch.release") as tx:
            await batches.release(tx, ctx.scope, batch, gate.rest_until or ctx.now())
    except StaleFence:
        log.info("batch_passed_on", batch_id=batch.id)


async def halt(ctx: Context, batch: Batch, reason: str) -> None:
    """End a leased batch whose asker may no longer do this; what was done stays done."""
    await _finish(ctx, batch, BatchStatus.HALTED, EventType.BATCH_HALTED, reason)


async def _finish(ctx: Context, batch: Batch, status: BatchStatus, kind: EventType, reason: str = "") -> None:
    now = ctx.now()
    try:
        async with ctx.database.begin("batch.end") as tx:
            await batches.end(tx, ctx.scope, batch.id, status, now, reason=reason, fence=batch.fence)
            ended = await batches.batch(tx, ctx.scope, batch.id)
            await append(tx, ctx.scope, now, event(kind, batch.id, batch.actor, sums(ended)))
    except Conflict:
        log.info("batch_passed_on", batch_id=batch.id)


async def cancel(ctx: Context, scope: Scope, actor: Actor, batch_id: str) -> Batch:
    """Stop a running batch: no further item is begun. NotFound outside the scope, Conflict when it has ended."""
    now = ctx.now()
    async with ctx.database.begin("batch.cancel") as tx:
        await batches.batch(tx, scope, batch_id, key=scope_key(scope), requested_by=actor.id)
        reason = f"cancelled by {actor.id}"
        await batches.end(tx, ctx.scope, batch_id, BatchStatus.CANCELLED, now, reason=reason)
        ended = await batches.batch(tx, ctx.scope, batch_id)
        await append(tx, ctx.scope, now, event(EventType.BATCH_CANCELLED, batch_id, actor, sums(ended)))
    return ended


async def _run_together(
    ctx: Context, batch: Batch, items: Sequence[BatchItem], scope: Scope, may_go_on: Callable[[], bool]
) -> list[BatchItem]:
    """Items one after the other in one transaction: all are done and recorded, or none. Returns those that are to be
    run one by one: every one of this call when one of them was refused, and none when all went well.

    No lock is held for longer than a moment: what does not fit in it waits for the next call.
    """
    tried: list[BatchItem] = []
    begun = time.monotonic()
    try:
        async with ctx.database.begin("batch.items") as tx:
            await batches.hold(tx, ctx.scope, batch, ctx.now() + ctx.patience.lease)
            for item in items:
                if not may_go_on() or (tried and time.monotonic() - begun >= _LONGEST_TOGETHER):
                    break
                tried.append(item)
                await _act(tx, ctx, batch, item, scope)
    except StaleFence:
        raise
    except Exception as error:
        # whoever it was meets the same refusal by itself, where it is told; a deadlock or a lost database do so too
        log.info("batch_items_run_singly", batch_id=batch.id, items=len(tried), error=str(error))
        return tried
    return []


async def _revoke_own(
    ctx: Context, batch: Batch, items: Sequence[BatchItem], scope: Scope, may_go_on: Callable[[], bool]
) -> list[BatchItem]:
    """Revoke and record, in one transaction of a few statements, those of these items that our own CA has signed.
    Returns the others, as far as it may go on: nothing in them has kept these.
    """
    if batch.action != BatchAction.REVOKE or batch.dry_run:
        return list(items)
    items = list(itertools.takewhile(lambda _item: may_go_on(), items))
    if not items:
        return []
    named = [item.certificate_id for item in items]
    reason = str(batch.wanted.get("reason", ""))
    try:
        async with ctx.database.begin("batch.items") as tx:
            await batches.hold(tx, ctx.scope, batch, ctx.now() + ctx.patience.lease)
            made = await revoke.trigger_own(tx, ctx, scope, batch.actor, named, reason)
            ended = [
                batches.Ended(item, ItemStatus.DONE, job_ids=[made[item.certificate_id].id])
                for item in items
                if item.certificate_id in made
            ]
            if ended:
                await batches.end_items(tx, ctx.scope, ended, ctx.now())
    except StaleFence:
        raise
    except Exception as error:
        # as in `_run_together`: each of them meets it by itself
        log.info("batch_items_run_singly", batch_id=batch.id, items=len(items), error=str(error))
        return items
    return [item for item in items if item.certificate_id not in made]


async def _renew_together(
    ctx: Context,
    batch: Batch,
    items: Sequence[BatchItem],
    scope: Scope,
    may_go_on: Callable[[], bool],
    room: int,
) -> list[BatchItem]:
    """Ask for what these items name and record what became of each, in one transaction of a few statements; no more
    than `room` of them fail. Returns those that are to be run one by one: all when one broke down, or none.

    What is refused has written nothing: its refusal is recorded with what the others were given.
    """
    items = list(itertools.takewhile(lambda _item: may_go_on(), items))
    try:
        while items:
            taken = await _ask_together(ctx, batch, items, scope, room)
            if taken is None:
                return []
            items = items[: len(taken)]
            if batch.dry_run:
                async with ctx.database.begin("batch.outcome") as tx:
                    await batches.hold(tx, ctx.scope, batch, ctx.now() + ctx.patience.lease)
                    await _write_all(tx, ctx, items, taken)
                return []
    except (StaleFence, Temporary):
        raise
    except Exception as error:
        # as in `_run_together`: each of them meets it by itself
        log.info("batch_items_run_singly", batch_id=batch.id, items=len(items), error=str(error))
    return items


async def _ask_together(
    ctx: Context, batch: Batch, items: Sequence[BatchItem], scope: Scope, room: int
) -> Sequence[Outcome] | None:
    """None when it is done and recorded; else what was taken back: in a dry run all of it, and where more than `room`
    would fail, all up to the last that may.
    """
    try:
        async with ctx.database.begin("batch.items") as tx:
            await batches.hold(tx, ctx.scope, batch, ctx.now() + ctx.patience.lease)
            outcomes = await _renew_all(tx, ctx, batch, [item.certificate_id for item in items], scope)
            _take_back(batch, outcomes, room)
            await _write_all(tx, ctx, items, outcomes)
    except _TakenBack as taken:
        return taken.outcomes
    return None


def _take_back(batch: Batch, outcomes: Sequence[Outcome], room: int) -> None:
    failed = [at for at, one in enumerate(outcomes) if one.status == ItemStatus.FAILED]
    if len(failed) > room:
        raise _TakenBack(*outcomes[: failed[room - 1] + 1])
    if batch.dry_run:
        raise _TakenBack(*outcomes)


async def _renew_all(tx: Tx, ctx: Context, batch: Batch, named: Sequence[str], scope: Scope) -> list[Outcome]:
    force = bool(batch.wanted.get("force"))
    made = await renew.trigger_all(tx, ctx, scope, batch.actor, named, force=force, wish=True, parent_id=batch.id)
    outcomes: list[Outcome] = []
    for certificate_id in named:
        of_it = made[certificate_id]
        if isinstance(of_it, Malformed):
            of_it = await _why_malformed(tx, scope, certificate_id, of_it)
        if isinstance(of_it, CertctlError):
            outcomes.append(_refused(of_it))
        elif of_it:
            outcomes.append(Outcome(ItemStatus.DONE, job_ids=[job.id for job in of_it]))
        else:
            outcomes.append(Outcome(ItemStatus.DONE, "its holder is asked to replace it"))
    return outcomes


async def _why_malformed(tx: Tx, scope: Scope, certificate_id: str, error: CertctlError) -> CertctlError:
    certificate = await views.certificate(tx, scope, certificate_id)
    return Conflict("it is archived") if certificate.status == CertificateStatus.ARCHIVED else error


def _chunk(batch: Batch) -> int:
    if batch.action == BatchAction.RENEW:
        return _CHUNK_TO_RENEW
    return _CHUNK_TO_REVOKE if batch.action == BatchAction.REVOKE else _CHUNK


async def _run_item(ctx: Context, batch: Batch, item: BatchItem, scope: Scope) -> None:
    until = ctx.now() + ctx.patience.lease
    try:
        async with ctx.database.begin("batch.item") as tx:
            await batches.hold(tx, ctx.scope, batch, until)
            await _act(tx, ctx, batch, item, scope)
            return
    except _TakenBack as taken:
        (outcome,) = taken.outcomes
    except (StaleFence, Temporary):
        raise
    except CertctlError as error:
        outcome = _refused(error)
    except Exception as error:
        log.exception("batch_item_failed", batch_id=batch.id, certificate_id=item.certificate_id)
        message = f"unexpected {type(error).__name__}; see the server's log"
        outcome = Outcome(ItemStatus.FAILED, message, "internal")
    async with ctx.database.begin("batch.outcome") as tx:
        await batches.hold(tx, ctx.scope, batch, until)
        await _write(tx, ctx, item, outcome)


async def _act(tx: Tx, ctx: Context, batch: Batch, item: BatchItem, scope: Scope) -> None:
    outcome = await _ACTS[BatchAction(batch.action)](tx, ctx, batch, item, scope)
    if batch.dry_run:
        raise _TakenBack(outcome)
    await _write(tx, ctx, item, outcome)


def _refused(error: CertctlError) -> Outcome:
    """Where things stand as they should already, or cannot be helped now, the item is skipped; the rest has failed."""
    status = ItemStatus.SKIPPED if isinstance(error, Conflict) else ItemStatus.FAILED
    return Outcome(status, error.message, error.code)


async def _write(tx: Tx, ctx: Context, item: BatchItem, outcome: Outcome) -> None:
    await _write_all(tx, ctx, [item], [outcome])


async def _write_all(tx: Tx, ctx: Context, items: Sequence[BatchItem], outcomes: Sequence[Outcome]) -> None:
    ended = [
        batches.Ended(item, one.status, one.reason, one.error_kind, one.job_ids)
        for item, one in zip(items, outcomes, strict=True)
    ]
    await batches.end_items(tx, ctx.scope, ended, ctx.now())


async def _renew(tx: Tx, ctx: Context, batch: Batch, item: BatchItem, scope: Scope) -> Outcome:
    (outcome,) = await _renew_all(tx, ctx, batch, [item.certificate_id], scope)
    return outcome


async def _revoke(tx: Tx, ctx: Context, batch: Batch, item: BatchItem, scope: Scope) -> Outcome:
    reason = str(batch.wanted.get("reason", ""))
    job = await revoke.trigger_in(tx, ctx, scope, batch.actor, item.certificate_id, reason=reason, once=True)
    return Outcome(ItemStatus.DONE, job_ids=[job.id])


async def _reassign(tx: Tx, ctx: Context, batch: Batch, item: BatchItem, scope: Scope) -> Outcome:
    before = await views.certificate(tx, scope, item.certificate_id)
    owner_id = str(batch.wanted["owner_id"])
    team_id = str(batch.wanted.get("team_id", "")) or before.team_id
    if (before.owner_id, before.team_id) == (owner_id, team_id):
        raise Conflict("it is theirs already")
    changes = request.CertificateChanges(owner_id=owner_id, team_id=team_id)
    await request.update_in(tx, ctx, scope, batch.actor, item.certificate_id, changes)
    return Outcome(ItemStatus.DONE)


_Act = Callable[[Tx, Context, Batch, BatchItem, Scope], Awaitable[Outcome]]
_ACTS: dict[BatchAction, _Act] = {
    BatchAction.RENEW: _renew,
    BatchAction.REVOKE: _revoke,
    BatchAction.REASSIGN: _reassign,
}


def sums(batch: Batch) -> dict[str, Any]:
    """What its events tell of a batch."""
    return {
        "action": str(batch.action),
        "dry_run": batch.dry_run,
        "reason": batch.status_reason,
        "total": batch.total,
        "done": batch.done,
        "skipped": batch.skipped,
        "failed": batch.failed,
    }


def event(kind: EventType, batch_id: str, actor: Actor, details: dict[str, Any]) -> Event:
    """What happened to a batch."""
    return Event(type=kind, subject_type="batch", subject_id=batch_id, actor=actor, details=details)


async def purge(ctx: Context, kept: timedelta) -> int:
    """Delete batches that ended longer ago than `kept`, with their items; how many rows. The event log keeps theirs."""
    before, gone, last = ctx.now() - kept, 0, _PURGED_AT_ONCE
    while last >= _PURGED_AT_ONCE:
        async with ctx.database.begin("batch.purge") as tx:
            last = await batches.purge(tx, ctx.scope, before, _PURGED_AT_ONCE)
        gone += last
    return gone
