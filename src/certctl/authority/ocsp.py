"""OCSP answers of the built-in CA (RFC 6960), signed by a delegated responder or by the CA itself.

A serial number the CA never issued is answered unknown, not good; so is every CertID that names another issuer. Nothing
is cached here: an answer tells the facts handed in. Must never answer good for want of knowledge.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from msgspec import Struct

from certctl.authority.crl import reason_code
from certctl.authority.signer import IssuingCA, Signer
from certctl.authority.tbs import public_key_of, whole_second
from certctl.core.errors import Malformed, TrustError
from certctl.pki.algorithms import SIGNATURE_OF, KeyAlgorithm, SignatureAlgorithm
from certctl.pki.certs import load_certificate
from certctl.pki.keys import PublicKey, spki_der
from certctl.wire import ocsp
from certctl.wire.ocsp import CertId, IssuerHashes, ResponseStatus

_HASH = {
    SignatureAlgorithm.ECDSA_SHA256: hashes.SHA256(),
    SignatureAlgorithm.ECDSA_SHA384: hashes.SHA384(),
    SignatureAlgorithm.RSA_SHA256: hashes.SHA256(),
}


class Responder(Struct, frozen=True):
    """Who signs the answers for one CA generation: its responder certificate, or the CA's own certificate and key."""

    ca: IssuingCA
    responder_certificate_der: bytes
    key_ref: str
    key_algorithm: KeyAlgorithm


class SerialStatus(Struct, frozen=True):
    """What is known of one issued serial number: good, or revoked since a moment for a reason (RFC 5280 5.3.1)."""

    revoked_at: datetime | None = None
    reason: str = ""

    @classmethod
    def good(cls) -> SerialStatus:
        """Issued and not revoked."""
        return cls()

    @classmethod
    def revoked(cls, revoked_at: datetime, reason: str) -> SerialStatus:
        """Revoked."""
        return cls(revoked_at, reason)


Statuses = Callable[[list[int]], Awaitable[Mapping[int, SerialStatus]]]


class _Identity(Struct, frozen=True):
    """What follows from a responder's certificate alone."""

    public_key: PublicKey
    key_hash: bytes
    not_after: datetime


async def answer(
    request_der: bytes, responder: Responder, statuses: Statuses, signer: Signer, now: datetime, validity: timedelta
) -> bytes:
    """The OCSPResponse (DER) to a request (DER): one answer for each CertID, in order, the nonce echoed.

    `statuses` is asked once, for the serial numbers of this CA; those it leaves out are unknown. An unreadable request
    is answered malformedRequest. nextUpdate is `now + validity`, but not after the responder ends. Raises TrustError
    when the responder has ended or its signature does not verify.
    """
    try:
        request = ocsp.read_request(request_der)
    except Malformed:
        return ocsp.error_response(ResponseStatus.MALFORMED_REQUEST)
    identity = _identity(responder.responder_certificate_der)
    this_update, next_update = whole_second(now), min(whole_second(now + validity), identity.not_after)
    if next_update <= this_update:
        raise TrustError("the OCSP responder's certificate has ended")
    ours = {cert_id.serial_number for cert_id in request.cert_ids if _names(cert_id, responder.ca)}
    known = await statuses(sorted(ours)) if ours else {}
    singles = [
        ocsp.single_response(
            cert_id,
            _cert_status(known.get(cert_id.serial_number) if _names(cert_id, responder.ca) else None),
            this_update,
            next_update,
        )
        for cert_id in request.cert_ids
    ]
    return await _sign(ocsp.response_data(identity.key_hash, this_update, singles, request.nonce), responder, signer)


async def _sign(tbs_der: bytes, responder: Responder, signer: Signer) -> bytes:
    algorithm = SIGNATURE_OF[responder.key_algorithm]
    signature = await signer.sign(responder.key_ref, algorithm, tbs_der)
    _verify(_identity(responder.responder_certificate_der).public_key, algorithm, tbs_der, signature)
    # A delegated responder shows its certificate (RFC 6960 4.2.2.2); the CA's own everybody has.
    is_delegated = responder.responder_certificate_der != responder.ca.certificate_der
    certificates_der = (responder.responder_certificate_der,) if is_delegated else ()
    return ocsp.basic_response(tbs_der, algorithm, signature, certificates_der)


def _names(cert_id: CertId, ca: IssuingCA) -> bool:
    """Whether a CertID speaks of a certificate that `ca` could have issued: RFC 5280 knows no negative serials."""
    if cert_id.hash_algorithm_oid not in ocsp.KNOWN_HASHES:
        return False
    hashes_of_ca = _issuer_hashes(ca.certificate_der, cert_id.hash_algorithm_oid)
    return cert_id.serial_number >= 0 and hashes_of_ca == IssuerHashes(
        cert_id.issuer_name_hash, cert_id.issuer_key_hash
    )


def _cert_status(status: SerialStatus | None) -> bytes:
    if status is None:
        return ocsp.unknown()
    if status.revoked_at is None:
        return ocsp.good()
    return ocsp.revoked(status.revoked_at, reason_code(status.reason))


@lru_cache(maxsize=128)
def _issuer_hashes(ca_certificate_der: bytes, hash_algorithm_oid: str) -> IssuerHashes:
    certificate = load_certificate(ca_certificate_der)
    spki = spki_der(public_key_of(certificate))
    return ocsp.issuer_hashes(hash_algorithm_oid, certificate.subject.public_bytes(), spki)


@lru_cache(maxsize=64)
def _identity(responder_certificate_der: bytes) -> _Identity:
    certificate = load_certificate(responder_certificate_der)
    public_key = public_key_of(certificate)
    return _Identity(public_key, ocsp.responder_key_hash(spki_der(public_key)), certificate.not_valid_after_utc)


def _verify(public_key: PublicKey, algorithm: SignatureAlgorithm, tbs_der: bytes, signature: bytes) -> None:
    """Nothing leaves that its own responder certificate does not prove. Raises TrustError."""
    try:
        if isinstance(public_key, ec.EllipticCurvePublicKey):
            public_key.verify(signature, tbs_der, ec.ECDSA(_HASH[algorithm]))
        elif isinstance(public_key, rsa.RSAPublicKey):
            public_key.verify(signature, tbs_der, padding.PKCS1v15(), _HASH[algorithm])
        else:
            public_key.verify(signature, tbs_der)
    except (InvalidSignature, KeyError) as error:
        raise TrustError("the OCSP answer does not verify with the responder's key") from error
