"""The audit seal: events in the order of their commits, in a Merkle tree, under signed heads (ADR 26).

Sealing follows the log as any follower does, so that writers never wait for it and never for each other. Whoever
changes, removes, slips in or reorders a sealed event is found out by the leaf, whoever changes the leaf by the heads,
and whoever changes those by anybody who kept an older head.
"""

from __future__ import annotations

from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from certctl.authority.keybox import DatabaseSigner
from certctl.core.audit import Entry
from certctl.core.errors import NotFound, Temporary, TrustError
from certctl.core.ids import new_id
from certctl.core.scope import Scope
from certctl.ledger.hashes import Hashes
from certctl.pki import checkpoint, merkle
from certctl.pki.algorithms import SIGNATURE_OF, KeyAlgorithm
from certctl.pki.checkpoint import Checkpoint
from certctl.pki.keys import load_public_key
from certctl.store import audit_tree, authority
from certctl.store.audit import EventRow
from certctl.store.audit_tree import FANOUT, Head, Tree
from certctl.store.tx import Database, Tx
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

MOST_AT_ONCE = 2000


class Seal(Struct, frozen=True, kw_only=True):
    """How the log stands: its newest head, who can verify it, what waits, and what verification found."""

    tree: Tree
    head: Head | None
    verifier_key: str
    unsealed: int


def entry_of(event: EventRow) -> Entry:
    """What is sealed of an event."""
    return Entry(
        id=event.id,
        timestamp=event.created_at,
        action=event.type,
        actor=event.actor,
        actor_type=event.actor_type,
        resource_type=event.subject_type,
        resource_id=event.subject_id,
        request_id=event.request_id,
        address=event.address,
        details=event.details,
    )


async def seal(database: Database, scope: Scope, keybox: DatabaseSigner, now: datetime) -> int:
    """Seal what is behind the sealed place, at most `MOST_AT_ONCE` events, under one new head; returns how many."""
    key_ref = await _ready(database, scope, keybox, now)
    public_key = _raw(await keybox.public_key(key_ref))
    async with database.begin("audit.seal") as tx:
        tree = await audit_tree.tree(tx, scope, lock=True)
        if tree is None:
            raise NotFound("the audit log has no tree")
        was = (tree.transaction_id, tree.seq)
        found, place = await audit_tree.unsealed(tx, scope, was, MOST_AT_ONCE)
        if not found:
            if place != was:
                await audit_tree.move(tx, scope, transaction_id=place[0], seq=place[1])
            return 0
        leaves = [(event.seq, merkle.leaf_hash(entry_of(event).as_bytes())) for event in found]
        await audit_tree.append_leaves(tx, scope, tree.size, leaves)
        size = tree.size + len(leaves)
        await _append_nodes(tx, scope, tree.size, size)
        root = await Hashes(tx, scope).range(0, size)
        told = Checkpoint(tree.origin, size, root, now)
        signature = await keybox.sign(key_ref, SIGNATURE_OF[KeyAlgorithm.ED25519], told.text().encode())
        note = checkpoint.signed(told, public_key, signature)
        await audit_tree.insert_head(tx, scope, Head(size, root, note), now)
        await audit_tree.move(tx, scope, size=size, transaction_id=place[0], seq=place[1])
    # the log leaves the machine with whoever gathers logs: a tail that is cut off later is missed by them
    log.info("audit_head", note=note)
    return len(found)


async def read_seal(database: Database, scope: Scope, keybox: DatabaseSigner) -> Seal:
    """How the log stands now. NotFound before the first event was sealed."""
    async with database.read() as tx:
        tree = await audit_tree.tree(tx, scope)
        head = await audit_tree.newest_head(tx, scope)
        unsealed = await audit_tree.count_unsealed(tx, scope)
    if tree is None:
        raise NotFound("nothing was sealed yet; the first events are within seconds")
    public_key = _raw(await keybox.public_key(tree.key_ref))
    return Seal(tree=tree, head=head, verifier_key=checkpoint.verifier_key(tree.origin, public_key), unsealed=unsealed)


async def _ready(database: Database, scope: Scope, keybox: DatabaseSigner, now: datetime) -> str:
    """The tree's key, which signs nothing else; made with the tree."""
    async with database.read() as tx:
        tree = await audit_tree.tree(tx, scope)
    if tree is not None:
        return tree.key_ref
    key = await keybox.create_key(KeyAlgorithm.ED25519, new_id("key"))
    async with database.begin("audit.tree") as tx:
        if await audit_tree.begin_tree(tx, scope, key.key_ref, f"certctl/audit/{key.key_ref}", now):
            await authority.insert_key(tx, scope, key, now)
            return key.key_ref
        begun = await audit_tree.tree(tx, scope)  # another process was faster
    if begun is None:
        raise Temporary("the audit tree cannot be begun right now")
    return begun.key_ref


def _raw(spki: bytes) -> bytes:
    key = load_public_key(spki)
    if not isinstance(key, Ed25519PublicKey):
        raise TrustError("the key of the audit seal is not an Ed25519 key")
    return key.public_bytes_raw()


async def _append_nodes(tx: Tx, scope: Scope, old: int, new: int) -> None:
    """Store the roots of the subtrees that have become complete."""
    level = 1
    while (new := new // FANOUT) > (old := old // FANOUT):
        below = await audit_tree.hashes(tx, scope, level - 1, old * FANOUT, new * FANOUT)
        roots = [merkle.root(below[at : at + FANOUT]) for at in range(0, len(below), FANOUT)]
        await audit_tree.append_nodes(tx, scope, level, old, roots)
        level += 1
