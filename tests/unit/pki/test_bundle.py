"""Whatever bytes are brought: a bundle or a refusal, never a crash, never a key."""

from __future__ import annotations

import base64
import contextlib
import random
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import Malformed
from certctl.pki import bundle

NOW = datetime(2026, 11, 26, tzinfo=UTC)
DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _line() -> tuple[list[x509.Certificate], ec.EllipticCurvePrivateKey]:
    """Leaf, intermediate, root, and the leaf's key."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    names = [_name("leaf.example"), _name("Intermediate"), _name("Root")]
    made = []
    for number in range(3):
        above = min(number + 1, 2)
        made.append(
            x509.CertificateBuilder()
            .subject_name(names[number])
            .issuer_name(names[above])
            .public_key(keys[number].public_key())
            .serial_number(number + 1)
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=90))
            .add_extension(x509.BasicConstraints(ca=number > 0, path_length=None), critical=True)
            .sign(keys[above], hashes.SHA256())
        )
    return made, keys[0]


LINE, KEY = _line()
DERS = [each.public_bytes(DER) for each in LINE]
PKCS7 = pkcs7.serialize_certificates(LINE, DER)


@given(st.permutations(LINE), st.booleans())
def test_any_order_gives_the_same_chain(order, with_root):
    chosen = [each for each in order if with_root or each is not LINE[2]]
    read = bundle.read_pem("".join(each.public_bytes(PEM).decode() for each in chosen))
    assert read.leaf.certificate_der == DERS[0]
    assert read.chain_der == (DERS[1],)


def test_a_pkcs7_message_is_read_and_a_lone_root_is_a_leaf():
    assert bundle.read_der(PKCS7).chain_der == (DERS[1],)
    assert bundle.read_der(DERS[2]).leaf.certificate_der == DERS[2]


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(Malformed):
        bundle.read_der(data)


@given(st.sampled_from([*DERS, PKCS7]), st.integers(0, 2**32), st.integers(1, 4))
def test_bent_bytes_are_read_or_refused(good, seed, times):
    chance, bent = random.Random(seed), bytearray(good)
    for _ in range(times):
        bent[chance.randrange(len(bent))] = chance.randrange(256)
    for read in (lambda: bundle.read_der(bytes(bent)), lambda: bundle.read_pem(_armoured("CERTIFICATE", bytes(bent)))):
        with contextlib.suppress(Malformed):
            assert read().leaf.fingerprint_sha256


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text):
    with pytest.raises(Malformed):
        bundle.read_pem(text)


@given(
    st.sampled_from(["PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "CERTIFICATE", "PKCS7"]), st.booleans()
)
def test_a_key_under_any_label_is_refused_and_not_repeated(label, before):
    der = KEY.private_bytes(DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    secret, leaf = _armoured(label, der), LINE[0].public_bytes(PEM).decode()
    with pytest.raises(Malformed) as refused:
        bundle.read_pem(secret + leaf if before else leaf + secret)
    assert refused.value.violations[0].rule == bundle.PRIVATE_KEY
    assert base64.b64encode(der).decode()[:30] not in str(refused.value) + refused.value.detail


def _armoured(label: str, der: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n"
