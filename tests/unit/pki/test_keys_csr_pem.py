"""Keys, CSRs, PEM, fingerprints: round trips, named refusals, and no crash on mutated bytes."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.core.errors import Malformed, TrustError
from certctl.core.names import parse_names
from certctl.pki import csr, fingerprints, keys, pem
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import read_certificate

KEY = keys.generate_private_key(KeyAlgorithm.ECDSA_P256)
TEXTS = ["shop.example", "*.shop.example", "münchen.example", "10.0.0.1", "::1", "spiffe://x.example/a", "a@b.example"]
NAMES = parse_names(TEXTS)
GOOD_CSR = csr.build_csr(KEY, "shop.example", NAMES)
MOMENT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def rules_of(error: Malformed) -> set[str]:
    return {violation.rule for violation in error.violations}


def self_signed(serial_number: int = 1 << 100, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x.example")])
    signing = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(
        name, name, signing.public_key(), serial_number, MOMENT, MOMENT.replace(year=2027)
    )
    return builder.sign(signing, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
def test_every_algorithm_round_trips_as_key_and_csr(algorithm: KeyAlgorithm) -> None:
    key = keys.generate_private_key(algorithm)
    text = keys.private_key_pem(key)
    assert text.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert keys.spki_der(keys.load_private_key(text)) == keys.spki_der(key)
    facts = csr.read_csr(csr.csr_pem(csr.build_csr(key, "shop.example", NAMES, must_staple=True)))
    assert (facts.common_name, facts.names, facts.must_staple) == ("shop.example", NAMES, True)
    assert facts.spki_der == keys.spki_der(key)
    described = {"ECDSA-P256": "ECDSA P-256", "ECDSA-P384": "ECDSA P-384", "Ed25519": "Ed25519"}
    assert str(facts.key) == described.get(algorithm, algorithm.replace("-", " "))
    assert len(keys.spki_sha256(facts.spki_der)) == 64


POINTS = {
    curve.name: keys.spki_der(ec.generate_private_key(curve))
    for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1())
}


@given(st.sampled_from(sorted(POINTS)), st.integers(-100, 100), st.integers(0, 255), st.sampled_from(["", "cut", "on"]))
@settings(max_examples=300)
def test_a_plain_point_is_described_as_the_library_does(curve: str, place: int, octet: int, end: str) -> None:
    """On its curve or not, whole or not, bent anywhere."""
    bent = bytearray(POINTS[curve])
    bent[place % len(bent)] = octet
    for spki in (POINTS[curve], bytes(bent[:-1] if end == "cut" else bent + b"\0" if end == "on" else bent)):
        found = keys.key_facts_of_plain(spki)
        try:
            told = keys.key_facts(serialization.load_der_public_key(spki))
        except (ValueError, UnsupportedAlgorithm):
            told = None
        is_plain = told is not None and told.curve in {"P-256", "P-384"} and spki == POINTS[curve]
        assert found == told if is_plain else found in (None, told)


@pytest.mark.parametrize(("curve", "octets"), [("secp256r1", 32), ("secp384r1", 48)])
def test_no_point_off_the_curve_is_a_plain_key(curve: str, octets: int) -> None:
    spki = POINTS[curve]
    head, x, y = spki[: -2 * octets], spki[-2 * octets : -octets], spki[-octets:]
    assert keys.key_facts_of_plain(spki) is not None
    for wrong in (head + y + x, head + bytes(2 * octets), head + b"\xff" * 2 * octets):
        assert keys.key_facts_of_plain(wrong) is None


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        (rsa.generate_private_key(65537, 1024), "key_size_is_not_allowed"),
        (rsa.generate_private_key(3, 2048), "key_exponent_is_not_allowed"),
        (ec.generate_private_key(ec.SECP256K1()), "key_curve_is_unsupported"),
        (ed448.Ed448PrivateKey.generate(), "key_kind_is_unsupported"),
        (dsa.generate_private_key(2048), "key_kind_is_unsupported"),
    ],
)
def test_weak_and_foreign_keys_are_named(key: rsa.RSAPrivateKey, rule: str) -> None:
    with pytest.raises(Malformed) as caught:
        keys.describe_key(key.public_key())
    assert rules_of(caught.value) == {rule}
    digest = None if isinstance(key, ed448.Ed448PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, digest)
    with pytest.raises(Malformed) as caught:
        csr.read_csr(request.public_bytes(serialization.Encoding.DER))
    assert rules_of(caught.value) == {rule}


def test_a_modulus_with_a_small_factor_is_weak() -> None:
    with pytest.raises(Malformed, match="small factor"):
        keys.describe_key(rsa.RSAPublicNumbers(65537, 751 * ((1 << 2040) + 1)).public_key())


def test_a_large_rsa_key_is_described() -> None:
    numbers = rsa.RSAPublicNumbers(65537, (1 << 4095) + 1155)
    assert keys.key_facts(numbers.public_key()) == keys.KeyFacts("RSA", 4096)


def test_a_key_that_is_another_certificates_is_told() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate_der = self_signed(key=key)
    keys.public_key_matches(keys.private_key_pem(key), certificate_der)
    with pytest.raises(TrustError):
        keys.public_key_matches(keys.private_key_pem(KEY), certificate_der)
    with pytest.raises(Malformed):
        keys.public_key_matches(keys.private_key_pem(key), b"nonsense")


@pytest.mark.parametrize("text", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_an_unreadable_private_key_is_malformed_and_not_repeated(text: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        keys.load_private_key(text)
    assert "AAAA" not in str(caught.value)


def test_an_encrypted_private_key_is_malformed() -> None:
    sealed = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    with pytest.raises(Malformed):
        keys.load_private_key(sealed)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "csr_has_wrong_form"),
        (b"nonsense", "csr_has_wrong_form"),
        (GOOD_CSR + b"\x00", "csr_has_wrong_form"),
        (GOOD_CSR[:-1] + bytes([GOOD_CSR[-1] ^ 1]), "csr_signature_is_wrong"),
        (csr.csr_pem(GOOD_CSR) * 2, "csr_has_wrong_form"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "csr_has_wrong_form"),
        (b"0" * 70_000, "csr_is_too_large"),
    ],
    ids=["nothing", "nonsense", "a byte too many", "a bit turned", "two of them", "no request", "too large"],
)
def test_wrong_csrs_are_named(data: bytes | str, rule: str) -> None:
    with pytest.raises(Malformed) as caught:
        csr.read_csr(data)
    assert rules_of(caught.value) == {rule}


def test_all_violations_of_a_csr_are_told_at_once() -> None:
    key = rsa.generate_private_key(65537, 1024)
    names = x509.SubjectAlternativeName([x509.DNSName("bad name"), x509.RegisteredID(NameOID.COMMON_NAME)])
    two = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value) for value in ("a.example", "b.example")])
    request = x509.CertificateSigningRequestBuilder(two).add_extension(names, critical=False).sign(key, hashes.SHA256())
    with pytest.raises(Malformed) as caught:
        csr.read_csr(request.public_bytes(serialization.Encoding.DER))
    assert rules_of(caught.value) == {
        "key_size_is_not_allowed",
        "dns_name_has_wrong_form",
        "name_kind_is_unsupported",
        "csr_has_many_common_names",
    }


def test_a_csr_without_names_and_one_with_a_long_name() -> None:
    assert csr.read_csr(csr.build_csr(KEY, "", ())).names == ()
    long = "a" * 60 + ".example"
    facts = csr.read_csr(csr.build_csr(KEY, long, parse_names([long])))
    assert (facts.common_name, [str(n) for n in facts.names]) == ("", [long])


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(GOOD_CSR) - 1), value=st.integers(0, 255), cut=st.integers(0, len(GOOD_CSR)))
def test_mutated_csrs_are_malformed_or_still_proven(at: int, value: int, cut: int) -> None:
    for data in (GOOD_CSR[:at] + bytes([value]) + GOOD_CSR[at + 1 :], GOOD_CSR[:cut]):
        try:
            facts = csr.read_csr(data)
        except Malformed as error:
            assert error.violations
        else:
            assert facts.names == NAMES and facts.spki_der == keys.spki_der(KEY)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 299), value=st.integers(0, 255))
def test_mutated_certificates_are_read_or_malformed(at: int, value: int) -> None:
    der = CERTIFICATE[:at] + bytes([value]) + CERTIFICATE[at + 1 :]
    try:
        read_certificate(der)
    except Malformed as error:
        assert error.violations


CERTIFICATE = self_signed()


def test_a_name_of_a_type_that_the_library_does_not_take_is_malformed() -> None:
    common_name = bytes.fromhex("06035504030c")
    assert common_name in CERTIFICATE
    with pytest.raises(Malformed):
        read_certificate(CERTIFICATE.replace(common_name, common_name[:-1] + b"\x03"))  # a BIT STRING


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_random_texts_are_malformed(data: bytes | str) -> None:
    with pytest.raises(Malformed):
        pem.read_certificates(data)
    with pytest.raises(Malformed):
        csr.read_csr(data)


def test_certificates_keep_their_order_and_bytes() -> None:
    ders = tuple(self_signed() for _ in range(3))
    text = pem.chain_pem(ders)
    assert pem.read_certificates(text) == ders
    noisy = "Bag Attributes\n" + text.replace("\n", "\r\n") + keys.private_key_pem(KEY).decode()
    assert pem.read_certificates(noisy.encode()) == ders
    assert pem.chain_pem(()) == ""
    with pytest.raises(Malformed) as caught:
        pem.read_certificates(pem.certificate_pem(ders[0]) + pem.certificate_pem(b"0\x03\x02\x01\x01"))
    assert rules_of(caught.value) == {"certificate_has_wrong_form"}
    with pytest.raises(Malformed):
        pem.read_certificates(keys.private_key_pem(KEY))


@given(st.integers(0, (1 << 160) - 1))
def test_serials_round_trip_with_zeros_colons_and_case(serial_number: int) -> None:
    text = fingerprints.serial_hex(serial_number)
    assert text == text.lower() and (text == "0" or not text.startswith("0"))
    assert fingerprints.serial_int(text) == serial_number
    padded = text.zfill(40).upper()
    assert fingerprints.serial_int(":".join(padded[i : i + 2] for i in range(0, 40, 2))) == serial_number


@pytest.mark.parametrize("text", ["", "0x12", "-1", "g", "1" * 129, "١"])
def test_texts_that_are_no_serial(text: str) -> None:
    with pytest.raises(Malformed):
        fingerprints.serial_int(text)


def test_a_negative_serial_is_not_written() -> None:
    with pytest.raises(Malformed):
        fingerprints.serial_hex(-1)


def test_key_identifiers_are_rfc_7093_method_1() -> None:
    # RFC 7093 2 (1): leftmost 160 bits of SHA-256 of the BIT STRING's value, which ends the SPKI of an EC key.
    import hashlib

    assert keys.subject_key_identifier(KEY.public_key()) == hashlib.sha256(keys.spki_der(KEY)[-65:]).digest()[:20]
