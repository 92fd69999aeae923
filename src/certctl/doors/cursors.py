"""Cursors of lists: opaque, made by us alone (HMAC), good for the list, filters and order they came from.

Any replica reads the cursors of any other: their key is derived from the installation's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Any

import msgspec
from msgspec import Struct

from certctl.core.errors import Malformed, Violation
from certctl.store.lists import Asked, Listing
from certctl.store.orders import Position

_TAG_BYTES = 16
# a sorted value is a text of at most 255 characters: nothing longer was ever given out
_LONGEST = 4096


class _Content(Struct, frozen=True, array_like=True):
    bound_to: str
    value: Any
    id: str | int
    total: int
    estimated: bool


class Cursors:
    """Writes and reads cursors with one key (32 bytes)."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def write(self, position: Position, bound_to: str) -> str:
        """The cursor that continues after `position`; `bound_to` is what `binding` says."""
        content = _Content(bound_to, position.value, position.id, position.total, position.estimated)
        raw = msgspec.msgpack.encode(content)
        return base64.urlsafe_b64encode(self._tag(raw) + raw).rstrip(b"=").decode()

    def read(self, text: str, bound_to: str) -> Position:
        """Where a cursor continues. Malformed when it is none of ours, or another list's, filter's or order's."""
        raw = self._open(text)
        if raw is None:
            raise _fault("cursor_is_unknown", "this is no cursor of ours; take next_cursor as it was given, unchanged")
        content = msgspec.msgpack.decode(raw, type=_Content)
        if content.bound_to != bound_to:
            message = "this cursor belongs to another list, filter or order; start again without a cursor"
            raise _fault("cursor_of_another_list", message)
        return Position(content.value, content.id, content.total, content.estimated)

    def _open(self, text: str) -> bytes | None:
        if len(text) > _LONGEST or not text.isascii():
            return None
        try:
            both = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            return None
        if base64.urlsafe_b64encode(both).rstrip(b"=") != text.encode():
            return None  # one cursor, one spelling
        tag, raw = both[:_TAG_BYTES], both[_TAG_BYTES:]
        return raw if hmac.compare_digest(tag, self._tag(raw)) else None

    def _tag(self, raw: bytes) -> bytes:
        return hmac.digest(self._key, raw, "sha256")[:_TAG_BYTES]


def binding(listing: Listing[Any], tenant_id: str, asked: Asked) -> str:
    """What a cursor is good for, as a short hash: the list, the tenant, filters, search and order."""
    filters = sorted((name, [str(value) for value in values]) for name, values in asked.filters.items())
    fixed = sorted(asked.fixed.items())
    said = [listing.name, tenant_id, filters, fixed, asked.q, asked.sort, asked.descending]
    # what else rows stand by is part of the order: a cursor of a release that did not say so holds one value too few
    if asked.sort in listing.then:
        said.append(str(listing.then[asked.sort].key))
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:24]


def _fault(rule: str, message: str) -> Malformed:
    return Malformed(message, violations=(Violation(rule, message, "cursor"),))
