"""Certificate revocation lists of the built-in CA (RFC 5280 5): complete, version 2, one entry a serial number.

Written as DER by hand, as the library's builder is slow: a list of 100,000 must not keep a CA waiting. The result is
read back and verified with the CA's key by that library before it is returned. Delta lists and removeFromCRL are not
supported. Must never leave out a serial number it was given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from msgspec import Struct

from certctl.authority.signer import IssuingCA, Signer
from certctl.authority.tbs import certificate_of, issuer_key_identifier, public_key_of, whole_second
from certctl.core.errors import Malformed, TrustError
from certctl.pki import der

_AUTHORITY_KEY_IDENTIFIER = "2.5.29.35"
_CRL_NUMBER = "2.5.29.20"
_REASON_CODE = "2.5.29.21"
_MAX_NUMBER_BITS = 159  # RFC 5280 5.2.3: at most 20 octets

# RFC 5280 5.3.1, read without regard to case: the RFC itself writes cACompromise, the reference product caCompromise.
_REASON_CODES = {
    "": 0,
    "unspecified": 0,
    "keycompromise": 1,
    "cacompromise": 2,
    "affiliationchanged": 3,
    "superseded": 4,
    "cessationofoperation": 5,
    "certificatehold": 6,
    "privilegewithdrawn": 9,
    "aacompromise": 10,
}


class RevokedEntry(Struct, frozen=True):
    """One revoked certificate; `reason` in the spelling of RFC 5280 5.3.1 (`keyCompromise`)."""

    serial_number: int
    revoked_at: datetime
    reason: str = "unspecified"


def reason_code(reason: str) -> int | None:
    """The CRLReason number, None for unspecified, which is left out (RFC 5280 5.3.1). Raises Malformed."""
    code = _REASON_CODES.get(reason.lower())
    if code is None:
        raise Malformed(f"{reason!r} is no reason for which a certificate can stand on a CRL")
    return code or None


async def make_crl(
    ca: IssuingCA,
    entries: Iterable[RevokedEntry],
    number: int,
    this_update: datetime,
    next_update: datetime,
    signer: Signer,
) -> bytes:
    """The CRL (DER) of `ca` with all `entries`, sorted by serial number. Times are aware, on whole seconds.

    Of several entries for one serial, the earliest date and the latest reason are told. Raises Malformed for times,
    numbers or reasons that cannot be, TrustError when what the signer returned does not verify.
    """
    if whole_second(next_update) <= whole_second(this_update):
        raise Malformed("a CRL's next update lies after this update")
    if not 0 <= number < 1 << _MAX_NUMBER_BITS:
        raise Malformed("a CRL number has at most 20 octets and no sign")
    merged = _merge(entries)
    # In a thread: a long list would hold up everything else that the event loop serves.
    tbs_der = await asyncio.to_thread(_write_tbs, ca, merged, number, this_update, next_update)
    signature = await signer.sign(ca.key_ref, ca.signature_algorithm, tbs_der)
    crl_der = der.assemble_certificate(tbs_der, ca.signature_algorithm, signature)
    await asyncio.to_thread(_verify, ca, crl_der, number, len(merged))
    return crl_der


def _merge(entries: Iterable[RevokedEntry]) -> list[RevokedEntry]:
    last: dict[int, RevokedEntry] = {}
    since: dict[int, datetime] = {}
    for entry in entries:
        other = last.setdefault(entry.serial_number, entry)
        if other is not entry:
            # What was signed since the first date is in doubt; why is known best to whoever spoke last.
            since[entry.serial_number] = min(since.get(entry.serial_number, other.revoked_at), entry.revoked_at)
            last[entry.serial_number] = max(other, entry, key=lambda one: one.revoked_at)
    return [
        RevokedEntry(serial, since[serial], entry.reason) if serial in since else entry
        for serial, entry in sorted(last.items())
    ]


def _write_tbs(
    ca: IssuingCA, entries: list[RevokedEntry], number: int, this_update: datetime, next_update: datetime
) -> bytes:
    issuer = certificate_of(ca)
    identifier = der.sequence(der.implicit(0, issuer_key_identifier(issuer)))
    extensions = der.sequence(
        der.extension(_AUTHORITY_KEY_IDENTIFIER, identifier), der.extension(_CRL_NUMBER, der.integer(number))
    )
    return der.sequence(
        der.integer(1),  # v2
        der.algorithm_identifier(ca.signature_algorithm),
        issuer.subject.public_bytes(),
        der.time(this_update),
        der.time(next_update),
        # RFC 5280 5.1.2.6: absent, not empty, when nothing is revoked.
        der.sequence(*map(_write_entry, entries)) if entries else b"",
        der.explicit(0, extensions),
    )


def _write_entry(entry: RevokedEntry) -> bytes:
    return der.sequence(der.integer(entry.serial_number), der.time(entry.revoked_at), _entry_extensions(entry.reason))


@lru_cache(maxsize=64)
def _entry_extensions(reason: str) -> bytes:
    code = reason_code(reason)
    return der.sequence(der.extension(_REASON_CODE, der.enumerated(code))) if code is not None else b""


def _verify(ca: IssuingCA, crl_der: bytes, number: int, count: int) -> None:
    try:
        crl = x509.load_der_x509_crl(crl_der)
        told = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        valid = crl.is_signature_valid(public_key_of(certificate_of(ca)))
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
        raise TrustError("the signed CRL cannot be read", detail=repr(error)) from error
    if not valid or told != number or len(crl) != count:
        raise TrustError("the signed CRL does not verify with the CA's key, or is not what was to be signed")
