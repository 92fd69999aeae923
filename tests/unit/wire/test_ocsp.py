"""OCSP messages against cryptography's own builder and reader, and against mutations."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as reference
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import Malformed
from certctl.pki import der
from certctl.pki.algorithms import SignatureAlgorithm
from certctl.pki.keys import spki_der
from certctl.wire import ocsp
from certctl.wire.ocsp import CertId, ResponseStatus

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ONE = CertId(ocsp.SHA1_OID, b"n" * 20, b"k" * 20, 5)


@lru_cache(maxsize=1)
def issuer() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Issuer")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=9))
    return builder.sign(key, hashes.SHA256()), key


def reference_request(serial_number: int, algorithm: hashes.HashAlgorithm, nonce: bytes | None = None) -> bytes:
    certificate, key = issuer()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Leaf")])
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(certificate.subject)
        .public_key(key.public_key())
        .serial_number(serial_number)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    builder = reference.OCSPRequestBuilder().add_certificate(leaf, certificate, algorithm)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


@pytest.mark.parametrize("oid", [ocsp.SHA1_OID, ocsp.SHA256_OID])
@pytest.mark.parametrize("serial_number", [1, 0x7F, 0x80, 0xFF00, (1 << 159) - 1, 1 << 158, 0x80 << 64])
@pytest.mark.parametrize("nonce", [None, b"\x00" * 32, b"x"])
def test_reads_what_cryptography_writes(oid: str, serial_number: int, nonce: bytes | None) -> None:
    algorithm = hashes.SHA1() if oid == ocsp.SHA1_OID else hashes.SHA256()
    request_der = reference_request(serial_number, algorithm, nonce)
    request = ocsp.read_request(request_der)
    (cert_id,) = request.cert_ids
    certificate, key = issuer()
    expected = ocsp.issuer_hashes(oid, certificate.subject.public_bytes(), spki_der(key))
    assert request.nonce == nonce
    assert (cert_id.hash_algorithm_oid, cert_id.serial_number) == (oid, serial_number)
    assert (cert_id.issuer_name_hash, cert_id.issuer_key_hash) == (expected.name_hash, expected.key_hash)
    assert cert_id.whole_der in request_der


@given(
    st.lists(
        st.builds(
            CertId,
            st.sampled_from([ocsp.SHA1_OID, ocsp.SHA256_OID]),
            st.binary(max_size=40),
            st.binary(max_size=40),
            st.integers(-(1 << 200), 1 << 200),
        ),
        min_size=1,
        max_size=50,
    ),
    st.none() | st.binary(min_size=1, max_size=128),
)
def test_request_round_trip(cert_ids: list[CertId], nonce: bytes | None) -> None:
    request = ocsp.read_request(ocsp.write_request(tuple(cert_ids), nonce))
    assert request.nonce == nonce
    found = tuple(
        CertId(c.hash_algorithm_oid, c.issuer_name_hash, c.issuer_key_hash, c.serial_number) for c in request.cert_ids
    )
    assert found == tuple(cert_ids)


def test_writes_what_cryptography_reads() -> None:
    found = reference.load_der_ocsp_request(ocsp.write_request((ONE,), b"nonce"))
    assert (found.serial_number, found.issuer_name_hash, found.issuer_key_hash) == (5, b"n" * 20, b"k" * 20)
    assert found.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"nonce"


def request_with(extensions: bytes = b"", single_extensions: bytes = b"", before: bytes = b"", count: int = 1) -> bytes:
    single = der.explicit(0, der.sequence(single_extensions)) if single_extensions else b""
    requests = der.sequence(*[der.sequence(ocsp.write_cert_id(ONE), single)] * count)
    tail = der.explicit(2, der.sequence(extensions)) if extensions else b""
    return der.sequence(der.sequence(before, requests, tail))


UNKNOWN = "1.3.6.1.4.1.99999.1"
NONCE = "1.3.6.1.5.5.7.48.1.2"


def test_unknown_extensions_are_skipped_unless_critical() -> None:
    harmless = der.extension(UNKNOWN, b"\x05\x00")
    critical = der.extension(UNKNOWN, b"\x05\x00", critical=True)
    assert ocsp.read_request(request_with(harmless, harmless)).cert_ids
    for request_der in (request_with(critical), request_with(b"", critical)):
        with pytest.raises(Malformed, match="critical"):
            ocsp.read_request(request_der)


def test_a_critical_nonce_is_known() -> None:
    nonce = der.extension(NONCE, der.octet_string(b"abc"), critical=True)
    assert ocsp.read_request(request_with(nonce)).nonce == b"abc"


@pytest.mark.parametrize(
    "extensions",
    [
        der.extension(NONCE, der.octet_string(b"")),
        der.extension(NONCE, der.octet_string(bytes(129))),
        der.extension(NONCE, b"raw!"),
        der.extension(NONCE, der.octet_string(b"a") + b"\x05\x00"),
        der.extension(NONCE, der.octet_string(b"a")) * 2,
    ],
)
def test_nonces_of_wrong_form_are_refused(extensions: bytes) -> None:
    with pytest.raises(Malformed):
        ocsp.read_request(request_with(extensions))


def test_version_requestor_and_signature_may_stand_there() -> None:
    version = der.explicit(0, der.integer(0))
    requestor = der.explicit(1, der.implicit(2, b"client.example"))
    assert ocsp.read_request(request_with(before=version + requestor)).cert_ids
    with pytest.raises(Malformed, match="version"):
        ocsp.read_request(request_with(before=der.explicit(0, der.integer(1))))
    signed = der.sequence(der.Reader(request_with()).next(der.SEQUENCE).content + der.explicit(0, der.sequence()))
    assert ocsp.read_request(signed).cert_ids


def test_bounds() -> None:
    assert len(ocsp.read_request(request_with(count=50)).cert_ids) == 50
    with pytest.raises(Malformed, match="50"):
        ocsp.read_request(request_with(count=51))
    with pytest.raises(Malformed, match="nothing"):
        ocsp.read_request(request_with(count=0))
    with pytest.raises(Malformed, match="65536"):
        ocsp.read_request(der.sequence(bytes(70_000)))
    with pytest.raises(Malformed, match="serial"):
        ocsp.read_request(ocsp.write_request((CertId(ocsp.SHA1_OID, b"", b"", 1 << 512),)))
    with pytest.raises(Malformed):
        ocsp.read_request(request_with() + b"\x00")


@given(st.binary(max_size=200))
def test_noise_gives_nothing_but_malformed(noise: bytes) -> None:
    with pytest.raises(Malformed):
        ocsp.read_request(noise)


SAMPLE = ocsp.write_request((ONE, CertId(ocsp.SHA256_OID, b"a" * 32, b"b" * 32, 1 << 150)), b"nonce")


@given(st.integers(0, len(SAMPLE) - 1), st.binary(max_size=4), st.integers(0, 4))
def test_mutations_give_nothing_but_malformed(at: int, inserted: bytes, cut: int) -> None:
    with contextlib.suppress(Malformed):
        ocsp.read_request(SAMPLE[:at] + inserted + SAMPLE[at + cut :])


@pytest.mark.parametrize(
    ("status", "expected", "reason"),
    [
        (ocsp.good(), reference.OCSPCertStatus.GOOD, None),
        (ocsp.unknown(), reference.OCSPCertStatus.UNKNOWN, None),
        (ocsp.revoked(NOW, None), reference.OCSPCertStatus.REVOKED, None),
        (ocsp.revoked(NOW, 1), reference.OCSPCertStatus.REVOKED, x509.ReasonFlags.key_compromise),
        (ocsp.revoked(NOW, 9), reference.OCSPCertStatus.REVOKED, x509.ReasonFlags.privilege_withdrawn),
    ],
)
def test_response_is_what_cryptography_reads(status: bytes, expected: object, reason: object) -> None:
    certificate, key = issuer()
    key_hash = ocsp.responder_key_hash(spki_der(key))
    single = ocsp.single_response(ONE, status, NOW, NOW + timedelta(hours=1))
    tbs = ocsp.response_data(key_hash, NOW, [single], b"nonce")
    signature = key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    certificate_der = certificate.public_bytes(Encoding.DER)
    found = reference.load_der_ocsp_response(
        ocsp.basic_response(tbs, SignatureAlgorithm.ECDSA_SHA256, signature, (certificate_der,))
    )
    assert found.response_status is reference.OCSPResponseStatus.SUCCESSFUL
    assert found.certificate_status is expected
    assert found.revocation_reason is reason
    assert found.revocation_time_utc == (NOW if expected is reference.OCSPCertStatus.REVOKED else None)
    assert (found.this_update_utc, found.next_update_utc, found.produced_at_utc) == (NOW, NOW + timedelta(hours=1), NOW)
    assert found.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    assert found.tbs_response_bytes == tbs
    assert found.certificates == [certificate]
    # A nonce belongs to the response, not to one of its singles.
    assert found.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"nonce"
    assert len(found.single_extensions) == 0


@pytest.mark.parametrize("status", [s for s in ResponseStatus if s is not ResponseStatus.SUCCESSFUL])
def test_error_responses(status: ResponseStatus) -> None:
    found = reference.load_der_ocsp_response(ocsp.error_response(status))
    assert found.response_status.value == status
    assert ocsp.read_response_status(ocsp.error_response(status)) is status


def test_unknown_response_status_is_refused() -> None:
    with pytest.raises(Malformed):
        ocsp.read_response_status(der.sequence(der.enumerated(4)))


def test_other_hashes_are_refused() -> None:
    with pytest.raises(Malformed):
        ocsp.issuer_hashes("2.16.840.1.101.3.4.2.2", b"", spki_der(issuer()[1]))


def response_of(*statuses: bytes) -> bytes:
    key_hash = ocsp.responder_key_hash(spki_der(issuer()[1]))
    singles = [ocsp.single_response(ONE, status, NOW, NOW + timedelta(hours=1)) for status in statuses]
    tbs = ocsp.response_data(key_hash, NOW, singles, b"nonce")
    return ocsp.basic_response(tbs, SignatureAlgorithm.ECDSA_SHA256, b"signature")


@given(st.lists(st.sampled_from([ocsp.good(), ocsp.unknown(), ocsp.revoked(NOW, None), ocsp.revoked(NOW, 1)])))
def test_unknown_answers_are_counted(statuses: list[bytes]) -> None:
    assert ocsp.count_unknown(response_of(*statuses)) == statuses.count(ocsp.unknown())


ANSWER = response_of(ocsp.unknown(), ocsp.good())


@given(st.integers(0, len(ANSWER) - 1), st.binary(max_size=4), st.integers(0, 4))
def test_counting_in_mutations_gives_nothing_but_malformed(at: int, inserted: bytes, cut: int) -> None:
    with contextlib.suppress(Malformed):
        ocsp.count_unknown(ANSWER[:at] + inserted + ANSWER[at + cut :])


def test_a_nonce_that_cannot_be_echoed_is_told_by_its_name() -> None:
    for nonce in (b"", b"x" * (ocsp.MAX_NONCE_OCTETS + 1)):
        with pytest.raises(Malformed) as told:
            ocsp.read_request(ocsp.write_request((ONE,), nonce))
        assert [violation.rule for violation in told.value.violations] == [ocsp.NONCE_IS_MALFORMED]
