"""Syslog as bytes: RFC 5424 messages, and their octet-counted frames over TCP and TLS (RFC 6587 3.4.1, RFC 5425 4.3).

Text goes out as UTF-8 without a byte order mark, which RFC 5424 6.4 allows and most receivers prefer. Pure.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from msgspec import Struct

from certctl.core.errors import Malformed

LOG_AUDIT = 13
NOTICE = 5
INFORMATIONAL = 6
MOST_FRAME_BYTES = 8 * 1024 * 1024
_NIL = "-"
# RFC 5424 6: how long each field of the header may be, of printable ASCII
_LONGEST = {"hostname": 255, "app_name": 48, "process_id": 128, "message_id": 32}
_NOT_PRINTABLE = re.compile(r"[^\x21-\x7e]")
_HEADER = re.compile(
    rb"<(0|[1-9]\d{0,2})>1 (\S+) ([\x21-\x7e]{1,255}) ([\x21-\x7e]{1,48}) ([\x21-\x7e]{1,128}) ([\x21-\x7e]{1,32}) "
    rb"(-)(?: (.*))?",
    re.DOTALL,
)
_LENGTH = re.compile(rb"([1-9]\d{0,9}) ")


class Message(Struct, frozen=True, kw_only=True):
    """One message without structured data; `at` is aware, to the microsecond."""

    facility: int = LOG_AUDIT
    severity: int = INFORMATIONAL
    at: datetime
    hostname: str
    app_name: str = "certctl"
    process_id: str = _NIL
    message_id: str = _NIL
    text: str

    def as_bytes(self) -> bytes:
        """The message. What a header field may not hold is left out of it; an empty one is `-`."""
        head = [_field(name, getattr(self, name)) for name in _LONGEST]
        at = f"{self.at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        said = f"<{self.facility * 8 + self.severity}>1 {at} {' '.join(head)} - {self.text}"
        return said.encode("utf-8", "replace")


def _field(name: str, value: str) -> str:
    return _NOT_PRINTABLE.sub("", value)[: _LONGEST[name]] or _NIL


def frame(message: bytes) -> bytes:
    """A message as it goes over a stream: its length in octets, a space, and itself."""
    return b"%d %b" % (len(message), message)


def read_frames(stream: bytes) -> tuple[list[bytes], bytes]:
    """The whole messages at the beginning of a stream, and what is left. Raises Malformed for what is no frame."""
    found: list[bytes] = []
    while stream:
        length = _LENGTH.match(stream)
        if length is None:
            if len(stream) < 11 and stream.isdigit() and stream[:1] != b"0":
                break
            raise Malformed("a syslog frame begins with its length and a space")
        size = int(length[1])
        if size > MOST_FRAME_BYTES:
            raise Malformed(f"a syslog frame of {size} octets is longer than {MOST_FRAME_BYTES}")
        if len(stream) < length.end() + size:
            break
        found.append(stream[length.end() : length.end() + size])
        stream = stream[length.end() + size :]
    return found, stream


def read_message(message: bytes) -> Message:
    """A message of ours as it was. Raises Malformed for structured data and whatever else is not as we write it."""
    header = _HEADER.fullmatch(message)
    if header is None:
        raise Malformed("this is no RFC 5424 message without structured data")
    priority = int(header[1])
    if priority > 191:
        raise Malformed("a syslog priority is at most 191")
    try:
        at = datetime.strptime(header[2].decode("ascii"), "%Y-%m-%dT%H:%M:%S.%f%z")
        text = (header[8] or b"").decode("utf-8")
    except ValueError as error:
        raise Malformed("time or text of a syslog message cannot be read") from error
    hostname, app_name, process_id, message_id = (header[index].decode("ascii") for index in (3, 4, 5, 6))
    return Message(
        facility=priority // 8,
        severity=priority % 8,
        at=at,
        hostname=hostname,
        app_name=app_name,
        process_id=process_id,
        message_id=message_id,
        text=text,
    )
