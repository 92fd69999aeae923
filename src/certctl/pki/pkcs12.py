"""PKCS #12 (RFC 7292) trust stores: certificates without a key, for Java, Windows and OpenSSL alike.

PBES2 with AES-256 and HMAC-SHA-256, never the RC2 and SHA-1 of old. Each certificate carries the attribute by which
Java takes it as trusted. Must never hold a private key.
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from certctl.core.errors import Malformed, Violation

# what is inside is public: more rounds would protect nothing and cost whoever asks for the file nothing
_ROUNDS = 20_000
_LONGEST_NAME = 64


def trust_store(certificates_der: Iterable[bytes], password: str) -> bytes:
    """A PKCS #12 file of these certificates, DER, each under its subject's name and number.

    An empty password leaves them readable by all: nothing in them is secret. Raises Malformed.
    """
    entries = [
        pkcs12.PKCS12Certificate(x509.load_der_x509_certificate(der), _friendly(der, number))
        for number, der in enumerate(certificates_der, 1)
    ]
    return pkcs12.serialize_java_truststore(entries, _encryption(password))


def _friendly(certificate_der: bytes, number: int) -> bytes:
    """Names within a file differ, or the last of one name would hide the others in Java."""
    common = x509.load_der_x509_certificate(certificate_der).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    name = str(common[0].value) if common else "certificate"
    plain = "".join(character for character in name if character.isprintable())[:_LONGEST_NAME]
    return f"{number} {plain}".encode()


def _encryption(password: str) -> serialization.KeySerializationEncryption:
    if not password:
        return serialization.NoEncryption()
    try:
        secret = password.encode()
        # RFC 7292 B.1: a password is a BMPString
        password.encode("utf-16-be")
    except UnicodeEncodeError as error:
        message = "password must be text"
        raise Malformed(message, violations=(Violation("password_has_wrong_form", message, "password"),)) from error
    return (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(secret)
    )
