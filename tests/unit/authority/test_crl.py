"""CRLs as an independent reader (cryptography) sees them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certctl.authority.crl import RevokedEntry, make_crl, reason_code
from certctl.core.errors import Malformed, TrustError
from certctl.pki import der
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.der import Reader
from made_ca import MadeCA, make_ca

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NEXT = NOW + timedelta(days=1)


@pytest.fixture
async def ca() -> MadeCA:
    return await make_ca()


async def made(ca: MadeCA, *entries: RevokedEntry, number: int = 1) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(await make_crl(ca.issuing, entries, number, NOW, NEXT, ca.signer))


@pytest.mark.parametrize(
    "algorithm", [KeyAlgorithm.ECDSA_P256, KeyAlgorithm.ECDSA_P384, KeyAlgorithm.RSA_2048, KeyAlgorithm.ED25519]
)
async def test_says_who_and_when(algorithm: KeyAlgorithm) -> None:
    ca = await make_ca(algorithm)
    crl = await made(ca, RevokedEntry(5, NOW), number=(1 << 159) - 1)
    issuer = x509.load_der_x509_certificate(ca.issuing.certificate_der)
    assert crl.is_signature_valid(issuer.public_key())
    assert crl.issuer == issuer.subject
    assert (crl.last_update_utc, crl.next_update_utc) == (NOW, NEXT)
    numbers = crl.extensions.get_extension_for_class(x509.CRLNumber)
    assert numbers.value.crl_number == (1 << 159) - 1
    assert not numbers.critical
    identifier = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert identifier == issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert len(crl.extensions) == 2


async def test_empty_list_has_no_entries_field(ca: MadeCA) -> None:
    crl = await made(ca)
    assert len(crl) == 0
    assert crl.get_revoked_certificate_by_serial_number(1) is None
    fields = [found.tag for found in Reader(Reader(crl.tbs_certlist_bytes).next(der.SEQUENCE).content)]
    # RFC 5280 5.1: version, signature, issuer, two times, extensions; no revokedCertificates.
    assert fields == [der.INTEGER, der.SEQUENCE, der.SEQUENCE, der.UTC_TIME, der.UTC_TIME, 0xA0]


async def test_reasons(ca: MadeCA) -> None:
    reasons = [
        "unspecified",
        "keyCompromise",
        "caCompromise",
        "cACompromise",
        "affiliationChanged",
        "superseded",
        "cessationOfOperation",
        "certificateHold",
        "privilegeWithdrawn",
    ]
    crl = await made(ca, *(RevokedEntry(serial, NOW, reason) for serial, reason in enumerate(reasons, 1)))
    found = []
    for serial in range(1, len(reasons) + 1):
        entry = crl.get_revoked_certificate_by_serial_number(serial)
        found.append(
            entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value if len(entry.extensions) else ""
        )
    assert found == ["", "keyCompromise", "cACompromise", "cACompromise", *reasons[4:]]


@pytest.mark.parametrize("reason", ["removeFromCRL", "because", "7"])
async def test_other_reasons_are_refused(ca: MadeCA, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        await made(ca, RevokedEntry(1, NOW, reason))


def test_reason_codes_are_those_of_the_rfc() -> None:
    flags = {flag.value: flag for flag in x509.ReasonFlags}
    assert flags["keyCompromise"] is x509.ReasonFlags.key_compromise
    assert [reason_code(r) for r in ("unspecified", "", "keyCompromise", "aACompromise")] == [None, None, 1, 10]


async def test_sorted_and_each_serial_once(ca: MadeCA) -> None:
    early, late = NOW - timedelta(days=3), NOW - timedelta(days=1)
    crl = await made(
        ca,
        RevokedEntry(9, late, "keyCompromise"),
        RevokedEntry(300, NOW),
        RevokedEntry(9, early, "superseded"),
        RevokedEntry(2, NOW),
        RevokedEntry(9, late - timedelta(hours=1), "unspecified"),
    )
    assert [entry.serial_number for entry in crl] == [2, 9, 300]
    entry = crl.get_revoked_certificate_by_serial_number(9)
    assert entry.revocation_date_utc == early
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(serials=st.sets(st.integers(1, (1 << 160) - 1), max_size=40))
async def test_every_serial_is_there(ca: MadeCA, serials: set[int]) -> None:
    crl = await made(ca, *(RevokedEntry(serial, NOW) for serial in serials))
    assert [entry.serial_number for entry in crl] == sorted(serials)


async def test_dates_after_2049_and_fractions(ca: MadeCA) -> None:
    far = datetime(2050, 6, 1, 1, 2, 3, 999_999, tzinfo=UTC)
    crl = await made(ca, RevokedEntry(1, far))
    assert crl.get_revoked_certificate_by_serial_number(1).revocation_date_utc == far.replace(microsecond=0)


async def test_impossible_times_and_numbers_are_refused(ca: MadeCA) -> None:
    with pytest.raises(Malformed, match="next update"):
        await make_crl(ca.issuing, [], 1, NOW, NOW, ca.signer)
    for number in (-1, 1 << 159):
        with pytest.raises(Malformed, match="number"):
            await make_crl(ca.issuing, [], number, NOW, NEXT, ca.signer)


async def test_signature_of_another_key_never_leaves(ca: MadeCA) -> None:
    class Other:
        async def sign(self, key_ref, algorithm, tbs) -> bytes:
            return await ca.signer.sign("k-root", algorithm, tbs)

        async def public_key(self, key_ref) -> bytes:
            return await ca.signer.public_key(key_ref)

    with pytest.raises(TrustError):
        await make_crl(ca.issuing, [RevokedEntry(1, NOW)], 1, NOW, NEXT, Other())
