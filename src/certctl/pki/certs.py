"""What one X.509 certificate says (RFC 5280 4), read once into plain facts.

Reads weak, odd and foreign certificates too: discovery must be able to name them. Judges nothing; `pki.chain` and
`authority.lint` do.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID
from msgspec import Struct

from certctl.core.errors import Malformed, Violation
from certctl.core.names import Name
from certctl.pki import sans
from certctl.pki.fingerprints import sha256_hex
from certctl.pki.keys import KeyFacts, key_facts, key_facts_of_plain

# What the X.509 library raises for bytes it does not read; not all of it is ValueError.
UNREADABLE = (
    ValueError,
    TypeError,  # a common name of type BIT STRING
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_VERSION = 0xA0
_ISSUERS: dict[bytes, str] = {}
_MOST_ISSUERS = 500
ExtensionT = TypeVar("ExtensionT", bound=x509.ExtensionType)


class CertificateFacts(Struct, frozen=True, kw_only=True):
    """A certificate in words. `names` are canonical; `other_names` are SAN entries certctl does not issue, as text."""

    certificate_der: bytes
    fingerprint_sha256: str
    common_name: str
    subject_der: bytes
    issuer: str
    issuer_der: bytes
    names: tuple[Name, ...]
    other_names: tuple[str, ...]
    serial_number: int
    not_before: datetime
    not_after: datetime
    key: KeyFacts
    spki_der: bytes
    spki_sha256: str
    signature_algorithm_oid: str
    subject_key_identifier: bytes | None
    authority_key_identifier: bytes | None
    is_ca: bool
    path_length: int | None
    ekus: tuple[str, ...]
    must_staple: bool
    ocsp_urls: tuple[str, ...]
    ca_issuer_urls: tuple[str, ...]
    crl_urls: tuple[str, ...]

    @property
    def subject(self) -> str:
        """The subject in words (RFC 4514), which few ask for."""
        return load_certificate(self.certificate_der).subject.rfc4514_string()

    @property
    def is_self_issued(self) -> bool:
        """Subject and issuer are the same name (RFC 5280 6.1)."""
        return self.subject_der == self.issuer_der


@lru_cache(maxsize=512)  # a CA's is asked for with each signature, a leaf by each who judges it
def load_certificate(certificate_der: bytes) -> x509.Certificate:
    """Parse a certificate and its extensions, DER. Raises Malformed."""
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        _ = certificate.extensions
    except UNREADABLE as error:
        raise _fault(error) from error
    if certificate.serial_number <= 0:
        # RFC 5280 4.1.2.2: a positive integer; the library is about to refuse these itself
        raise _fault(ValueError("its serial number is not positive"))
    return certificate


@lru_cache(maxsize=256)
def read_certificate(certificate_der: bytes) -> CertificateFacts:
    """The facts of a certificate, DER. Raises Malformed."""
    return read_anew(certificate_der)


def read_anew(certificate_der: bytes) -> CertificateFacts:
    """`read_certificate` for one of many, which nobody asks for again: it pushes out nothing that is kept."""
    certificate = load_certificate.__wrapped__(certificate_der)
    try:
        return _facts(certificate, certificate_der)
    except UNREADABLE as error:
        raise _fault(error) from error


def extension_of(certificate: x509.Certificate, kind: type[ExtensionT]) -> ExtensionT | None:
    """The value of one extension, or None when it is absent."""
    return _of(_said(certificate), kind)


@lru_cache(maxsize=512)  # dozens of rules ask each certificate, and the library looks through its list each time
def _said(certificate: x509.Certificate) -> Mapping[type[Any], Any]:
    """What a certificate's extensions say, by their kinds."""
    return {type(extension.value): extension.value for extension in certificate.extensions}


def _facts(certificate: x509.Certificate, certificate_der: bytes) -> CertificateFacts:
    said = _said.__wrapped__(certificate)
    names, other_names = _names(said)
    issuer_der, subject_der, spki = _parts(certificate_der)
    spki_der, key = _key(certificate, spki)
    constraints = _of(said, x509.BasicConstraints)
    ski = _of(said, x509.SubjectKeyIdentifier)
    aki = _of(said, x509.AuthorityKeyIdentifier)
    features = _of(said, x509.TLSFeature) or ()
    return CertificateFacts(
        certificate_der=certificate_der,
        fingerprint_sha256=sha256_hex(certificate_der),
        common_name=common_name_of(certificate.subject),
        subject_der=subject_der,
        issuer=_issuer(certificate, issuer_der),
        issuer_der=issuer_der,
        names=names,
        other_names=other_names,
        serial_number=certificate.serial_number,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key=key,
        spki_der=spki_der,
        spki_sha256=sha256_hex(spki_der),
        signature_algorithm_oid=certificate.signature_algorithm_oid.dotted_string,
        subject_key_identifier=ski.digest if ski else None,
        authority_key_identifier=aki.key_identifier if aki else None,
        is_ca=bool(constraints and constraints.ca),
        path_length=constraints.path_length if constraints else None,
        ekus=tuple(oid.dotted_string for oid in _of(said, x509.ExtendedKeyUsage) or ()),
        must_staple=x509.TLSFeatureType.status_request in features,
        ocsp_urls=_access_urls(said, AuthorityInformationAccessOID.OCSP),
        ca_issuer_urls=_access_urls(said, AuthorityInformationAccessOID.CA_ISSUERS),
        crl_urls=_crl_urls(said),
    )


def common_name_of(name: x509.Name) -> str:
    """The first common name of a subject or issuer, or empty text."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _parts(certificate_der: bytes) -> tuple[bytes, bytes, bytes]:
    """Issuer, subject and SubjectPublicKeyInfo as they stand in a certificate that has been parsed (RFC 5280 4.1)."""
    at = _inside(certificate_der, _inside(certificate_der, 0))
    if certificate_der[at] == _VERSION:
        at = _behind(certificate_der, at)
    issuer = _behind(certificate_der, _behind(certificate_der, at))  # serial number, signature
    validity = _behind(certificate_der, issuer)
    subject = _behind(certificate_der, validity)
    key = _behind(certificate_der, subject)
    end = _behind(certificate_der, key)
    return certificate_der[issuer:validity], certificate_der[subject:key], certificate_der[key:end]


def _inside(data: bytes, at: int) -> int:
    """Where the content of the element at a place begins."""
    first = data[at + 1]
    return at + 2 + (first & 0x7F if first & 0x80 else 0)


def _behind(data: bytes, at: int) -> int:
    """Where the next element begins."""
    first = data[at + 1]
    if not first & 0x80:
        return at + 2 + first
    begin = at + 2 + (first & 0x7F)
    return begin + int.from_bytes(data[at + 2 : begin], "big")


def _issuer(certificate: x509.Certificate, issuer_der: bytes) -> str:
    """The issuer in words (RFC 4514): few CAs issue many certificates."""
    known = _ISSUERS.get(issuer_der)
    if known is None:
        known = certificate.issuer.rfc4514_string()
        if len(_ISSUERS) >= _MOST_ISSUERS:
            _ISSUERS.clear()
        _ISSUERS[issuer_der] = known
    return known


def _key(certificate: x509.Certificate, spki_der: bytes) -> tuple[bytes, KeyFacts]:
    plain = key_facts_of_plain(spki_der)
    if plain is not None:
        return spki_der, plain
    try:
        public_key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        # A key this library cannot read (an exotic curve, GOST): the certificate is still one to list.
        return b"", KeyFacts(certificate.public_key_algorithm_oid.dotted_string, 0)
    # there are other ways to write the same key, whose name is that of one
    spki_der = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return spki_der, key_facts(public_key)


_Said = Mapping[type[x509.ExtensionType], x509.ExtensionType]


def _of(said: _Said, kind: type[ExtensionT]) -> ExtensionT | None:
    value = said.get(kind)
    return value if isinstance(value, kind) else None


def _names(said: _Said) -> tuple[tuple[Name, ...], tuple[str, ...]]:
    names: dict[Name, None] = {}
    other_names: list[str] = []
    for value in _of(said, x509.SubjectAlternativeName) or ():
        try:
            names[sans.read_general_name(value)] = None
        except Malformed:
            other_names.append(sans.text_of(value))
    return tuple(names), tuple(other_names)


def _access_urls(said: _Said, method: x509.ObjectIdentifier) -> tuple[str, ...]:
    found = _of(said, x509.AuthorityInformationAccess) or ()
    return tuple(
        str(access.access_location.value)
        for access in found
        if access.access_method == method and isinstance(access.access_location, x509.UniformResourceIdentifier)
    )


def _crl_urls(said: _Said) -> tuple[str, ...]:
    points = _of(said, x509.CRLDistributionPoints) or ()
    full_names = [name for point in points for name in point.full_name or ()]
    return tuple(str(name.value) for name in full_names if isinstance(name, x509.UniformResourceIdentifier))


def _fault(error: Exception) -> Malformed:
    message = f"the certificate cannot be read: {error}"
    return Malformed(message, violations=(Violation("certificate_has_wrong_form", message, "certificate"),))
