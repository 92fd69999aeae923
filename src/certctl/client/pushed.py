"""Is what a receiver off the box has of the audit log what the server sealed? Checked here, with its file and a key.

A line each: events as they were pushed, and the signed heads between them (`core.audit.HEAD`), in NDJSON or behind a
syslog header (RFC 5424). Entries may have come twice. Every head must tell of exactly the events that came before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from certctl.client.models.audit import AuditEventView
from certctl.client.sealed import NotIntact, entry_of
from certctl.core.audit import HEAD, category_of
from certctl.pki import merkle
from certctl.pki.checkpoint import Checkpoint, open_checkpoint


class Received(Struct, frozen=True, kw_only=True):
    """What was found to hold: the first `head.size` events. `heads` were held against them; `behind` came after it."""

    head: Checkpoint
    heads: int
    behind: int


class _Told(Struct):
    """What a head's entry says of itself."""

    checkpoint: str
    last_event: str
    size: int


class _File:
    """The events of a file so far, each once, in the order in which they came first."""

    def __init__(self, verifier_key: str) -> None:
        self._key = verifier_key
        self._hashes: list[bytes] = []
        self._known: dict[str, int] = {}
        self._grown = merkle.Growing()
        self._roots: dict[int, bytes] = {}
        self._newest: Checkpoint | None = None

    def take_event(self, entry: AuditEventView, number: int) -> None:
        hashed = merkle.leaf_hash(entry_of(entry).as_bytes())
        at = self._known.setdefault(entry.id, len(self._hashes))
        if at == len(self._hashes):
            self._hashes.append(hashed)
        elif self._hashes[at] != hashed:
            raise NotIntact(f"line {number}: event {entry.id} came before, and said something else", number)

    def take_head(self, entry: AuditEventView, number: int) -> None:
        try:
            told = msgspec.convert(entry.details, _Told)
            head = open_checkpoint(told.checkpoint, self._key)
        except (msgspec.ValidationError, ValueError) as error:
            raise NotIntact(f"line {number}: this head is none of this log: {error}", number) from error
        if self._roots.setdefault(head.size, head.root) != head.root:
            raise NotIntact(f"line {number}: two heads of {head.size} events differ: the log was rewritten", number)
        self._judge_place(head, told.last_event, number)
        if head.size < self._grown.size:  # sent again; its root was seen, or is looked for anew
            found = merkle.root(self._hashes[: head.size])
        else:
            for hashed in self._hashes[self._grown.size : head.size]:
                self._grown.append(hashed)
            found = self._grown.root()
        if found != head.root:
            before = max((size for size in self._roots if size < head.size), default=0)
            said = f"line {number}: events {before} to {head.size} of the log are not what the signed head tells of"
            raise NotIntact(said, number)
        if self._newest is None or head.size > self._newest.size:
            self._newest = head

    def _judge_place(self, head: Checkpoint, last_event: str, number: int) -> None:
        """The last event that a head covers came before it, as the event of that number."""
        at = self._known.get(last_event)
        if at is None:
            said = f"line {number}: the head of {head.size} events covers {last_event}, which never came"
            raise NotIntact(said, number)
        missing = head.size - 1 - at
        if missing == 0:
            return
        if missing < 0:
            raise NotIntact(f"line {number}: {-missing} events came that the head of {head.size} does not know", number)
        if self._newest is None:
            raise NotIntact(
                f"line {number}: {missing} of the first {head.size} events are missing; a file is verified from the "
                "log's first event on",
                number,
            )
        raise NotIntact(
            f"line {number}: {missing} events are missing between the heads of {self._newest.size} and {head.size}",
            number,
        )

    def judge_older(self, note: str) -> None:
        try:
            older = open_checkpoint(note, self._key)
        except ValueError as error:
            raise NotIntact(f"the older head: {error}") from error
        if older.size > len(self._hashes):
            raise NotIntact(f"events are gone: an older head tells of {older.size}, {len(self._hashes)} are here")
        if merkle.root(self._hashes[: older.size]) != older.root:
            raise NotIntact(
                f"the first {older.size} events are not those that an older head tells of: the log was rewritten"
            )

    def received(self) -> Received:
        if self._newest is None:
            raise NotIntact("there is no signed head in this file, so nothing proves its events")
        behind = len(self._hashes) - self._newest.size
        return Received(head=self._newest, heads=len(self._roots), behind=behind)


def is_pushed(first: bytes) -> bool:
    """Whether a file that begins with this line is a receiver's; a sealed export numbers its lines."""
    return b'"leaf_index":' not in first and not first.startswith(b'{"seal":')


def verify_pushed(lines: Iterable[bytes], verifier_key: str, older: Sequence[str] = ()) -> Received:
    """Verify what a receiver has, from the log's first event on, under the key that was learnt before: nothing in the
    file is believed without it. `older` are signed heads kept from before. Raises NotIntact.
    """
    file = _File(verifier_key)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        entry = _entry(line, number)
        if entry.action == HEAD:
            file.take_head(entry, number)
        else:
            file.take_event(entry, number)
    for note in older:
        file.judge_older(note)
    return file.received()


def _entry(line: bytes, number: int) -> AuditEventView:
    text = line[max(line.find(b'{"id":'), 0) :].rstrip(b"\r\n")
    try:
        entry = msgspec.json.decode(text, type=AuditEventView)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotIntact(f"line {number} is no entry of a pushed log: {error}", number) from error
    # what is not sealed would be believed with the rest: a field too many, one named twice, another category
    if entry.event_category != category_of(entry.action) or msgspec.json.encode(entry) != text:
        raise NotIntact(f"line {number} is not as the server wrote it", number)
    return entry
