"""Is the sealed log what was sealed? Every event against its leaf, every leaf against the signed heads.

The walk over all (`walk`) trusts nothing but the heads' key; the one over what is new (`catch_up`) trusts the subtrees
that an earlier walk found right. Both stop at the first entry that does not hold, and say which.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from certctl.core.scope import Scope
from certctl.ledger.hashes import Hashes
from certctl.ledger.seal import entry_of
from certctl.pki import merkle
from certctl.pki.checkpoint import open_checkpoint
from certctl.store import audit_tree
from certctl.store.audit_tree import FANOUT, Head, Leaf, Tree
from certctl.store.tx import Database, Tx
from certctl.telemetry import metrics
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

_STRIDE = FANOUT * 16


class Break(Struct, frozen=True):
    """The first leaf that does not hold, and what is wrong with it, in words."""

    leaf_index: int
    what: str


class Verified(Struct, frozen=True, kw_only=True):
    """How many leaves were looked at, up to which size of the tree, and the first break, if any."""

    looked_at: int
    size: int
    broken: Break | None = None


class _Broken(Exception):
    def __init__(self, leaf_index: int, what: str) -> None:
        super().__init__(what)
        self.found = Break(leaf_index, what)


async def verify(database: Database, scope: Scope, verifier: str, now: datetime, *, whole: bool) -> Verified:
    """Verify the whole log, or what came since the last time; the finding is kept and counted."""
    async with database.read() as tx:
        tree = await audit_tree.tree(tx, scope)
        if tree is None:
            return Verified(looked_at=0, size=0)
        start = 0 if whole else tree.verified_size // FANOUT * FANOUT
        try:
            await (_walk(tx, scope, tree, verifier) if whole else _catch_up(tx, scope, tree, verifier, start))
            broken = None
        except _Broken as error:
            broken = error.found
    found = Verified(looked_at=tree.size - start, size=tree.size, broken=broken)
    await _keep(database, scope, tree, found, now, whole=whole)
    return found


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


async def _walk(tx: Tx, scope: Scope, tree: Tree, verifier: str) -> None:
    """From the first leaf on: events, leaves, stored subtrees and every head there is."""
    growing = _Growing()
    pending = await audit_tree.heads(tx, scope, 0, FANOUT)
    for start in range(0, tree.size, _STRIDE):
        end = min(start + _STRIDE, tree.size)
        for leaf in await _whole_leaves(tx, scope, start, end):
            growing.append(_judge(leaf))
            while pending and pending[0].size == growing.size:
                _judge_head(pending.pop(0), growing.root(), verifier)
                pending = pending or await audit_tree.heads(tx, scope, growing.size, FANOUT)
    await _judge_end(tx, scope, tree, verifier)
    slipped = await audit_tree.slipped_in(tx, scope, tree)
    if slipped is not None:
        raise _Broken(tree.size, f"event {slipped.id} stands among sealed ones and was never sealed: it was slipped in")


async def _catch_up(tx: Tx, scope: Scope, tree: Tree, verifier: str, start: int) -> None:
    for low in range(start, tree.size, _STRIDE):
        for leaf in await _whole_leaves(tx, scope, low, min(low + _STRIDE, tree.size)):
            _judge(leaf)
    await _judge_end(tx, scope, tree, verifier)


async def _judge_end(tx: Tx, scope: Scope, tree: Tree, verifier: str) -> None:
    """The newest head is of the whole tree, and the stored subtrees lead to it."""
    if not tree.size:
        return
    newest = await audit_tree.newest_head(tx, scope)
    if newest is None or newest.size < tree.size:
        raise _Broken(newest.size if newest else 0, "the head of the newest entries is gone")
    if newest.size > tree.size:  # sealed while we looked, or cut off
        now = await audit_tree.tree(tx, scope)
        if now is None or now.size < newest.size:
            raise _Broken(tree.size, "entries are gone: a signed head tells of more than there are")
        (newest,) = await audit_tree.heads(tx, scope, tree.size - 1, 1)
    _judge_head(newest, await Hashes(tx, scope).range(0, newest.size), verifier)


async def _whole_leaves(tx: Tx, scope: Scope, start: int, end: int) -> list[Leaf]:
    found = await audit_tree.leaves(tx, scope, start, end)
    for offset, leaf in enumerate(found):
        if leaf.leaf_index != start + offset:
            break
    else:
        if len(found) == end - start:
            return found
        offset = len(found)
    raise _Broken(start + offset, "the leaf is gone")


def _judge(leaf: Leaf) -> bytes:
    """The hash of the event itself, when it is the one that was sealed."""
    if leaf.event is None:
        raise _Broken(leaf.leaf_index, "the event was removed")
    hashed = merkle.leaf_hash(entry_of(leaf.event).as_bytes())
    if hashed != leaf.hash:
        raise _Broken(leaf.leaf_index, f"event {leaf.event.id} is not what was sealed: it was changed")
    return hashed


def _judge_head(head: Head, root: bytes, verifier: str) -> None:
    try:
        told = open_checkpoint(head.note, verifier)
    except ValueError as error:
        raise _Broken(head.size - 1, f"the head of {head.size} entries: {error}") from error
    if (told.size, told.root) != (head.size, root):
        raise _Broken(head.size - 1, f"the first {head.size} entries are not those that the signed head tells of")


class _Growing:
    """The roots of the complete subtrees of a growing tree, largest first (RFC 9162 2.1.2)."""

    def __init__(self) -> None:
        self.size = 0
        self._stack: list[bytes] = []

    def append(self, hashed: bytes) -> None:
        size, self.size = self.size, self.size + 1
        while size & 1:
            hashed = merkle.node_hash(self._stack.pop(), hashed)
            size >>= 1
        self._stack.append(hashed)

    def root(self) -> bytes:
        return merkle.join(self._stack)
