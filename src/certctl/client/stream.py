"""Server-sent events, read line by line (WHATWG HTML 9.2): what both clients know of a stream, without a socket.

A stream that ends is taken up again behind the last id that was heard, so nothing is lost and nothing told twice.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from certctl.client.calls import API, Call
from certctl.client.exchange import Unreadable, request_of, transport_error
from certctl.client.models.events import ChangeView
from certctl.core.secret import Secret

# comments come more often than this while nothing happens
SILENCE_SECONDS = 90.0
PAUSE_SECONDS = 1.0
_MOST_FAILURES = 5


class Change(Struct, frozen=True):
    """One event: its id, to go on from, and what happened."""

    id: str
    change: ChangeView


class Reading:
    """One following of the stream, over as many connections as it takes."""

    def __init__(self, key: Secret, url: str, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self._key = key
        self._url = url
        self._failures = 0
        self._id = ""
        self._data: list[str] = []

    def request(self) -> dict[str, Any]:
        """The keyword arguments of httpx's `stream`."""
        call = Call(method="GET", path=f"{API}/events", answer=bytes)
        request = request_of(call, self._key, SILENCE_SECONDS)
        request["headers"] = request["headers"] | {"Accept": "text/event-stream"}
        if self.last_event_id:
            request["headers"]["Last-Event-ID"] = self.last_event_id
        self._id, self._data = "", []
        return request

    def feed(self, line: str) -> Change | None:
        """Take one line; a whole event when this line ends one."""
        self._failures = 0
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id" and "\0" not in value:
            self._id = value
        elif name == "data":
            self._data.append(value)
        if line:
            return None
        # a block without data is no event, but its id counts: the server tells how far it has looked
        self.last_event_id = self._id or self.last_event_id
        data, self._id, self._data = "\n".join(self._data), "", []
        if not data:
            return None
        try:
            return Change(self.last_event_id, msgspec.json.decode(data, type=ChangeView))
        except msgspec.MsgspecError as error:
            raise Unreadable(f"{self._url} tells events that this release cannot read", detail=str(error)) from error

    def broke(self, error: Any) -> None:
        """A connection broke; raises when it has done so time and again without a word between."""
        self._failures += 1
        if self._failures >= _MOST_FAILURES:
            raise transport_error(error, self._url) from error


class Lines:
    """An answer cut into its lines, whatever pieces it comes in; text has more line ends than NDJSON has."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that this piece ends."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return lines

    def end(self) -> list[bytes]:
        """What came behind the last line end."""
        return [self._rest] if self._rest else []
