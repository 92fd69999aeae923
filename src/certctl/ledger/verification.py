"""Is the sealed log what was sealed? Every event against its leaf, every leaf against the signed heads.

The walk over all (`walk`) trusts nothing but the heads' key; the one over what is new (`catch_up`) trusts the subtrees
that an earlier walk found right. Both stop at the first entry that does not hold, and say which.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from certctl.core.audit import stored_as_bytes
from certctl.core.scope import Scope
from certctl.ledger.hashes import Hashes
from certctl.pki import merkle
from certctl.pki.checkpoint import open_checkpoint
from certctl.store import audit_pruning, audit_tree
from certctl.store.audit_tree import FANOUT, Head, Tree
from certctl.store.tx import Database, Tx
from certctl.telemetry import metrics
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

_STRIDE = FANOUT * 32


class Break(Struct, frozen=True):
    """The first leaf that does not hold, and what is wrong with it, in words."""

    leaf_index: int
    what: str


class Verified(Struct, frozen=True, kw_only=True):
    """How many leaves were looked at, up to which size of the tree, and the first break, if any."""

    looked_at: int
    size: int
    # so many of them were pruned: of those the hashes were looked at
    pruned: int = 0
    broken: Break | None = None


class Broken(Exception):
    """The first entry that does not hold."""

    def __init__(self, leaf_index: int, what: str) -> None:
        super().__init__(what)
        self.found = Break(leaf_index, what)


async def verify(database: Database, scope: Scope, verifier: str, now: datetime, *, whole: bool) -> Verified:
    """Verify the whole log, or what came since the last time; the finding is kept and counted."""
    async with database.read() as tx:
        tree = await audit_tree.tree(tx, scope)
        while True:
            if tree is None:
                return Verified(looked_at=0, size=0)
            start = 0 if whole else tree.verified_size // FANOUT * FANOUT
            broken = await _look(tx, scope, tree, verifier, start, whole=whole)
            now_is = await audit_tree.tree(tx, scope) if broken is not None else tree
            if now_is is None or now_is.pruned_size == tree.pruned_size:
                break
            tree = now_is  # pruned under our eyes: look again
    found = Verified(
        looked_at=tree.size - start, size=tree.size, pruned=tree.pruned_size if whole else 0, broken=broken
    )
    await _keep(database, scope, tree, found, now, whole=whole)
    return found


async def _look(tx: Tx, scope: Scope, tree: Tree, verifier: str, start: int, *, whole: bool) -> Break | None:
    try:
        await (_walk(tx, scope, tree, verifier) if whole else _catch_up(tx, scope, tree, verifier, start))
    except Broken as error:
        return error.found
    return None


async def _keep(database: Database, scope: Scope, tree: Tree, found: Verified, now: datetime, *, whole: bool) -> None:
    """A break stays until a whole walk finds none: what is new being right does not mend what is old."""
    async with database.begin("audit.verify") as tx:
        tx.count(scope.tenant_id, metrics.AUDIT_VERIFY_TOTAL)
        if found.broken is None:
            changes = {"verified_at": now, "verified_size": found.size}
            if whole:
                changes |= {"walked_at": now, "broken_at": None, "broken": ""}
            await audit_tree.move(tx, scope, **changes)
            return
        log.error("audit_seal_broken", leaf_index=found.broken.leaf_index, what=found.broken.what)
        if tree.broken_at != found.broken.leaf_index:
            tx.count(scope.tenant_id, metrics.AUDIT_BREAK_TOTAL)
        await audit_tree.move(tx, scope, broken_at=found.broken.leaf_index, broken=found.broken.what)


class _Stride(Struct, frozen=True):
    """A part of the log, as it was read: it begins with a block, and ends with one or with the log."""

    start: int
    end: int
    rows: Sequence[Sequence[Any]]
    nodes: list[bytes]
    heads: list[Head]
    # of entries that were pruned only these are left
    pruned: list[bytes] | None = None


async def _walk(tx: Tx, scope: Scope, tree: Tree, verifier: str) -> None:
    """From the first leaf on: events, leaves, stored subtrees and every head there is."""
    growing = merkle.Growing()
    async with contextlib.aclosing(_strides(tx, scope, tree, 0, whole=True)) as strides:
        async for stride in strides:
            # in a thread: who is served by this process must not wait for so many hashes
            await asyncio.to_thread(_judge_stride, stride, growing, verifier)
    await _judge_end(tx, scope, tree, verifier)
    if tree.pruned_size and await audit_pruning.newest_told(tx, scope) < tree.pruned_size:
        raise Broken(tree.pruned_size - 1, "entries are gone, and no event says that they were pruned")
    slipped = await audit_tree.slipped_in(tx, scope, tree)
    if slipped is not None:
        raise Broken(tree.size, f"event {slipped.id} stands among sealed ones and was never sealed: it was slipped in")


async def _catch_up(tx: Tx, scope: Scope, tree: Tree, verifier: str, start: int) -> None:
    async with contextlib.aclosing(_strides(tx, scope, tree, start, whole=False)) as strides:
        async for stride in strides:
            if stride.pruned is None:
                await asyncio.to_thread(_judge_rows, stride)
    await _judge_end(tx, scope, tree, verifier)


async def _strides(tx: Tx, scope: Scope, tree: Tree, start: int, *, whole: bool) -> AsyncGenerator[_Stride, None]:
    """Each part of the log; the next is read while one is judged."""

    async def read(low: int) -> _Stride:
        high = min(low + _STRIDE, tree.size)
        if low < tree.pruned_size:
            high = min(high, tree.pruned_size)
            return await _read_pruned(tx, scope, low, high)
        rows = await audit_tree.raw_leaves(tx, scope, low, high)
        if not whole:
            return _Stride(low, high, rows, [], [])
        nodes = await audit_tree.hashes(tx, scope, 1, low // FANOUT, high // FANOUT)
        return _Stride(low, high, rows, nodes, await audit_tree.heads(tx, scope, low, _STRIDE, until=high))

    ahead = asyncio.create_task(read(start)) if start < tree.size else None
    try:
        while ahead is not None:
            stride, ahead = await ahead, None
            if stride.end < tree.size:
                ahead = asyncio.create_task(read(stride.end))
            yield stride
    finally:
        if ahead is not None:  # to its end: a connection that was broken off in the middle is of no use to anybody
            await asyncio.gather(ahead, return_exceptions=True)


async def _read_pruned(tx: Tx, scope: Scope, low: int, high: int) -> _Stride:
    pruned = await audit_pruning.blocks(tx, scope, low, high)
    if pruned is None:
        raise Broken(low, f"the hashes that remain of the pruned entries {low} to {high - 1} are gone")
    nodes = await audit_tree.hashes(tx, scope, 1, low // FANOUT, high // FANOUT)
    return _Stride(low, high, [], nodes, await audit_tree.heads(tx, scope, low, _STRIDE, until=high), pruned)


class Part(Struct, frozen=True):
    """Entries that hold: their hashes, and when they happened, as it is sealed."""

    hashes: list[bytes]
    moments: list[str]


async def read_part(tx: Tx, scope: Scope, start: int, end: int) -> Part:
    """The entries from `start` to `end`, each held against its leaf. Raises Broken."""
    rows = await audit_tree.raw_leaves(tx, scope, start, end)
    hashes = await asyncio.to_thread(_judge_rows, _Stride(start, end, rows, [], []))
    return Part(hashes, [row[11] for row in rows])


def _judge_stride(stride: _Stride, growing: merkle.Growing, verifier: str) -> None:
    hashed = _judge_rows(stride) if stride.pruned is None else stride.pruned
    pending = iter(stride.heads)
    head = next(pending, None)
    for low in range(stride.start, stride.end, FANOUT):
        block = hashed[low - stride.start : low - stride.start + FANOUT]
        if head is not None and head.size < low + len(block):
            within = merkle.Growing()
            for each in block:
                within.append(each)
                while head is not None and head.size == low + within.size:
                    _judge_head(head, merkle.join(growing.roots + within.roots), verifier)
                    head = next(pending, None)
        if len(block) == FANOUT:
            root, at = merkle.root(block), (low - stride.start) // FANOUT
            if stride.nodes[at : at + 1] != [root]:
                last = low + FANOUT - 1
                raise Broken(last, f"the entries {low} to {last} are not those whose hash is stored above them")
            growing.append(root)
            while head is not None and head.size == low + FANOUT:
                _judge_head(head, growing.root(), verifier)
                head = next(pending, None)


def _judge_rows(stride: _Stride) -> list[bytes]:
    """The hashes of the events themselves, when they are those that were sealed."""
    start, rows = stride.start, stride.rows
    for offset, row in enumerate(rows, start):
        if row[0] != offset:
            raise Broken(offset, "the leaf is gone")
        if row[7] is None:
            raise Broken(offset, "the event was removed")
    try:
        hashed = _hashed(rows)
    except (ValueError, TypeError, AttributeError):  # one cannot be read at all: find it
        hashed = [_hashed_alone(row) for row in rows]
    for row, found in zip(rows, hashed, strict=True):
        if row[1] != found:
            raise Broken(row[0], f"event {row[7]} is not what was sealed: it was changed")
    if len(rows) < stride.end - start:
        raise Broken(start + len(rows), "the leaf is gone")
    return hashed


def _hashed(rows: Sequence[Sequence[Any]]) -> list[bytes]:
    sha256 = hashlib.sha256
    return [sha256(b"\0" + each).digest() for each in stored_as_bytes(rows, 2)]  # `merkle.leaf_hash`, with no call


def _hashed_alone(row: Sequence[Any]) -> bytes:
    try:
        return _hashed([row])[0]
    except (ValueError, TypeError, AttributeError):
        return b""


async def _judge_end(tx: Tx, scope: Scope, tree: Tree, verifier: str) -> None:
    """The newest head is of the whole tree, and the stored subtrees lead to it."""
    if not tree.size:
        return
    newest = await audit_tree.newest_head(tx, scope)
    if newest is None or newest.size < tree.size:
        raise Broken(newest.size if newest else 0, "the head of the newest entries is gone")
    if newest.size > tree.size:  # sealed while we looked, or cut off
        now = await audit_tree.tree(tx, scope)
        if now is None or now.size < newest.size:
            raise Broken(tree.size, "entries are gone: a signed head tells of more than there are")
        (newest,) = await audit_tree.heads(tx, scope, tree.size - 1, 1)
    _judge_head(newest, await Hashes(tx, scope).range(0, newest.size), verifier)


def _judge_head(head: Head, root: bytes, verifier: str) -> None:
    try:
        told = open_checkpoint(head.note, verifier)
    except ValueError as error:
        raise Broken(head.size - 1, f"the head of {head.size} entries: {error}") from error
    if (told.size, told.root) != (head.size, root):
        raise Broken(head.size - 1, f"the first {head.size} entries are not those that the signed head tells of")
