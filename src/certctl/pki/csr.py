"""Certification requests: build and read PKCS#10 (RFC 2986, RFC 5967).

A CSR proves possession of a key and says what its holder would like. It is never the source of a certificate's names:
those come from the approved request, and the CSR is judged against it.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from certctl.core.errors import Malformed, Violation
from certctl.core.names import Name
from certctl.pki import sans
from certctl.pki.certs import UNREADABLE
from certctl.pki.keys import KeyFacts, PrivateKey, PublicKey, describe_key, spki_der, spki_sha256
from certctl.pki.pem import armour, unarmour

UB_COMMON_NAME = 64  # RFC 5280 appendix A.1
MAX_CSR_BYTES = 64 * 1024
_LABELS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")


class CsrFacts(Struct, frozen=True):
    """What a CSR says, its signature verified. `names` are canonical, in the CSR's order; `ekus` are dotted OIDs,
    as are `attribute_oids`, and `extension_oids` of what is asked for in the extensionRequest.
    """

    csr_der: bytes
    common_name: str
    names: tuple[Name, ...]
    key: KeyFacts
    spki_der: bytes
    ekus: tuple[str, ...] = ()
    must_staple: bool = False
    attribute_oids: tuple[str, ...] = ()
    extension_oids: tuple[str, ...] = ()

    @property
    def spki_sha256(self) -> str:
        """The public key's fingerprint, lowercase hex."""
        return spki_sha256(self.spki_der)


def build_csr(key: PrivateKey, common_name: str, names: tuple[Name, ...], must_staple: bool = False) -> bytes:
    """A CSR (DER) signed with `key`. A common name over 64 characters is left out (RFC 5280 A.1)."""
    fits = bool(common_name) and len(common_name) <= UB_COMMON_NAME
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if fits else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names:
        builder = builder.add_extension(sans.subject_alternative_name(names), critical=not subject)
    if must_staple:
        builder = builder.add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
    return builder.sign(key, csr_hash(key)).public_bytes(serialization.Encoding.DER)


def csr_hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    """The hash a key signs with: SHA-384 from P-384 upwards, none for Ed25519, else SHA-256."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    large = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256
    return hashes.SHA384() if large else hashes.SHA256()


def csr_pem(csr_der: bytes) -> str:
    """A CSR as PEM."""
    return armour(csr_der, _LABELS[0])


def read_csr(data: bytes | str) -> CsrFacts:
    """Read one CSR, PEM or DER; verifies signature, key and form of names. Raises Malformed with every violation."""
    return _read_text(data) if isinstance(data, str) else _read(_der_of(data))


@lru_cache(maxsize=256)
def _read_text(data: str) -> CsrFacts:
    return _read(_der_of(data))


@lru_cache(maxsize=256)  # one request's is read by each who judges it; what is wrong is read again
def _read(csr_der: bytes) -> CsrFacts:
    try:
        request = x509.load_der_x509_csr(csr_der)
        common_names = [str(a.value) for a in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        extensions = request.extensions
        attribute_oids = tuple(attribute.oid.dotted_string for attribute in request.attributes)
        public_key = request.public_key()
    except UNREADABLE as error:
        raise _fault("csr_has_wrong_form", f"the CSR cannot be read: {error}") from error
    violations: list[Violation] = []
    _check_signature(request, violations)
    key = _judge_key(public_key, violations)
    names = _read_names(extensions, violations)
    if len(common_names) > 1:
        violations.append(
            Violation("csr_has_many_common_names", "the CSR's subject has more than one common name", "csr")
        )
    if violations or key is None or not isinstance(public_key, PublicKey):
        raise Malformed("; ".join(v.message for v in violations), violations=tuple(violations))
    return CsrFacts(
        csr_der=csr_der,
        common_name=common_names[0] if common_names else "",
        names=names,
        key=key,
        spki_der=spki_der(public_key),
        ekus=_read_ekus(extensions),
        must_staple=_asks_staple(extensions),
        attribute_oids=attribute_oids,
        extension_oids=tuple(extension.oid.dotted_string for extension in extensions),
    )


def _der_of(data: bytes | str) -> bytes:
    if len(data) > MAX_CSR_BYTES:
        raise _fault("csr_is_too_large", f"the CSR has more than {MAX_CSR_BYTES} bytes")
    if isinstance(data, bytes) and not data.lstrip().startswith(b"-----"):
        return data
    blocks = unarmour(data, _LABELS)
    if len(blocks) != 1:
        raise _fault("csr_has_wrong_form", f"the PEM text holds {len(blocks)} CSRs; one is needed")
    return blocks[0]


def _check_signature(request: x509.CertificateSigningRequest, violations: list[Violation]) -> None:
    try:
        valid = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm):
        valid = False
    if not valid:
        # RFC 2986 4.2: the signature is the proof that the requester holds the private key.
        violations.append(
            Violation("csr_signature_is_wrong", "the CSR's signature does not verify with its own key", "csr")
        )


def _judge_key(public_key: object, violations: list[Violation]) -> KeyFacts | None:
    try:
        return describe_key(public_key)
    except Malformed as error:
        violations.extend(error.violations)
        return None


def _read_names(extensions: x509.Extensions, violations: list[Violation]) -> tuple[Name, ...]:
    try:
        values = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return ()
    names: dict[Name, None] = {}
    for index, value in enumerate(values):
        try:
            names[sans.read_general_name(value, f"csr.sans[{index}]")] = None
        except Malformed as error:
            violations.extend(error.violations)
    return tuple(names)


def _read_ekus(extensions: x509.Extensions) -> tuple[str, ...]:
    try:
        found = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(oid.dotted_string for oid in found if oid != ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)


def _asks_staple(extensions: x509.Extensions) -> bool:
    try:
        return x509.TLSFeatureType.status_request in extensions.get_extension_for_class(x509.TLSFeature).value
    except x509.ExtensionNotFound:
        return False


def _fault(rule: str, message: str) -> Malformed:
    return Malformed(message, violations=(Violation(rule, message, "csr"),))
