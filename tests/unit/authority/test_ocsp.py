"""OCSP answers as an independent reader (cryptography) sees them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as reference
from hypothesis import given
from hypothesis import strategies as st

from certctl.authority.hierarchy import make_ocsp_responder
from certctl.authority.ocsp import Responder, SerialStatus, answer
from certctl.authority.signer import IssuingCA
from certctl.core.errors import TrustError
from certctl.pki import der
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import read_certificate
from certctl.wire import ocsp
from certctl.wire.ocsp import CertId
from made_ca import MadeCA, make_ca

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
HOUR = timedelta(hours=1)
GOOD, REVOKED = 0x80 << 64, (1 << 159) - 1
REVOKED_AT = NOW - timedelta(days=2)


@pytest.fixture
async def ca() -> MadeCA:
    return await make_ca()


def own_responder(ca: MadeCA) -> Responder:
    return Responder(ca.issuing, ca.issuing.certificate_der, ca.issuing.key_ref, ca.issuing.key_algorithm)


async def delegated(ca: MadeCA, validity: timedelta = timedelta(days=30)) -> Responder:
    key = await ca.key(KeyAlgorithm.ECDSA_P256, "k-ocsp")
    certificate_der = await make_ocsp_responder(ca.issuing, key, ca.signer, NOW, validity)
    return Responder(ca.issuing, certificate_der, "k-ocsp", KeyAlgorithm.ECDSA_P256)


asked: list[list[int]] = []


async def statuses(serials: list[int]) -> Mapping[int, SerialStatus]:
    asked.append(serials)
    known = {
        GOOD: SerialStatus.good(),
        REVOKED: SerialStatus.revoked(REVOKED_AT, "keyCompromise"),
        7: SerialStatus.revoked(REVOKED_AT, "unspecified"),
    }
    return {serial: known[serial] for serial in serials if serial in known}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    asked.clear()


def cert_id(ca: IssuingCA, serial_number: int, oid: str = ocsp.SHA1_OID) -> CertId:
    facts = read_certificate(ca.certificate_der)
    hashes_of_ca = ocsp.issuer_hashes(oid, facts.subject_der, facts.spki_der)
    return CertId(oid, hashes_of_ca.name_hash, hashes_of_ca.key_hash, serial_number)


async def answered(
    ca: MadeCA, responder: Responder, *ids: CertId, nonce: bytes | None = None
) -> reference.OCSPResponse:
    found = await answer(ocsp.write_request(ids, nonce), responder, statuses, ca.signer, NOW, HOUR)
    return reference.load_der_ocsp_response(found)


@pytest.mark.parametrize("oid", [ocsp.SHA1_OID, ocsp.SHA256_OID])
@pytest.mark.parametrize(
    ("serial_number", "expected"),
    [
        (GOOD, reference.OCSPCertStatus.GOOD),
        (REVOKED, reference.OCSPCertStatus.REVOKED),
        (12345, reference.OCSPCertStatus.UNKNOWN),
        (-5, reference.OCSPCertStatus.UNKNOWN),
    ],
)
async def test_statuses(ca: MadeCA, oid: str, serial_number: int, expected: object) -> None:
    found = await answered(ca, await delegated(ca), cert_id(ca.issuing, serial_number, oid))
    assert found.certificate_status is expected
    assert found.serial_number == serial_number
    assert found.this_update_utc == found.produced_at_utc == NOW.replace(microsecond=0)
    assert found.next_update_utc == NOW.replace(microsecond=0) + HOUR
    if expected is reference.OCSPCertStatus.REVOKED:
        assert found.revocation_time_utc == REVOKED_AT.replace(microsecond=0)
        assert found.revocation_reason is x509.ReasonFlags.key_compromise


async def test_unspecified_reason_is_left_out(ca: MadeCA) -> None:
    found = await answered(ca, await delegated(ca), cert_id(ca.issuing, 7))
    assert found.revocation_reason is None


async def test_delegated_responder_shows_its_certificate(ca: MadeCA) -> None:
    responder = await delegated(ca)
    found = await answered(ca, responder, cert_id(ca.issuing, GOOD))
    (certificate,) = found.certificates
    assert certificate.public_bytes(Encoding.DER) == responder.responder_certificate_der
    certificate.public_key().verify(found.signature, found.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
    assert found.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.ECDSA_P384, KeyAlgorithm.RSA_2048, KeyAlgorithm.ED25519])
async def test_a_ca_answers_for_itself(algorithm: KeyAlgorithm) -> None:
    ca = await make_ca(algorithm)
    found = await answered(ca, own_responder(ca), cert_id(ca.issuing, GOOD))
    assert found.certificates == []
    assert found.certificate_status is reference.OCSPCertStatus.GOOD


async def test_nonce_is_echoed_or_absent(ca: MadeCA) -> None:
    responder = own_responder(ca)
    with_nonce = await answered(ca, responder, cert_id(ca.issuing, GOOD), nonce=b"n" * 32)
    assert with_nonce.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 32
    assert len((await answered(ca, responder, cert_id(ca.issuing, GOOD))).extensions) == 0


async def test_another_issuer_is_unknown_and_never_looked_up(ca: MadeCA) -> None:
    own = cert_id(ca.issuing, GOOD)
    others = [
        cert_id(ca.root, GOOD),
        CertId(own.hash_algorithm_oid, own.issuer_name_hash, b"k" * 20, GOOD),
        CertId(own.hash_algorithm_oid, b"n" * 20, own.issuer_key_hash, GOOD),
        CertId("2.16.840.1.101.3.4.2.2", own.issuer_name_hash, own.issuer_key_hash, GOOD),
        CertId(ocsp.SHA256_OID, own.issuer_name_hash, own.issuer_key_hash, GOOD),
    ]
    for other in others:
        found = await answered(ca, own_responder(ca), other)
        assert found.certificate_status is reference.OCSPCertStatus.UNKNOWN
    assert asked == []


def singles_of(response_der: bytes) -> list[tuple[CertId, int]]:
    body = der.Reader(response_der).enter(der.SEQUENCE)
    body.next(der.ENUMERATED)
    basic = body.enter(0xA0).enter(der.SEQUENCE)
    basic.oid()
    data = der.Reader(basic.octet_string()).enter(der.SEQUENCE).enter(der.SEQUENCE)
    data.next(0xA2)
    data.next(der.GENERALIZED_TIME)
    found = []
    for single in der.Reader(data.next(der.SEQUENCE).content):
        fields = der.Reader(single.content)
        whole = fields.next(der.SEQUENCE).whole
        (echo,) = ocsp.read_request(der.sequence(der.sequence(der.sequence(der.sequence(whole))))).cert_ids
        found.append((echo, next(fields).tag & 0x1F))
    return found


async def test_many_at_once_are_answered_in_order_from_one_look(ca: MadeCA) -> None:
    other = CertId(ocsp.SHA1_OID, b"n" * 20, b"k" * 20, GOOD)
    ids = (
        cert_id(ca.issuing, REVOKED),
        other,
        cert_id(ca.issuing, GOOD, ocsp.SHA256_OID),
        cert_id(ca.issuing, 99),
        cert_id(ca.issuing, GOOD),
    )
    response_der = await answer(ocsp.write_request(ids), own_responder(ca), statuses, ca.signer, NOW, HOUR)
    found = singles_of(response_der)
    assert [status for _, status in found] == [1, 2, 0, 2, 0]
    assert [echo.whole_der for echo, _ in found] == [ocsp.write_cert_id(one) for one in ids]
    assert asked == [[99, GOOD, REVOKED]]


async def test_cert_id_without_null_is_echoed_as_it_came(ca: MadeCA) -> None:
    own = cert_id(ca.issuing, GOOD)
    bare = der.sequence(
        der.sequence(der.oid(ocsp.SHA1_OID)),
        der.octet_string(own.issuer_name_hash),
        der.octet_string(own.issuer_key_hash),
        der.integer(GOOD),
    )
    request_der = der.sequence(der.sequence(der.sequence(der.sequence(bare))))
    ((echo, status),) = singles_of(await answer(request_der, own_responder(ca), statuses, ca.signer, NOW, HOUR))
    assert (echo.whole_der, status) == (bare, 0)


@lru_cache(maxsize=1)
def kept() -> dict[str, MadeCA]:
    return {}


@given(noise=st.binary(max_size=100))
async def test_noise_is_answered_malformed_request(noise: bytes) -> None:
    made = kept().setdefault("ca", kept().get("ca") or await make_ca())
    found = reference.load_der_ocsp_response(await answer(noise, own_responder(made), statuses, made.signer, NOW, HOUR))
    assert found.response_status is reference.OCSPResponseStatus.MALFORMED_REQUEST


async def test_answers_end_with_the_responder(ca: MadeCA) -> None:
    responder = await delegated(ca, timedelta(minutes=30))
    found = await answered(ca, responder, cert_id(ca.issuing, GOOD))
    assert found.next_update_utc == NOW.replace(microsecond=0) + timedelta(minutes=30)
    with pytest.raises(TrustError, match="ended"):
        await answer(ocsp.write_request((cert_id(ca.issuing, GOOD),)), responder, statuses, ca.signer, NOW + HOUR, HOUR)


async def test_signature_of_another_key_never_leaves(ca: MadeCA) -> None:
    responder = await delegated(ca)
    wrong = Responder(ca.issuing, responder.responder_certificate_der, "k-int", KeyAlgorithm.ECDSA_P256)
    with pytest.raises(TrustError, match="verify"):
        await answered(ca, wrong, cert_id(ca.issuing, GOOD))
