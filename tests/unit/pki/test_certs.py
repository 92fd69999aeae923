"""What is read of a certificate the short way is what the library says the long way."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import Malformed
from certctl.pki import pem
from certctl.pki.certs import read_anew, read_certificate
from certctl.pki.fingerprints import sha256_hex

DER, SPKI = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
NOW = datetime(2026, 11, 27, tzinfo=UTC)
KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}
LONG = x509.Name(
    [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Ü, Inc.+ " + "x" * 50)]
    + [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"unit {number} " + "y" * 50) for number in range(5)]
    + [x509.NameAttribute(NameOID.COMMON_NAME, "long.example")]
)
SHORT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "short.example")])


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize(("subject", "issuer"), [(SHORT, LONG), (LONG, SHORT), (x509.Name([]), SHORT)])
def test_names_and_key_stand_in_it_as_the_library_writes_them(kind, subject, issuer):
    key = KEYS[kind]()
    signer = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(1 << 158)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=9))
        .sign(signer, hashes.SHA256())
    )
    facts = read_anew(made.public_bytes(DER))
    assert (facts.subject_der, facts.subject) == (subject.public_bytes(), subject.rfc4514_string())
    assert (facts.issuer_der, facts.issuer) == (issuer.public_bytes(), issuer.rfc4514_string())
    spki = key.public_key().public_bytes(DER, SPKI)
    assert (facts.spki_der, facts.spki_sha256) == (spki, sha256_hex(spki))
    assert read_certificate(made.public_bytes(DER)) == facts == read_anew(made.public_bytes(DER))


_PIECES = (
    "-----BEGIN A-----\n",
    "-----END A-----",
    "-----BEGIN B C----- \n",
    "-----END B C-----",
    "-",
    "----END A",
    "QUI=",
    "\n",
)
LAZY = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s*\n(.*?)-----END \1-----", re.DOTALL)


@given(st.lists(st.sampled_from(_PIECES), max_size=14).map("".join))
def test_blocks_end_at_the_first_end_of_their_label(text):
    try:
        found = pem.unarmour(text, ("A", "B C"))
    except Malformed:
        found = None
    try:
        expected = tuple(base64.b64decode("".join(match[2].split()), validate=True) for match in LAZY.finditer(text))
    except ValueError:
        expected = None
    assert found == expected
