"""Retention of the audit log: what is older than it is kept is dropped, block by block, and the seal stays whole.

Dropped is only what is sealed, verified, and with every receiver that is configured. Each part goes in one transaction
with an event that says how far and by which policy, so a crash leaves a part there or pruned; and verification wants
that event, which is sealed as all are: who deletes rows and calls it pruning is found out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from certctl.control import breakglass
from certctl.core.errors import TrustError
from certctl.core.events import Event, EventType
from certctl.ledger import append
from certctl.ledger.verification import Broken, read_part
from certctl.lifecycle.context import Context
from certctl.pki import merkle
from certctl.store import audit_pruning, audit_receivers, audit_tree
from certctl.store.audit_tree import FANOUT, Tree
from certctl.store.tx import Tx
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

_PART = FANOUT * 16


class Pruned(Struct, frozen=True, kw_only=True):
    """Events `start` to `end` of the log were (or, in a dry run, would be) dropped; `waits` says why no more were."""

    start: int
    end: int
    waits: str = ""


async def prune(ctx: Context, kept: timedelta, receivers: Sequence[str], *, dry_run: bool = False) -> Pruned:
    """Drop what is older than `kept`. TrustError when an event that is to go is not what was sealed: nothing goes."""
    async with ctx.database.read() as tx:
        tree = await audit_tree.tree(tx, ctx.scope)
    if tree is None:
        return Pruned(start=0, end=0, waits="nothing is sealed yet")
    start = end = tree.pruned_size
    while True:
        part_end, waits = await _prune_part(ctx, end, kept, receivers, dry_run=dry_run)
        if part_end == end:
            return Pruned(start=start, end=end, waits=waits)
        end = part_end


async def prune_due(ctx: Context, kept: timedelta, receivers: Sequence[str]) -> int:
    """The tick; returns how many events were dropped."""
    done = await prune(ctx, kept, receivers)
    if done.end > done.start:
        log.info("audit_pruned", start=done.start, end=done.end)
    return done.end - done.start


async def _prune_part(
    ctx: Context, start: int, kept: timedelta, receivers: Sequence[str], *, dry_run: bool
) -> tuple[int, str]:
    """Drop one part from `start` on; returns its end (`start`: none), and why it goes no further."""
    before = ctx.now() - kept
    async with ctx.database.begin("audit.prune") as tx:
        tree = await audit_tree.tree(tx, ctx.scope, lock=True)
        if tree is None or (tree.pruned_size != start and not dry_run):
            return start, "another process prunes"
        end, waits = _last(tree, start)
        if end == start:
            return start, waits
        hashes, end = await _old_enough(tx, ctx, start, end, before)
        if end == start:
            return start, f"the next {FANOUT} events are not all older than {kept}"
        for name in receivers:
            if not await _is_with(tx, ctx, name, start, end):
                return start, f"the receiver {name} does not have all of it yet"
        if dry_run:
            return end, ""
        await audit_pruning.keep_setters(tx, ctx.scope, start, end, breakglass.SUBJECT, breakglass.PASSWORD)
        await audit_pruning.pack(tx, ctx.scope, start, hashes)
        await audit_tree.move(tx, ctx.scope, pruned_size=end)
        details = {"start": start, "end": end, "kept": str(kept), "before": before.isoformat()}
        told = Event(
            type=EventType.AUDIT_PRUNED,
            subject_type="audit",
            subject_id="log",
            actor=ctx.actor,
            details=details | {"receivers": list(receivers)},
        )
        await append(tx, ctx.scope, ctx.now(), told)
        return end, ""


def _last(tree: Tree, start: int) -> tuple[int, str]:
    if tree.broken_at is not None:
        return start, "the seal is broken: what might be evidence stays"
    # the newest event stays: on it hang the places of all who follow the log
    end = min(tree.verified_size, tree.size - 1) // FANOUT * FANOUT
    return (min(end, start + _PART), "") if end > start else (start, "the next events are not verified yet, or too few")


async def _old_enough(tx: Tx, ctx: Context, start: int, end: int, before: datetime) -> tuple[list[bytes], int]:
    """The hashes of the events that are all older, as they lie there now and as they were sealed."""
    try:
        part = await read_part(tx, ctx.scope, start, end)
    except Broken as error:
        raise TrustError(f"entry {error.found.leaf_index} of the audit log: {error.found.what}") from error
    limit = f"{before:%Y-%m-%dT%H:%M:%S.%f}Z"  # as it is sealed: in the order of time as text, too
    for low in range(0, end - start, FANOUT):
        if any(moment >= limit for moment in part.moments[low : low + FANOUT]):
            end = start + low
            break
    hashes = part.hashes[: end - start]
    stored = await audit_tree.hashes(tx, ctx.scope, 1, start // FANOUT, end // FANOUT)
    if [merkle.root(hashes[low : low + FANOUT]) for low in range(0, len(hashes), FANOUT)] != stored:
        raise TrustError(f"the hashes stored above the entries {start} to {end} of the audit log are not theirs")
    return hashes, end


async def _is_with(tx: Tx, ctx: Context, name: str, start: int, end: int) -> bool:
    cursor = await audit_receivers.read(tx, ctx.scope, name)
    return cursor is not None and await audit_pruning.has_all(tx, ctx.scope, cursor.place, start, end)
