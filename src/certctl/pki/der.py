"""DER (X.690): small exact writers, and a strict reader of one level at a time.

Writers return whole elements (identifier, length, content) as bytes, to be nested freely. The reader accepts definite,
minimal lengths and one-octet identifiers only, stays within its bytes, and lets nobody descend deeper than 32 levels.
Whatever the bytes, it raises nothing but Malformed. Must never guess: what is not DER is refused (X.690 10, 11).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from certctl.core.errors import Malformed
from certctl.pki.algorithms import SignatureAlgorithm

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OID = 0x06
ENUMERATED = 0x0A
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31

_CONTEXT = 0x80
_CONSTRUCTED = 0x20
_HIGH_TAG = 0x1F

MAX_DEPTH = 32
# X.660 sets no bound; no OID in use comes near, and a bound keeps its decimal text short.
_MAX_OID_OCTETS = 128
_MAX_OID_TEXT = 512
_ARC = re.compile(r"0|[1-9][0-9]*")
_LAST_UTC_TIME_YEAR = 2049  # RFC 5280 4.1.2.5.1: two-digit years are 1950 to 2049
_FIRST_UTC_TIME_YEAR = 1950


def header(tag: int, length: int) -> bytes:
    """Identifier and length octets of an element whose content has `length` octets (X.690 8.1, 10.1)."""
    if length < 0x80:
        return bytes((tag, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets


def element(tag: int, content: bytes) -> bytes:
    """One element from its identifier octet and content."""
    return header(tag, len(content)) + content


def long_sequence(parts: Sequence[bytes]) -> bytes:
    """`sequence` of many megabytes: its parts are copied once."""
    return b"".join((header(SEQUENCE, sum(map(len, parts))), *parts))


def sequence(*parts: bytes) -> bytes:
    """SEQUENCE or SEQUENCE OF whole elements, in the order given."""
    return element(SEQUENCE, b"".join(parts))


def set_of(*parts: bytes) -> bytes:
    """SET OF whole elements, sorted by their encodings (X.690 11.6)."""
    return element(SET, b"".join(sorted(parts)))


def integer(value: int) -> bytes:
    """INTEGER in the fewest octets of two's complement (X.690 8.3)."""
    return element(INTEGER, _twos_complement(value))


def enumerated(value: int) -> bytes:
    """ENUMERATED, encoded like an INTEGER (X.690 8.4)."""
    return element(ENUMERATED, _twos_complement(value))


def _twos_complement(value: int) -> bytes:
    # ~value has as many significant bits as a negative value needs; one more bit is the sign.
    bits = (value if value >= 0 else ~value).bit_length()
    return value.to_bytes(bits // 8 + 1, "big", signed=True)


@lru_cache(maxsize=512)
def oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER from dotted decimal (X.690 8.19). Raises Malformed when it is none."""
    arcs = dotted.split(".")
    if len(dotted) > _MAX_OID_TEXT or len(arcs) < 2 or not all(map(_ARC.fullmatch, arcs)):
        raise Malformed(f"{dotted[:80]!r} is no object identifier")
    first, second, *rest = map(int, arcs)
    if first > 2 or (first < 2 and second > 39):
        raise Malformed(f"{dotted!r} is no object identifier")
    content = b"".join(map(_base128, (first * 40 + second, *rest)))
    if len(content) > _MAX_OID_OCTETS:
        raise Malformed(f"an object identifier of {len(content)} octets is too long")
    return element(OID, content)


def _base128(arc: int) -> bytes:
    octets = [arc & 0x7F]
    while arc := arc >> 7:
        octets.append(0x80 | (arc & 0x7F))
    return bytes(reversed(octets))


def octet_string(content: bytes) -> bytes:
    """OCTET STRING, primitive."""
    return element(OCTET_STRING, content)


def bit_string(content: bytes, unused_bits: int = 0) -> bytes:
    """BIT STRING; the last `unused_bits` (0 to 7) bits of `content` do not count and must be zero (X.690 11.2)."""
    spare = (1 << unused_bits) - 1 if 0 <= unused_bits <= 7 else -1
    if spare < 0 or (spare and (not content or content[-1] & spare)):
        raise Malformed("a BIT STRING's unused bits are 0 to 7 zeros")
    return element(BIT_STRING, bytes((unused_bits,)) + content)


def boolean(value: bool) -> bytes:
    """BOOLEAN: TRUE is all ones (X.690 11.1)."""
    return b"\x01\x01\xff" if value else b"\x01\x01\x00"


def null() -> bytes:
    """NULL."""
    return b"\x05\x00"


def explicit(tag_number: int, inner: bytes) -> bytes:
    """`[n] EXPLICIT`: whole elements wrapped in a context tag 0 to 30."""
    return element(context_tag(tag_number, constructed=True), inner)


def implicit(tag_number: int, content: bytes, *, constructed: bool = False) -> bytes:
    """`[n] IMPLICIT`: bare content under a context tag 0 to 30; constructed when the replaced type is."""
    return element(context_tag(tag_number, constructed=constructed), content)


def context_tag(tag_number: int, *, constructed: bool) -> int:
    """The identifier octet of a context-specific tag 0 to 30 (X.690 8.1.2). Raises Malformed beyond."""
    if not 0 <= tag_number < _HIGH_TAG:
        raise Malformed(f"context tag {tag_number} is not 0 to 30")
    return _CONTEXT | (_CONSTRUCTED if constructed else 0) | tag_number


def generalized_time(moment: datetime) -> bytes:
    """GeneralizedTime in UTC; a fraction of a second is dropped (RFC 5280 4.1.2.5.2)."""
    utc = _utc(moment)
    return element(GENERALIZED_TIME, b"%04d%s" % (utc.year, _rest_of_time(utc)))


def utc_time(moment: datetime) -> bytes:
    """UTCTime, years 1950 to 2049 (RFC 5280 4.1.2.5.1). Raises Malformed outside."""
    utc = _utc(moment)
    if not _FIRST_UTC_TIME_YEAR <= utc.year <= _LAST_UTC_TIME_YEAR:
        raise Malformed(f"UTCTime cannot tell the year {utc.year}")
    return element(UTC_TIME, b"%02d%s" % (utc.year % 100, _rest_of_time(utc)))


def time(moment: datetime) -> bytes:
    """Time: UTCTime through 2049, GeneralizedTime from 2050 (RFC 5280 4.1.2.5)."""
    utc = _utc(moment)
    within = _FIRST_UTC_TIME_YEAR <= utc.year <= _LAST_UTC_TIME_YEAR
    return utc_time(utc) if within else generalized_time(utc)


def _rest_of_time(utc: datetime) -> bytes:
    return b"%02d%02d%02d%02d%02dZ" % (utc.month, utc.day, utc.hour, utc.minute, utc.second)


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is UTC:
        return moment
    if moment.utcoffset() is None:
        raise Malformed("a time without a zone cannot be encoded")
    return moment.astimezone(UTC)


def extension(dotted: str, value_der: bytes, *, critical: bool = False) -> bytes:
    """Extension (RFC 5280 4.1): `value_der` is the extension's own DER; FALSE, being the default, is left out."""
    flag = boolean(True) if critical else b""
    return sequence(oid(dotted), flag, octet_string(value_der))


# RFC 5758 3.2 and RFC 8410 3: no parameters; RFC 4055 5: NULL.
_ALGORITHM_DER = {
    SignatureAlgorithm.ECDSA_SHA256: sequence(oid("1.2.840.10045.4.3.2")),
    SignatureAlgorithm.ECDSA_SHA384: sequence(oid("1.2.840.10045.4.3.3")),
    SignatureAlgorithm.RSA_SHA256: sequence(oid("1.2.840.113549.1.1.11"), null()),
    SignatureAlgorithm.ED25519: sequence(oid("1.3.101.112")),
}


def algorithm_identifier(algorithm: SignatureAlgorithm) -> bytes:
    """AlgorithmIdentifier of a signature, as it stands in certificates, CRLs and OCSP answers."""
    return _ALGORITHM_DER[algorithm]


def assemble_certificate(tbs_der: bytes, signature_algorithm: SignatureAlgorithm, signature: bytes) -> bytes:
    """Certificate or CertificateList from what was signed and its signature (RFC 5280 4.1, 5.1)."""
    return long_sequence((tbs_der, algorithm_identifier(signature_algorithm), bit_string(signature)))


class Element(NamedTuple):
    """One element: identifier octet, content octets, and both with the length between them."""

    tag: int
    content: bytes
    whole: bytes


class Reader:
    """Reads the elements that lie side by side in `der`; `enter` goes one level down. Raises Malformed."""

    __slots__ = ("_at", "_depth", "_der")

    def __init__(self, der: bytes, depth: int = 0) -> None:
        if depth > MAX_DEPTH:
            raise Malformed(f"DER nested deeper than {MAX_DEPTH} levels")
        self._der = der
        self._depth = depth
        self._at = 0

    def __iter__(self) -> Iterator[Element]:
        return self

    def __next__(self) -> Element:
        if self._at >= len(self._der):
            raise StopIteration
        return self._read()

    def _read(self) -> Element:
        der, start = self._der, self._at
        if start >= len(der):
            raise Malformed("DER ends where an element is due")
        tag = der[start]
        if tag & _HIGH_TAG == _HIGH_TAG:
            raise Malformed("DER tag numbers above 30 are not accepted")
        content_at, length = self._length(start + 1)
        end = content_at + length
        if end > len(der):
            raise Malformed("a DER length reaches beyond the end")
        self._at = end
        return Element(tag, der[content_at:end], der[start:end])

    def _length(self, at: int) -> tuple[int, int]:
        """Where the content begins, and how long it is (X.690 8.1.3, 10.1)."""
        der = self._der
        if at >= len(der):
            raise Malformed("DER ends where a length is due")
        first = der[at]
        if first < 0x80:
            return at + 1, first
        octets = der[at + 1 : at + 1 + (first & 0x7F)]
        if first in {0x80, 0xFF} or len(octets) < first & 0x7F:
            raise Malformed("a DER length is indefinite or cut short")
        length = int.from_bytes(octets, "big")
        if octets[0] == 0 or length < 0x80:
            raise Malformed("a DER length is not minimal")
        return at + 1 + len(octets), length

    def peek(self) -> int | None:
        """The identifier octet of the next element, or None at the end."""
        return self._der[self._at] if self._at < len(self._der) else None

    def next(self, tag: int) -> Element:
        """The next element, which must carry `tag`."""
        found = self._read()
        if found.tag != tag:
            raise Malformed(f"DER tag 0x{found.tag:02x} stands where 0x{tag:02x} is due")
        return found

    def optional(self, tag: int) -> Element | None:
        """The next element if it carries `tag`, else None and nothing is read."""
        return self._read() if self.peek() == tag else None

    def enter(self, tag: int) -> Reader:
        """A reader of the inside of the next element, which must carry `tag`."""
        return Reader(self.next(tag).content, self._depth + 1)

    def enter_optional(self, tag: int) -> Reader | None:
        """A reader of the inside of the next element if it carries `tag`, else None."""
        return self.enter(tag) if self.peek() == tag else None

    def end(self) -> None:
        """Nothing may follow."""
        if self._at < len(self._der):
            raise Malformed("DER goes on where it should end")

    def integer(self, tag: int = INTEGER) -> int:
        """An INTEGER (or ENUMERATED) of minimal octets."""
        content = self.next(tag).content
        # X.690 8.3.2: the first nine bits are neither all ones nor all zeros.
        padded = len(content) > 1 and content[0] in {0x00, 0xFF} and (content[0] ^ content[1]) < 0x80
        if not content or padded:
            raise Malformed("a DER integer is empty or not minimal")
        return int.from_bytes(content, "big", signed=True)

    def oid(self) -> str:
        """An OBJECT IDENTIFIER in dotted decimal."""
        return _dotted(self.next(OID).content)

    def octet_string(self) -> bytes:
        """The content of an OCTET STRING."""
        return self.next(OCTET_STRING).content

    def bit_string(self) -> bytes:
        """The octets of a BIT STRING that has no unused bits."""
        content = self.next(BIT_STRING).content
        if not content or content[0] != 0:
            raise Malformed("a DER BIT STRING is not whole octets")
        return content[1:]

    def boolean(self) -> bool:
        """A BOOLEAN: 0x00 or 0xff (X.690 11.1)."""
        content = self.next(BOOLEAN).content
        if content not in {b"\x00", b"\xff"}:
            raise Malformed("a DER BOOLEAN is neither 0x00 nor 0xff")
        return content == b"\xff"


@lru_cache(maxsize=512)
def _dotted(content: bytes) -> str:
    if not 0 < len(content) <= _MAX_OID_OCTETS or content[-1] & 0x80:
        raise Malformed("an object identifier is empty, too long or cut short")
    arcs: list[int] = []
    value, fresh = 0, True
    for octet in content:
        if fresh and octet == 0x80:
            raise Malformed("an arc of an object identifier is not minimal")
        value = value << 7 | (octet & 0x7F)
        fresh = octet < 0x80
        if fresh:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - first * 40, *arcs[1:])))
