"""PEM in and out (RFC 7468): certificates and chains, one block after the other, leaf first.

Never reorders and never drops: what is between the blocks (bag attributes, comments) is passed over, a broken block is
an error.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

from cryptography import x509

from certctl.core.errors import Malformed, Violation

# up to the first END of the same label; never tried another way, which costs by the square
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s*\n((?:[^-]++|-(?!----END \1-----))*+)-----END \1-----")


def armour(der: bytes, label: str) -> str:
    """One PEM block: 64 characters a line, a newline at the end."""
    text = base64.b64encode(der).decode("ascii")
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"


def unarmour(pem: str | bytes, labels: tuple[str, ...]) -> tuple[bytes, ...]:
    """The DER of every block with one of `labels`, in order; other blocks are passed over. Raises Malformed."""
    try:
        text = pem.decode("ascii") if isinstance(pem, bytes) else pem
        bodies = [match[2] for match in _BLOCK.finditer(text) if match[1] in labels]
        return tuple(base64.b64decode("".join(body.split()), validate=True) for body in bodies)
    except (UnicodeDecodeError, binascii.Error, ValueError) as error:
        raise _fault("pem_has_wrong_form", f"the PEM text cannot be read: {error}") from error


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
