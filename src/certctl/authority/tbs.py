"""The bytes to be signed (RFC 5280 4.1.1.1): made without the CA's key, taken apart, and joined with a signature.

A TBS is written by the X.509 builder under a throw-away key of the CA's own algorithm, and only its bytes are kept: the
CA's key never meets a builder. Must never sign with a CA key; that is `authority.sign` and `authority.hierarchy`.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import AuthorityInformationAccessOID
from msgspec import Struct

from certctl.authority.signer import IssuingCA, PkiAddresses
from certctl.core.errors import Malformed, Misconfigured, Rejected, TrustError
from certctl.pki.algorithms import KeyAlgorithm, SignatureAlgorithm
from certctl.pki.certs import extension_of, load_certificate
from certctl.pki.chain import verify_issued
from certctl.pki.der import SEQUENCE, Reader, assemble_certificate
from certctl.pki.keys import PrivateKey, PublicKey, generate_private_key, subject_key_identifier

BACKDATE = timedelta(minutes=5)

_THROW_AWAY = {
    SignatureAlgorithm.ECDSA_SHA256: KeyAlgorithm.ECDSA_P256,
    SignatureAlgorithm.ECDSA_SHA384: KeyAlgorithm.ECDSA_P384,
    SignatureAlgorithm.RSA_SHA256: KeyAlgorithm.RSA_2048,
    SignatureAlgorithm.ED25519: KeyAlgorithm.ED25519,
}
_HASH: dict[SignatureAlgorithm, hashes.SHA256 | hashes.SHA384 | None] = {
    SignatureAlgorithm.ECDSA_SHA256: hashes.SHA256(),
    SignatureAlgorithm.ECDSA_SHA384: hashes.SHA384(),
    SignatureAlgorithm.RSA_SHA256: hashes.SHA256(),
    SignatureAlgorithm.ED25519: None,
}


class TbsParts(Struct, frozen=True):
    """Raw DER fields of a TBSCertificate that must match to the byte."""

    signature_algorithm_der: bytes
    issuer_der: bytes
    subject_der: bytes
    spki_der: bytes


def new_serial_number() -> int:
    """A positive serial number of 159 random bits: at most 20 octets in DER (RFC 5280 4.1.2.2; CA/B BR 7.1)."""
    while True:
        # Shorter than 64 bits is as good as never (2^-95), and would read as a counter.
        serial_number = secrets.randbits(159)
        if serial_number.bit_length() >= 64:
            return serial_number


def whole_second(moment: datetime) -> datetime:
    """`moment` without its fraction: X.509 times have none (RFC 5280 4.1.2.5)."""
    return moment.replace(microsecond=0)


def choose_validity(issuer: x509.Certificate, now: datetime, validity: timedelta) -> tuple[datetime, datetime]:
    """NotBefore a little in the past (clocks of peers differ), notAfter `validity` ahead, both within the issuer's."""
    if validity < timedelta(seconds=1):
        raise Rejected(f"a validity of {validity} is too short for a certificate")
    moment = whole_second(now)
    # At most a tenth of the life: a certificate of minutes must not be born old.
    backdated = whole_second(now - min(BACKDATE, validity / 10))
    not_before = max(backdated, issuer.not_valid_before_utc)
    not_after = min(moment + timedelta(seconds=int(validity.total_seconds())), issuer.not_valid_after_utc)
    if not_after <= moment or moment < issuer.not_valid_before_utc:
        raise Misconfigured(
            f"the CA {issuer.subject.rfc4514_string()!r} is valid from {issuer.not_valid_before_utc.isoformat()}"
            f" to {issuer.not_valid_after_utc.isoformat()} and can sign nothing now; make a new CA generation"
        )
    return not_before, not_after


def add_addresses(
    builder: x509.CertificateBuilder, ca_certificate_id: str, addresses: PkiAddresses, crl_shard: int = 0
) -> x509.CertificateBuilder:
    """Where relying parties ask about certificates of this CA: OCSP, caIssuers, CRL (RFC 5280 4.2.2.1, 4.2.1.13)."""
    access = x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(AuthorityInformationAccessOID.OCSP, _uri(addresses.ocsp(ca_certificate_id))),
            x509.AccessDescription(
                AuthorityInformationAccessOID.CA_ISSUERS, _uri(addresses.certificate(ca_certificate_id))
            ),
        ]
    )
    point = x509.DistributionPoint([_uri(addresses.crl(ca_certificate_id, crl_shard))], None, None, None)
    return builder.add_extension(access, critical=False).add_extension(
        x509.CRLDistributionPoints([point]), critical=False
    )


def _uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def write_tbs(builder: x509.CertificateBuilder, algorithm: SignatureAlgorithm) -> bytes:
    """The TBS (DER) of a filled builder, as a CA that signs with `algorithm` will sign it."""
    return builder.sign(_throw_away_key(algorithm), _HASH[algorithm]).tbs_certificate_bytes


def make_twin(tbs_der: bytes, algorithm: SignatureAlgorithm) -> x509.Certificate:
    """A certificate of the same TBS with a worthless signature, to be linted. Raises TrustError if unreadable."""
    try:
        twin = load_certificate(assemble_certificate(tbs_der, algorithm, bytes(64)))
    except Malformed as error:
        raise TrustError("lint refused to sign: the certificate cannot be read", detail=error.message) from error
    if twin.tbs_certificate_bytes != tbs_der:
        raise TrustError("lint refused to sign: what was read is not the bytes that would be signed")
    return twin


def join(tbs_der: bytes, algorithm: SignatureAlgorithm, signature: bytes, issuer: x509.Certificate | None) -> bytes:
    """A certificate (DER) of TBS and signature, verified with its issuer (None: self-signed). Raises TrustError."""
    certificate_der = assemble_certificate(tbs_der, algorithm, signature)
    try:
        certificate = load_certificate(certificate_der)
        verify_issued(certificate, issuer if issuer is not None else certificate)
    except (Malformed, ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise TrustError("the signed certificate does not verify with its issuer's key", detail=repr(error)) from error
    return certificate_der


def read_parts(tbs_der: bytes) -> TbsParts:
    """The raw fields of a v3 TBS (version, serial, signature, issuer, validity, subject, key). Raises Malformed."""
    outer = Reader(tbs_der)
    fields = [element.whole for element in outer.enter(SEQUENCE)]
    outer.end()
    if len(fields) < 7:
        raise Malformed("the TBS has too few fields")
    return TbsParts(signature_algorithm_der=fields[2], issuer_der=fields[3], subject_der=fields[5], spki_der=fields[6])


@lru_cache(maxsize=64)
def _loaded(certificate_der: bytes) -> x509.Certificate:
    return load_certificate(certificate_der)


def certificate_of(ca: IssuingCA) -> x509.Certificate:
    """The CA's certificate, parsed once a process."""
    return _loaded(ca.certificate_der)


@lru_cache(maxsize=64)
def _subject_of(certificate_der: bytes) -> bytes:
    return read_parts(_loaded(certificate_der).tbs_certificate_bytes).subject_der


def subject_of(ca: IssuingCA) -> bytes:
    """The CA's subject, the very bytes (DER), read once a process."""
    return _subject_of(ca.certificate_der)


def issuer_key_identifier(ca: x509.Certificate) -> bytes:
    """What the AKI of everything this CA signs must say: its own SKI (RFC 5280 4.2.1.1)."""
    ski = extension_of(ca, x509.SubjectKeyIdentifier)
    return ski.digest if ski is not None else subject_key_identifier(public_key_of(ca))


def public_key_of(certificate: x509.Certificate) -> PublicKey:
    """The certificate's key. Raises TrustError for a kind that no CA or leaf of ours has."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TrustError("the certificate's key cannot be read", detail=str(error)) from error
    if not isinstance(key, PublicKey):
        raise TrustError(f"the certificate's key is of an unsupported kind ({type(key).__name__})")
    return key


@lru_cache(maxsize=len(_THROW_AWAY))
def _throw_away_key(algorithm: SignatureAlgorithm) -> PrivateKey:
    return generate_private_key(_THROW_AWAY[algorithm])
