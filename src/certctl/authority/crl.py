"""Certificate revocation lists of the built-in CA (RFC 5280 5): complete, version 2, one entry a serial number.

Written as DER by hand, as the library's builder is slow: entries are encoded once, when they are first told, and a list
of a million is joined from them. The result is read back and verified with the CA's key by that library before it is
returned. Must never leave out a serial number it was given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable
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
_DELTA_INDICATOR = "2.5.29.27"
_ISSUING_POINT = "2.5.29.28"
_FRESHEST_CRL = "2.5.29.46"
_REMOVE_FROM_CRL = 8
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


class CrlForm(Struct, frozen=True):
    """What else a CRL says of itself; as it stands here it is a complete one of all that its CA has signed.

    `point_url`: it tells only of certificates that name this address (RFC 5280 5.2.5). `base_number`: it is a delta to
    any complete one from that number on (5.2.4). `delta_url`: where deltas to it are (5.2.6).
    """

    point_url: str = ""
    base_number: int | None = None
    delta_url: str = ""

    def extensions(self) -> bytes:
        """Their DER, side by side."""
        found = b""
        if self.point_url:
            found += der.extension(_ISSUING_POINT, der.sequence(_point_name(self.point_url)), critical=True)
        if self.base_number is not None:
            found += der.extension(_DELTA_INDICATOR, der.integer(self.base_number), critical=True)
        if self.delta_url:
            found += der.extension(_FRESHEST_CRL, der.sequence(der.sequence(_point_name(self.delta_url))))
        return found


def _point_name(url: str) -> bytes:
    """`[0]` of a distribution point: the full name, one URI (RFC 5280 4.2.1.13)."""
    name = der.implicit(6, url.encode("ascii"))
    return der.explicit(0, der.implicit(0, name, constructed=True))


_WHOLE = CrlForm()


class CrlTimes(Struct, frozen=True):
    """Which CRL of its CA it is, and when it and the next are made; times are aware, on whole seconds."""

    number: int
    this_update: datetime
    next_update: datetime

    def check(self) -> None:
        """Raises Malformed for times or numbers that cannot be."""
        if whole_second(self.next_update) <= whole_second(self.this_update):
            raise Malformed("a CRL's next update lies after this update")
        if not 0 <= self.number < 1 << _MAX_NUMBER_BITS:
            raise Malformed("a CRL number has at most 20 octets and no sign")


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
    merged = _merge(entries)
    encoded = [encode_entry(entry) for entry in merged]
    return await sign_crl(ca, encoded, len(merged), CrlTimes(number, this_update, next_update), signer)


async def sign_crl(
    ca: IssuingCA,
    entries_der: list[bytes],
    size: int,
    times: CrlTimes,
    signer: Signer,
    form: CrlForm = _WHOLE,
) -> bytes:
    """The CRL (DER) of `ca` with `size` entries that were encoded before, joined as they stand in `entries_der`.

    That list is emptied on the way, as a million entries are 40 MB. Raises Malformed for times or numbers that cannot
    be, TrustError when what the signer returned does not verify.
    """
    times.check()
    # In threads: a long list would hold up everything else that the event loop serves.
    tbs_der = await asyncio.to_thread(_write_tbs, ca, entries_der, times, form)
    signature = await signer.sign(ca.key_ref, ca.signature_algorithm, tbs_der)
    crl_der = await asyncio.to_thread(der.assemble_certificate, tbs_der, ca.signature_algorithm, signature)
    del tbs_der
    await asyncio.to_thread(_verify, ca, crl_der, times.number, size)
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


def _write_tbs(ca: IssuingCA, entries_der: list[bytes], times: CrlTimes, form: CrlForm) -> bytes:
    issuer = certificate_of(ca)
    identifier = der.sequence(der.implicit(0, issuer_key_identifier(issuer)))
    extensions = der.sequence(
        der.extension(_AUTHORITY_KEY_IDENTIFIER, identifier),
        der.extension(_CRL_NUMBER, der.integer(times.number)),
        form.extensions(),
    )
    # RFC 5280 5.1.2.6: absent, not empty, when nothing is revoked.
    length = sum(map(len, entries_der))
    listed = (der.header(der.SEQUENCE, length), *entries_der) if length else ()
    entries_der.clear()
    return der.long_sequence(
        (
            der.integer(1),  # v2
            der.algorithm_identifier(ca.signature_algorithm),
            issuer.subject.public_bytes(),
            der.time(times.this_update),
            der.time(times.next_update),
            *listed,
            der.explicit(0, extensions),
        )
    )


def encode_entry(entry: RevokedEntry) -> bytes:
    """One entry as it stands in a CRL (RFC 5280 5.1). Raises Malformed for a reason that is none."""
    return der.sequence(der.integer(entry.serial_number), der.time(entry.revoked_at), _entry_extensions(entry.reason))


def encode_removals(entries_der: bytes, without: Container[int]) -> list[bytes]:
    """For each of these entries, but those of serial numbers in `without`, what takes it off (RFC 5280 5.3.1)."""
    gone = der.sequence(der.extension(_REASON_CODE, der.enumerated(_REMOVE_FROM_CRL)))
    found: list[bytes] = []
    reader = der.Reader(entries_der)
    while reader.peek() is not None:
        entry = reader.enter(der.SEQUENCE)
        serial_number = entry.integer()
        if serial_number not in without:
            found.append(der.sequence(der.integer(serial_number), next(entry).whole, gone))
    return found


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
