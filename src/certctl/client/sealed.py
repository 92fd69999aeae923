"""Is a sealed export of the audit log what the server sealed? Checked here, with the export and a key, and no server.

Each line against its hash, all hashes and what lies beside them against the signed head (RFC 9162 2.1), and that head
against older ones that somebody kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from certctl.client.models.audit import AuditEventView, SealedEventView, SealProof, SealTrailer
from certctl.core.audit import Entry, category_of
from certctl.core.errors import TrustError
from certctl.pki import merkle
from certctl.pki.checkpoint import Checkpoint, open_checkpoint

_HASH = re.compile(r"[0-9a-f]{64}")


class Intact(Struct, frozen=True, kw_only=True):
    """What was found to hold: events `start` to `end` of the log whose head is `head`."""

    start: int
    end: int
    head: Checkpoint
    verifier_key: str


class NotIntact(TrustError):
    """The export does not hold; `line` (from 1, 0: none) is the first line that is not what was sealed."""

    code = "seal_broken"

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


def verify_export(lines: Iterable[bytes], verifier_key: str = "", older: Sequence[str] = ()) -> Intact:
    """Verify a sealed export, line by line. `verifier_key` is the log's, as it was learnt before; "" takes the one that
    the export brings, which proves less. `older` are signed heads kept from before. Raises NotIntact.
    """
    hashes: list[bytes] = []
    first: int | None = None
    trailer: SealProof | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if trailer is not None:
            raise NotIntact(f"line {number}: nothing may follow the seal", number)
        trailer = _trailer(line)
        if trailer is None:
            event = _event(line, number)
            first = event.leaf_index if first is None else first
            hashes.append(_judge(event, first + len(hashes), number))
    if trailer is None:
        raise NotIntact(
            "the last line, which proves the others, is missing: the export was cut off, or made without seal=true"
        )
    head = _head(trailer, verifier_key or trailer.verifier_key)
    _judge_whole(hashes, first or trailer.start, trailer, head)
    for note in older:
        _judge_older(hashes, trailer, head, note, verifier_key or trailer.verifier_key)
    return Intact(start=trailer.start, end=trailer.end, head=head, verifier_key=verifier_key or trailer.verifier_key)


def _trailer(line: bytes) -> SealProof | None:
    if not line.startswith(b'{"seal":'):
        return None
    try:
        return msgspec.json.decode(line, type=SealTrailer).seal
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotIntact(f"the last line cannot be read: {error}") from error


def _event(line: bytes, number: int) -> SealedEventView:
    try:
        event = msgspec.json.decode(line, type=SealedEventView)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotIntact(f"line {number} is no event of a sealed export: {error}", number) from error
    # what is not sealed would be believed with the rest: a field too many, one named twice, another category
    if event.event_category != category_of(event.action) or msgspec.json.encode(event) != line.rstrip(b"\n"):
        raise NotIntact(f"line {number} is not as the server wrote it", number)
    return event


def _judge(event: SealedEventView, wanted: int, number: int) -> bytes:
    if event.leaf_index != wanted:
        raise NotIntact(
            f"line {number}: event {wanted} of the log is missing here, what stands here is event {event.leaf_index}",
            number,
        )
    hashed = merkle.leaf_hash(entry_of(event).as_bytes())
    if hashed.hex() != event.leaf_hash:
        raise NotIntact(f"line {number}: event {event.id} (number {wanted} of the log) is not what was sealed", number)
    return hashed


def entry_of(event: AuditEventView) -> Entry:
    """What is sealed of an event that was exported or pushed."""
    return Entry(
        id=event.id,
        timestamp=event.timestamp,
        action=event.action,
        actor=event.actor,
        actor_type=event.actor_type,
        resource_type=event.resource_type,
        resource_id=event.resource_id,
        request_id=event.request_id,
        address=event.address,
        details=event.details,
    )


def _head(trailer: SealProof, verifier_key: str) -> Checkpoint:
    try:
        return open_checkpoint(trailer.checkpoint, verifier_key)
    except ValueError as error:
        raise NotIntact(f"the head of this export: {error}") from error


def _judge_whole(hashes: list[bytes], first: int, trailer: SealProof, head: Checkpoint) -> None:
    if (first, first + len(hashes)) != (trailer.start, trailer.end) or trailer.end > head.size:
        raise NotIntact(
            f"the export should hold events {trailer.start} to {trailer.end} of {head.size}, and holds {len(hashes)}"
        )
    if not all(_HASH.fullmatch(each) for each in trailer.beside):
        raise NotIntact("the last line holds what is no hash")
    try:
        root = merkle.root_around(hashes, trailer.start, head.size, [bytes.fromhex(each) for each in trailer.beside])
    except (ValueError, RecursionError) as error:
        raise NotIntact(f"the last line does not prove the others: {error}") from error
    if root != head.root:
        raise NotIntact("these events, all together, are not those that the signed head tells of")


def _judge_older(hashes: list[bytes], trailer: SealProof, head: Checkpoint, note: str, verifier_key: str) -> None:
    try:
        older = open_checkpoint(note, verifier_key)
    except ValueError as error:
        raise NotIntact(f"the older head: {error}") from error
    if older.size > head.size:
        raise NotIntact(f"events are gone: an older head tells of {older.size}, this export's of {head.size}")
    if trailer.start >= older.size or trailer.end < older.size:
        raise NotIntact(
            f"an older head of {older.size} events is held against an export that holds the last of them at least; "
            f"where they were pruned, ask for the proof: certctl audit consistency {older.size}"
        )
    before = len(merkle.complete_parts(0, trailer.start))  # the first of what lies beside lies before, in every tree
    beside = [bytes.fromhex(each) for each in trailer.beside[:before]]
    if merkle.root_around(hashes[: older.size - trailer.start], trailer.start, older.size, beside) != older.root:
        raise NotIntact(
            f"the first {older.size} events are not those that an older head tells of: the log was rewritten"
        )
