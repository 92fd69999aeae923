"""OCSP messages (RFC 6960, nonce of RFC 9654 and RFC 8954): reads requests, writes requests and answers.

The library at hand knows one CertID a request and one answer a response; RFC 6960 allows many, so the bytes are written
here. Signs nothing and looks nothing up: `authority.ocsp` does. Must never accept an extension marked critical that it
does not know, nor a request larger than 64 KiB or of more than 50 CertIDs.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import IntEnum

from msgspec import Struct

from certctl.core.errors import Malformed, Violation
from certctl.pki import der
from certctl.pki.algorithms import SignatureAlgorithm
from certctl.pki.der import Reader

MAX_REQUEST_OCTETS = 64 * 1024
MAX_CERT_IDS = 50
MAX_NONCE_OCTETS = 128  # RFC 9654 2.1; RFC 8954 had 32
_MAX_SERIAL_OCTETS = 64  # RFC 5280 4.1.2.2 allows 20; a request may ask about anything

# the rule of a violation: whatever else a request holds, its nonce cannot be echoed
NONCE_IS_MALFORMED = "nonce_is_malformed"

SHA1_OID = "1.3.14.3.2.26"
SHA256_OID = "2.16.840.1.101.3.4.2.1"
KNOWN_HASHES = frozenset({SHA1_OID, SHA256_OID})
_BASIC_OID = "1.3.6.1.5.5.7.48.1.1"
_NONCE_OID = "1.3.6.1.5.5.7.48.1.2"

REQUEST_TYPE = "application/ocsp-request"
RESPONSE_TYPE = "application/ocsp-response"


class ResponseStatus(IntEnum):
    """OCSPResponseStatus (RFC 6960 4.2.1); 4 is not used."""

    SUCCESSFUL = 0
    MALFORMED_REQUEST = 1
    INTERNAL_ERROR = 2
    TRY_LATER = 3
    SIG_REQUIRED = 5
    UNAUTHORIZED = 6


class CertId(Struct, frozen=True):
    """Which certificate is asked about. `whole_der` is the CertID as the client wrote it, to be echoed to the byte."""

    hash_algorithm_oid: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial_number: int
    whole_der: bytes = b""


class OcspRequest(Struct, frozen=True):
    """What is asked; `nonce` is None when the client sent none. A request's signature is not looked at."""

    cert_ids: tuple[CertId, ...]
    nonce: bytes | None


class IssuerHashes(Struct, frozen=True):
    """The two hashes by which a CertID names an issuer (RFC 6960 4.1.1)."""

    name_hash: bytes
    key_hash: bytes


def key_bits(spki_der: bytes) -> bytes:
    """The subjectPublicKey of a SubjectPublicKeyInfo without tag, length and unused bits: what OCSP hashes."""
    fields = Reader(spki_der).enter(der.SEQUENCE)
    fields.next(der.SEQUENCE)
    return fields.bit_string()


def issuer_hashes(hash_algorithm_oid: str, subject_der: bytes, spki_der: bytes) -> IssuerHashes:
    """The hashes of an issuer's name and key. Raises Malformed for a hash other than SHA-1 and SHA-256."""
    if hash_algorithm_oid == SHA1_OID:
        return IssuerHashes(_sha1(subject_der), _sha1(key_bits(spki_der)))
    if hash_algorithm_oid == SHA256_OID:
        return IssuerHashes(hashlib.sha256(subject_der).digest(), hashlib.sha256(key_bits(spki_der)).digest())
    raise Malformed(f"hash {hash_algorithm_oid} is not known to OCSP here")


def responder_key_hash(spki_der: bytes) -> bytes:
    """KeyHash of a byKey responder id: SHA-1, whatever else is in use (RFC 6960 4.2.1)."""
    return _sha1(key_bits(spki_der))


def _sha1(content: bytes) -> bytes:
    # A name for a key, not a proof: OCSP fixes SHA-1 here.
    return hashlib.sha1(content, usedforsecurity=False).digest()


def read_request(request_der: bytes) -> OcspRequest:
    """Read an OCSPRequest (RFC 6960 4.1.1), DER. Raises Malformed."""
    if len(request_der) > MAX_REQUEST_OCTETS:
        raise Malformed(f"an OCSP request of more than {MAX_REQUEST_OCTETS} octets")
    outer = Reader(request_der)
    message = outer.enter(der.SEQUENCE)
    outer.end()
    tbs = message.enter(der.SEQUENCE)
    # optionalSignature: we answer everybody alike, so there is nothing to check it for (RFC 6960 4.1.2).
    message.optional(der.context_tag(0, constructed=True))
    message.end()
    if version := tbs.enter_optional(der.context_tag(0, constructed=True)):
        _read_version(version)
    tbs.optional(der.context_tag(1, constructed=True))
    request_list = tbs.enter(der.SEQUENCE)
    extensions = tbs.enter_optional(der.context_tag(2, constructed=True))
    tbs.end()
    return OcspRequest(_read_cert_ids(request_list), _read_extensions(extensions).get(_NONCE_OID))


def _read_version(version: Reader) -> None:
    if version.integer() != 0:
        raise Malformed("an OCSP request of a version other than 1")
    version.end()


def _read_cert_ids(request_list: Reader) -> tuple[CertId, ...]:
    cert_ids: list[CertId] = []
    while request_list.peek() is not None:
        if len(cert_ids) == MAX_CERT_IDS:
            raise Malformed(f"an OCSP request of more than {MAX_CERT_IDS} certificates")
        single = request_list.enter(der.SEQUENCE)
        cert_ids.append(_read_cert_id(single.next(der.SEQUENCE)))
        _read_extensions(single.enter_optional(der.context_tag(0, constructed=True)))
        single.end()
    if not cert_ids:
        raise Malformed("an OCSP request that asks about nothing")
    return tuple(cert_ids)


def _read_cert_id(found: der.Element) -> CertId:
    fields = Reader(found.content)
    algorithm = fields.enter(der.SEQUENCE)
    hash_algorithm_oid = algorithm.oid()
    if (parameters := algorithm.optional(der.NULL)) and parameters.content:
        raise Malformed("a NULL that has content")
    algorithm.end()
    name_hash, key_hash = fields.octet_string(), fields.octet_string()
    serial_number = fields.integer()
    fields.end()
    if not -(1 << 8 * _MAX_SERIAL_OCTETS - 1) <= serial_number < 1 << 8 * _MAX_SERIAL_OCTETS - 1:
        raise Malformed(f"a serial number of more than {_MAX_SERIAL_OCTETS} octets")
    return CertId(hash_algorithm_oid, name_hash, key_hash, serial_number, found.whole)


def _read_extensions(outer: Reader | None) -> dict[str, bytes]:
    """The values of the extensions we know, here the nonce; unknown ones are skipped unless critical."""
    known: dict[str, bytes] = {}
    if outer is None:
        return known
    extensions = outer.enter(der.SEQUENCE)
    outer.end()
    seen: set[str] = set()
    while extensions.peek() is not None:
        fields = extensions.enter(der.SEQUENCE)
        dotted = fields.oid()
        critical = fields.boolean() if fields.peek() == der.BOOLEAN else False
        value_der = fields.octet_string()
        fields.end()
        if dotted in seen:
            raise Malformed(f"extension {dotted} stands twice")
        seen.add(dotted)
        if dotted == _NONCE_OID:
            known[dotted] = _read_nonce(value_der)
        elif critical:
            raise Malformed(f"critical extension {dotted} is not known")
    return known


def _read_nonce(value_der: bytes) -> bytes:
    message = f"a nonce is an OCTET STRING of 1 to {MAX_NONCE_OCTETS} octets"
    wrong = Malformed(message, violations=(Violation(NONCE_IS_MALFORMED, message, "nonce"),))
    try:
        reader = Reader(value_der)
        nonce = reader.octet_string()
        reader.end()
    except Malformed as error:
        raise wrong from error
    if not 1 <= len(nonce) <= MAX_NONCE_OCTETS:
        raise wrong
    return nonce


def write_request(cert_ids: tuple[CertId, ...], nonce: bytes | None = None) -> bytes:
    """An unsigned OCSPRequest, DER."""
    requests = der.sequence(*(der.sequence(write_cert_id(cert_id)) for cert_id in cert_ids))
    extensions = der.explicit(2, der.sequence(_nonce_extension(nonce))) if nonce is not None else b""
    return der.sequence(der.sequence(requests, extensions))


def write_cert_id(cert_id: CertId) -> bytes:
    """A CertID: the client's own bytes where there are any, else with NULL parameters as most clients write it."""
    if cert_id.whole_der:
        return cert_id.whole_der
    return der.sequence(
        der.sequence(der.oid(cert_id.hash_algorithm_oid), der.null()),
        der.octet_string(cert_id.issuer_name_hash),
        der.octet_string(cert_id.issuer_key_hash),
        der.integer(cert_id.serial_number),
    )


def _nonce_extension(nonce: bytes) -> bytes:
    return der.extension(_NONCE_OID, der.octet_string(nonce))


def good() -> bytes:
    """CertStatus good: issued and not revoked."""
    return der.implicit(0, b"")


def revoked(revoked_at: datetime, reason_code: int | None) -> bytes:
    """CertStatus revoked since `revoked_at`; `reason_code` is a CRLReason (RFC 5280 5.3.1) or None."""
    reason = der.explicit(0, der.enumerated(reason_code)) if reason_code is not None else b""
    return der.implicit(1, der.generalized_time(revoked_at) + reason, constructed=True)


def unknown() -> bytes:
    """CertStatus unknown: not a certificate of this CA as far as the responder knows."""
    return der.implicit(2, b"")


def single_response(cert_id: CertId, cert_status: bytes, this_update: datetime, next_update: datetime) -> bytes:
    """A SingleResponse (RFC 6960 4.2.1)."""
    return der.sequence(
        write_cert_id(cert_id),
        cert_status,
        der.generalized_time(this_update),
        der.explicit(0, der.generalized_time(next_update)),
    )


def response_data(key_hash: bytes, produced_at: datetime, single_responses: list[bytes], nonce: bytes | None) -> bytes:
    """ResponseData, the bytes to be signed, of a responder named byKey; the nonce goes into responseExtensions."""
    extensions = der.explicit(1, der.sequence(_nonce_extension(nonce))) if nonce is not None else b""
    return der.sequence(
        der.explicit(2, der.octet_string(key_hash)),
        der.generalized_time(produced_at),
        der.sequence(*single_responses),
        extensions,
    )


def basic_response(
    tbs_der: bytes, signature_algorithm: SignatureAlgorithm, signature: bytes, certificates_der: tuple[bytes, ...] = ()
) -> bytes:
    """A successful OCSPResponse around ResponseData, its signature and the responder's certificate."""
    certificates = der.explicit(0, der.sequence(*certificates_der)) if certificates_der else b""
    basic = der.sequence(
        tbs_der, der.algorithm_identifier(signature_algorithm), der.bit_string(signature), certificates
    )
    body = der.sequence(der.oid(_BASIC_OID), der.octet_string(basic))
    return der.sequence(der.enumerated(ResponseStatus.SUCCESSFUL), der.explicit(0, body))


def error_response(status: ResponseStatus) -> bytes:
    """An unsigned OCSPResponse that only tells what is wrong."""
    return der.sequence(der.enumerated(status))


def count_unknown(response_der: bytes) -> int:
    """How many certificates a successful OCSPResponse answers unknown for. Raises Malformed."""
    outer = Reader(response_der).enter(der.SEQUENCE)
    outer.next(der.ENUMERATED)
    holder = outer.enter(der.context_tag(0, constructed=True)).enter(der.SEQUENCE)
    holder.oid()
    data = Reader(holder.octet_string()).enter(der.SEQUENCE).enter(der.SEQUENCE)
    data.optional(der.context_tag(0, constructed=True))
    for number in (1, 2):
        data.optional(der.context_tag(number, constructed=True))
    data.next(der.GENERALIZED_TIME)
    unknown_tag, number_of = der.context_tag(2, constructed=False), 0
    singles = data.enter(der.SEQUENCE)
    while singles.peek() is not None:
        single = singles.enter(der.SEQUENCE)
        single.next(der.SEQUENCE)
        number_of += single.peek() == unknown_tag
    return number_of


def read_response_status(response_der: bytes) -> ResponseStatus:
    """The status of an OCSPResponse, DER. Raises Malformed."""
    status = Reader(response_der).enter(der.SEQUENCE).integer(der.ENUMERATED)
    if status not in set(ResponseStatus):
        raise Malformed(f"OCSP response status {status} is not known")
    return ResponseStatus(status)
