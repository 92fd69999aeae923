"""Where audit events go besides the database: one verb. `send` returns when the receiver has them, or raises.

They may come twice (after a crash, or when an answer was lost), never not at all: each has an id by which to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct


class Line(Struct, frozen=True):
    """One event: its id, its kind, when it was, and the JSON object that the export has of it."""

    id: str
    kind: str
    at: datetime
    json: bytes


class Receiver(Protocol):
    """A receiver of the audit log. `name` is its place in the database; `address` is shown, and holds no secret."""

    name: str
    address: str

    async def send(self, lines: Sequence[Line]) -> None:
        """Hand over events, in order. Raises a ConnectorError when it is not sure that all of them arrived."""
        ...
