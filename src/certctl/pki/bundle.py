"""A certificate and its chain as people have them: PEM, DER, PKCS #7 (RFC 2315, RFC 5652), in any order.

Finds the leaf, orders the rest above it, and takes nothing that does not belong. Where a private key lies among them
everything is refused, and no error ever repeats a byte of it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12
from msgspec import Struct

from certctl.core.errors import Malformed, Violation
from certctl.pki.certs import UNREADABLE, CertificateFacts, read_anew
from certctl.pki.chain import MAX_CHAIN, build_chain
from certctl.pki.pem import unarmour

PRIVATE_KEY = "private_key_in_body"
_CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE")
_PKCS7 = ("PKCS7", "CMS")
_SECRET = re.compile(r"PRIVATE[\s_-]*KEY", re.IGNORECASE)
_FAULTS = (*UNREADABLE, TypeError, OverflowError)


class Bundle(Struct, frozen=True):
    """A leaf, read, and the certificates above it, DER, nearest first, without the self-signed root."""

    leaf: CertificateFacts
    chain_der: tuple[bytes, ...]


def read_pem(text: str) -> Bundle:
    """A bundle of PEM certificates or PKCS #7 blocks. Raises Malformed."""
    if _says_private_key(text):
        raise _private_key()
    ders, messages = list(unarmour(text, _CERTIFICATES)), unarmour(text, _PKCS7)
    if any(_holds_private_key(der) for der in (*ders, *messages)):
        raise _private_key()
    for der in messages:
        ders += _pkcs7(der)
    if not ders:
        raise _fault("pem_has_no_certificate", "the PEM text holds no certificate")
    return _bundle(ders)


def one_of_pem(text: str) -> bytes:
    """The one certificate that a PEM text is, DER, as yet unread; nothing where it is anything else, or more.

    Raises Malformed when the text says that it holds a private key; its bytes are looked at by who reads them.
    """
    if _says_private_key(text):
        raise _private_key()
    try:
        ders = unarmour(text, _CERTIFICATES)
    except Malformed:
        return b""
    return ders[0] if len(ders) == 1 and not any(f"-----BEGIN {label}" in text for label in _PKCS7) else b""


def read_one(certificate_der: bytes) -> Bundle:
    """A bundle of one certificate. Raises Malformed."""
    try:
        return _bundle([certificate_der])
    except Malformed:
        if _holds_private_key(certificate_der):  # a certificate is none: only what is not read is looked at
            raise _private_key() from None
        raise


def read_der(data: bytes) -> Bundle:
    """A bundle of one DER certificate or one DER PKCS #7 message. Raises Malformed."""
    if _holds_private_key(data):
        raise _private_key()
    if _reads(x509.load_der_x509_certificate, data):
        return _bundle([data])
    return _bundle(_pkcs7(data))


def refuse_private_key(text: str) -> None:
    """Malformed when a text looks as if it held a private key, armoured or as base64 of one."""
    if _says_private_key(text):
        raise _private_key()
    for der in unarmour(text, _CERTIFICATES + _PKCS7):
        if _holds_private_key(der):
            raise _private_key()


def _says_private_key(text: str) -> bool:
    # the pattern folds more letters than upper() does, none of them ASCII
    return not (text.isascii() and "PRIVATE" not in text.upper()) and bool(_SECRET.search(text))


def _holds_private_key(data: bytes) -> bool:
    """A bare, wrapped or encrypted key, or a PKCS #12 file, which may hold one."""
    if _reads(x509.load_der_x509_certificate, data):
        return False  # to the last byte; neither begins as a certificate does
    try:
        serialization.load_der_private_key(data, None)
    except TypeError:
        return True  # it is one, and encrypted
    except _FAULTS:
        return _is_pkcs12(data)
    return True


def _is_pkcs12(data: bytes) -> bool:
    try:
        pkcs12.load_pkcs12(data, None)
    except ValueError as error:
        return "password" in str(error).lower()
    except _FAULTS:
        return False
    return True


def _pkcs7(der: bytes) -> list[bytes]:
    try:
        with warnings.catch_warnings():
            # BER where DER is asked for is read, and the library says that it dislikes it
            warnings.simplefilter("ignore")
            found = pkcs7.load_der_pkcs7_certificates(der)
        return [certificate.public_bytes(serialization.Encoding.DER) for certificate in found]
    except _FAULTS as error:
        raise _fault("bundle_cannot_be_read", "this is neither a certificate nor a PKCS #7 bundle of some") from error


def _reads(load: Callable[[bytes], object], data: bytes) -> bool:
    try:
        load(data)
    except _FAULTS:
        return False
    return True


def _bundle(ders: list[bytes]) -> Bundle:
    distinct = list(dict.fromkeys(ders))
    if len(distinct) > MAX_CHAIN + 1:
        raise _fault(
            "chain_is_too_long", f"a chain has at most {MAX_CHAIN + 1} certificates; send others by themselves"
        )
    facts = [read_anew(der) for der in distinct]
    leaf = _leaf(facts)
    if len(distinct) == 1:
        return Bundle(leaf, ())
    try:
        chain = build_chain(leaf.certificate_der, tuple(distinct))
    except _FAULTS as error:
        raise _fault("chain_cannot_be_built", "the certificates' signatures cannot be read") from error
    for each in facts:
        root = each.is_self_issued
        if each.certificate_der not in {leaf.certificate_der, *chain} and not root:
            message = f"{each.subject[:200]!r} is not in the chain above {leaf.subject[:200]!r}: send it by itself"
            raise _fault("certificate_is_not_in_the_chain", message)
    return Bundle(leaf, chain)


def _leaf(facts: list[CertificateFacts]) -> CertificateFacts:
    """The one that stands above no other."""
    issuers = {each.issuer_der for each in facts if not each.is_self_issued}
    ends = [each for each in facts if each.subject_der not in issuers] if len(facts) > 1 else facts
    if len(ends) > 1:
        ends = [each for each in ends if not each.is_ca] or ends
    if len(ends) != 1:
        raise _fault("leaf_is_not_clear", "these certificates form no one chain: send each leaf by itself")
    return ends[0]


def _private_key() -> Malformed:
    message = (
        "there is a private key among this: nothing was imported or kept. Keys stay where they are; "
        "if it has left its host for this call, replace it"
    )
    return _fault(PRIVATE_KEY, message)


def _fault(rule: str, message: str) -> Malformed:
    return Malformed(message, violations=(Violation(rule, message),))
