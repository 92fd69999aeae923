"""Fingerprints and serial numbers, in the one spelling certctl shows: lowercase hex without separators.

A serial number is an int inside and hex without padding outside (RFC 5280 4.1.2.2). Never compares by text: texts are
read back to ints first.
"""

from __future__ import annotations

import hashlib
import re

from certctl.core.errors import Malformed, Violation

# RFC 5280 4.1.2.2 allows 20 octets; certificates of others are seen with more, and must still be found.
_SERIAL = re.compile(r"[0-9a-f]{1,128}")


def sha256_hex(der: bytes) -> str:
    """SHA-256 of DER bytes, 64 lowercase hex digits."""
    return hashlib.sha256(der).hexdigest()


def serial_hex(serial_number: int) -> str:
    """A serial number as lowercase hex without padding. Raises Malformed when it is negative."""
    if serial_number < 0:
        raise _fault(f"serial number {serial_number} is negative")
    return f"{serial_number:x}"


def serial_int(text: str) -> int:
    """Read a serial number from hex; colons, upper case and leading zeros are accepted. Raises Malformed."""
    digits = text.strip().lower().replace(":", "")
    if not _SERIAL.fullmatch(digits):
        raise _fault(f"{text!r} is no serial number in hex")
    return int(digits, 16)


def _fault(message: str) -> Malformed:
    return Malformed(message, violations=(Violation("serial_number_has_wrong_form", message, "serial_number"),))
