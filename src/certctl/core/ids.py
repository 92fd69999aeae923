"""Ids are `<prefix>-<uuid7>` text: sortable by time of birth, readable by people, unguessable enough to list.

Client-given ids match `[A-Za-z0-9._-]{1,128}` and are never `.` or `..`. An id is never used as a path unchecked.
RFC 9562 5.7 (UUID version 7).
"""

from __future__ import annotations

import os
import re
import time

from certctl.core.errors import Malformed, Violation

DEFAULT_TENANT = "t-default"

# version 7 and the variant of RFC 9562, and all bits but theirs
_FIXED = 0x7 << 76 | 0b10 << 62
_FREE = (1 << 128) - 1 ^ (0xF << 76 | 0b11 << 62)
_CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def uuid7() -> str:
    """A version 7 UUID: 48 bits of Unix milliseconds, then 74 random bits."""
    random = int.from_bytes(os.urandom(10), "big")
    digits = f"{(time.time_ns() // 1_000_000 << 80 | random) & _FREE | _FIXED:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def new_id(prefix: str) -> str:
    """A fresh id such as `job-0190f5c2-...`."""
    return f"{prefix}-{uuid7()}"


def check_id(value: str, field: str = "id") -> str:
    """Return `value` if a client may name a thing so; raise Malformed otherwise."""
    if not _CLIENT_ID.fullmatch(value) or value in {".", ".."}:
        message = f"{field} must be 1 to 128 characters of A-Z a-z 0-9 . _ - and not . or .."
        raise Malformed(message, violations=(Violation("id_has_wrong_form", message, field),))
    return value
