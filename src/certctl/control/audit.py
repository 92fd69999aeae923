"""The audit log for those who read it: sealing it in time, verifying it, proofs, exports of any size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from msgspec import Struct

from certctl.core.actor import Actor
from certctl.core.errors import Malformed, NotFound, Violation
from certctl.core.events import Event, EventType
from certctl.core.scope import Scope
from certctl.ledger import EventRow, append
from certctl.ledger.hashes import Hashes
from certctl.ledger.seal import Seal, read_seal, seal
from certctl.ledger.verification import Verified, verify
from certctl.lifecycle.context import Context
from certctl.pki import merkle
from certctl.store import audit_tree, listings
from certctl.store.audit_tree import Head, Leaf

_STRIDE = 500


class Inclusion(Struct, frozen=True, kw_only=True):
    """That an event is a leaf of the tree under `head`."""

    leaf_index: int
    leaf_hash: bytes
    path: list[bytes]
    head: Head


class Consistency(Struct, frozen=True, kw_only=True):
    """That a tree begins with a smaller one."""

    proof: list[bytes]
    first_root: bytes
    second_root: bytes


class Extract(Struct, frozen=True, kw_only=True):
    """A part of the sealed log, and what lies beside it: together they lead to the head."""

    start: int
    end: int
    beside: list[bytes]
    head: Head
    verifier_key: str


async def seal_all(ctx: Context) -> int:
    """Seal whatever waits; returns how many events."""
    sealed = 0
    while found := await seal(ctx.database, ctx.scope, ctx.keybox, ctx.now()):
        sealed += found
    return sealed


async def read(ctx: Context) -> Seal:
    """How the seal stands. NotFound before the first event was sealed."""
    return await read_seal(ctx.database, ctx.scope, ctx.keybox)


async def verify_all(ctx: Context) -> Verified:
    """Hold the whole log against its seal, now."""
    await seal_all(ctx)
    told = await read(ctx)
    return await verify(ctx.database, ctx.scope, told.verifier_key, ctx.now(), whole=True)


async def verify_due(ctx: Context, walk_every: timedelta) -> int:
    """Verify what is new, or all when that was not done for `walk_every`; returns nothing to follow at once."""
    try:
        told = await read(ctx)
    except NotFound:
        return 0
    walked = told.tree.walked_at
    whole = walked is None or ctx.now() - walked >= walk_every
    await verify(ctx.database, ctx.scope, told.verifier_key, ctx.now(), whole=whole)
    return 0


async def event(ctx: Context, visible: Scope, event_id: str) -> EventRow | None:
    """One event by id, if it is there and this scope may see it."""
    async with ctx.database.read() as tx:
        return await listings.audit_event(tx, visible, event_id)


async def prove_inclusion(ctx: Context, event_id: str) -> Inclusion:
    """That an event is under the seal; one that waits for it is sealed first."""
    found = await event(ctx, ctx.scope, event_id)
    if found is None:
        raise NotFound(f"no audit event {event_id}")
    await seal_all(ctx)
    async with ctx.database.read() as tx:
        head = await audit_tree.newest_head(tx, ctx.scope)
        index = await audit_tree.leaf_of(tx, ctx.scope, found.seq)
        if head is None or index is None or index >= head.size:
            raise NotFound(f"event {event_id} is not sealed yet; ask again in a moment")
        hashes = Hashes(tx, ctx.scope)
        return Inclusion(
            leaf_index=index,
            leaf_hash=await hashes.range(index, index + 1),
            path=await hashes.ranges(merkle.inclusion(index, head.size)),
            head=head,
        )


async def prove_consistency(ctx: Context, first: int, second: int) -> Consistency:
    """That the log of `second` events begins with that of `first`; Malformed when there are not so many."""
    size = (await read(ctx)).tree.size
    if not 0 < first <= second <= size:
        said = f"sizes must be 1 <= first <= second <= {size}, which is how many events are sealed"
        raise Malformed(said, violations=(Violation("out_of_range", said, "first"),))
    async with ctx.database.read() as tx:
        hashes = Hashes(tx, ctx.scope)
        return Consistency(
            proof=await hashes.ranges(merkle.consistency(first, second)),
            first_root=await hashes.range(0, first),
            second_root=await hashes.range(0, second),
        )


async def extract(ctx: Context, actor: Actor, since: datetime | None, until: datetime | None) -> Extract:
    """What an export of this time holds: every leaf from the first event in it to the last. An event itself."""
    details = {"from": since.isoformat() if since else "", "to": until.isoformat() if until else ""}
    told = Event(type=EventType.AUDIT_EXPORTED, subject_type="audit", subject_id="log", actor=actor, details=details)
    async with ctx.database.begin("audit.export") as tx:
        await append(tx, ctx.scope, ctx.now(), told)
    await seal_all(ctx)
    seal_now = await read(ctx)
    head = seal_now.head
    if head is None:
        raise NotFound("nothing was sealed yet; the first events are within seconds")
    async with ctx.database.read() as tx:
        if since is None and until is None:
            start, end = min(seal_now.tree.pruned_size, head.size), head.size
        else:
            start, end = await audit_tree.range_between(tx, ctx.scope, since, until)
            start, end = min(start, head.size), min(end, head.size)
        beside = await Hashes(tx, ctx.scope).ranges(merkle.outside(start, end, head.size))
    return Extract(start=start, end=end, beside=beside, head=head, verifier_key=seal_now.verifier_key)


async def each_leaf(ctx: Context, start: int, end: int) -> AsyncIterator[Leaf]:
    """The leaves of a part, in order, read piece by piece: memory stays flat however long it is."""
    for low in range(start, end, _STRIDE):
        async with ctx.database.read() as tx:
            leaves = await audit_tree.leaves(tx, ctx.scope, low, min(low + _STRIDE, end))
        for leaf in leaves:
            yield leaf
