"""PEM in and out (RFC 7468): certificates and chains, one block after the other, leaf first.

Never reorders and never drops: what is between the blocks (bag attributes, comments) is passed over, a broken block is
an error.
"""

from __future__ import annotations

import base64
import binascii
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from cryptography import x509

from certctl.core.errors import Malformed, Violation

_BEGIN = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s*\n")
# its last dashes are looked for, not eaten: they may be those of the next line too
_END = re.compile(r"-----END ([A-Z0-9 ]+)(?=-----)")


def armour(der: bytes, label: str) -> str:
    """One PEM block: 64 characters a line, a newline at the end."""
    text = base64.b64encode(der).decode("ascii")
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"


def unarmour(pem: str | bytes, labels: tuple[str, ...]) -> tuple[bytes, ...]:
    """The DER of every block with one of `labels`, in order; other blocks are passed over. Raises Malformed."""
    try:
        text = pem.decode("ascii") if isinstance(pem, bytes) else pem
        bodies = [body for label, body in _blocks(text) if label in labels]
        return tuple(base64.b64decode("".join(body.split()), validate=True) for body in bodies)
    except (UnicodeDecodeError, binascii.Error, ValueError) as error:
        raise _fault("pem_has_wrong_form", f"the PEM text cannot be read: {error}") from error


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Label and body of each block, up to the first END of its label. All ends are found once, whatever the text is:
    a BEGIN that has none would else be looked after to the end of it, each time anew.
    """
    ends: dict[str, list[int]] = {}
    for found in _END.finditer(text):
        ends.setdefault(found[1], []).append(found.start())
    at = 0
    while (begin := _BEGIN.search(text, at)) is not None:
        at, of_label = begin.end(), ends.get(begin[1], [])
        place = bisect_left(of_label, at)
        if place < len(of_label):
            yield begin[1], text[at : of_label[place]]
            at = of_label[place] + len(f"-----END {begin[1]}-----")


def certificate_pem(der: bytes) -> str:
    """A certificate as PEM."""
    return armour(der, "CERTIFICATE")


def chain_pem(ders: Iterable[bytes]) -> str:
    """Certificates as PEM, one after the other, in the order given; empty text for none."""
    return "".join(certificate_pem(der) for der in ders)


def read_certificates(pem: str | bytes) -> tuple[bytes, ...]:
    """The DER of every certificate of a PEM text, in order. Raises Malformed for none, or a broken one."""
    ders = unarmour(pem, ("CERTIFICATE", "X509 CERTIFICATE"))
    if not ders:
        raise _fault("pem_has_no_certificate", "the PEM text holds no certificate")
    for index, der in enumerate(ders):
        try:
            x509.load_der_x509_certificate(der)
        except (ValueError, x509.InvalidVersion) as error:
            raise _fault("certificate_has_wrong_form", f"certificate {index + 1} cannot be read: {error}") from error
    return ders


def _fault(rule: str, message: str) -> Malformed:
    return Malformed(message, violations=(Violation(rule, message),))
