"""DER writers against an independent reader (cryptography's and OpenSSL's), and the strict reader against everything."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import Malformed
from certctl.pki import der
from certctl.pki.algorithms import SignatureAlgorithm
from certctl.pki.der import Reader

MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - bounds of a strategy, naive by its contract


@given(st.integers(-(1 << 200), 1 << 200))
def test_integer_is_what_cryptography_writes(value: int) -> None:
    whole = der.integer(value)
    assert Reader(whole).integer() == value
    if -(1 << 63) <= value < 1 << 63:
        assert whole == asn1.encode_der(value)


@pytest.mark.parametrize(
    ("value", "content"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "0080"),
        (255, "00ff"),
        (256, "0100"),
        (-1, "ff"),
        (-128, "80"),
        (-129, "ff7f"),
        (0xFF << 64, "00ff0000000000000000"),
    ],
)
def test_integer_known_answers(value: int, content: str) -> None:
    assert der.integer(value).hex() == f"02{len(content) // 2:02x}{content}"


@pytest.mark.parametrize("content", ["", "0000", "007f", "ffff", "ff80"])
def test_integers_that_are_not_minimal_are_refused(content: str) -> None:
    with pytest.raises(Malformed):
        Reader(der.element(der.INTEGER, bytes.fromhex(content))).integer()


@pytest.mark.parametrize("dotted", ["1.2.840.113549.1.1.11", "2.5.29.15", "0.0", "1.39.0", "2.999.3", "2.5.4.3"])
def test_oid_is_what_cryptography_writes(dotted: str) -> None:
    whole = der.oid(dotted)
    assert whole == asn1.encode_der(x509.ObjectIdentifier(dotted))
    assert Reader(whole).oid() == dotted


@given(st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 1 << 70), max_size=8))
def test_oid_round_trip(first: int, second: int, rest: list[int]) -> None:
    dotted = ".".join(map(str, (first, second, *rest)))
    assert Reader(der.oid(dotted)).oid() == dotted


@pytest.mark.parametrize("text", ["", "1", "3.1", "1.40", "1.02", "1.-2", "1..2", "1.2a", "1.\u0662", "1." + "9" * 600])
def test_what_is_no_oid_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        der.oid(text)


@pytest.mark.parametrize("content", ["", "80", "2a80", "2a8001", "ff", "2a" + "01" * 200])
def test_oids_badly_encoded_are_refused(content: str) -> None:
    with pytest.raises(Malformed):
        Reader(der.element(der.OID, bytes.fromhex(content))).oid()


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 65535, 65536, 1 << 20])
def test_lengths(length: int) -> None:
    content = bytes(length)
    whole = der.octet_string(content)
    assert Reader(whole).octet_string() == content
    assert whole == asn1.encode_der(content)


@pytest.mark.parametrize(
    ("whole", "why"),
    [
        ("0480", "indefinite"),
        ("04ff", "indefinite"),
        ("04810100", "not minimal"),
        ("0482000400000000", "not minimal"),
        ("0402ff", "beyond"),
        ("0484ffffffff00", "beyond"),
        ("0482ff", "cut short"),
        ("04", "length is due"),
        ("1f2101ff", "tag numbers"),
    ],
)
def test_what_is_not_der_is_refused(whole: str, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        next(Reader(bytes.fromhex(whole)))


def test_sequence_set_and_tags_nest() -> None:
    whole = der.sequence(
        der.boolean(True),
        der.boolean(False),
        der.null(),
        der.enumerated(5),
        der.explicit(0, der.integer(7)),
        der.implicit(2, b"abc"),
        der.implicit(3, der.integer(1), constructed=True),
        der.bit_string(b"\xa0"),
        der.set_of(der.integer(300), der.integer(2)),
    )
    reader = Reader(whole)
    inner = reader.enter(der.SEQUENCE)
    reader.end()
    assert (inner.boolean(), inner.boolean()) == (True, False)
    assert inner.next(der.NULL).content == b""
    assert inner.integer(der.ENUMERATED) == 5
    assert inner.enter_optional(0xA1) is None
    assert inner.enter(0xA0).integer() == 7
    assert inner.optional(0x82).content == b"abc"
    assert inner.next(0xA3).whole == b"\xa3\x03\x02\x01\x01"
    assert inner.bit_string() == b"\xa0"
    assert [Reader(e.whole).integer() for e in Reader(inner.next(der.SET).content)] == [2, 300]
    assert inner.peek() is None
    inner.end()
    with pytest.raises(Malformed, match="ends where"):
        inner.integer()


def test_reader_says_what_is_wrong() -> None:
    with pytest.raises(Malformed, match="0x02 stands where 0x30"):
        Reader(der.integer(1)).enter(der.SEQUENCE)
    with pytest.raises(Malformed, match="goes on"):
        Reader(der.integer(1)).end()
    with pytest.raises(Malformed):
        Reader(b"\x01\x01\x01").boolean()
    with pytest.raises(Malformed):
        Reader(der.bit_string(b"\x80", 7)).bit_string()


def test_depth_is_limited() -> None:
    whole = b""
    for _ in range(100):
        whole = der.sequence(whole)
    reader = Reader(whole)
    with pytest.raises(Malformed, match="deeper"):
        for _ in range(100):
            reader = reader.enter(der.SEQUENCE)


@pytest.mark.parametrize(("content", "unused"), [(b"\x01", 1), (b"", 3), (b"\x00", 8), (b"\x00", -1)])
def test_bit_string_with_bits_where_none_may_be_is_refused(content: bytes, unused: int) -> None:
    with pytest.raises(Malformed):
        der.bit_string(content, unused)


@pytest.mark.parametrize("number", [-1, 31, 200])
def test_context_tags_are_one_octet(number: int) -> None:
    with pytest.raises(Malformed):
        der.explicit(number, b"")


@given(MOMENTS)
def test_generalized_time_is_what_cryptography_writes(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    assert der.generalized_time(moment) == asn1.encode_der(asn1.GeneralizedTime(moment))
    assert der.time(moment)[0] == (der.UTC_TIME if 1950 <= moment.year <= 2049 else der.GENERALIZED_TIME)


@given(st.datetimes(datetime(1950, 1, 2), datetime(2049, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001 - bounds of a strategy, naive by its contract
def test_utc_time_is_what_cryptography_writes(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    assert der.utc_time(moment) == asn1.encode_der(asn1.UTCTime(moment))


def test_times_known_answers() -> None:
    moment = datetime(2049, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert der.time(moment) == b"\x17\x0d491231235959Z"
    assert der.time(moment + timedelta(seconds=1)) == b"\x18\x0f20500101000000Z"
    assert der.time(datetime(1949, 12, 31, tzinfo=UTC)) == b"\x18\x0f19491231000000Z"
    away = datetime(2026, 1, 1, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    assert der.time(away) == b"\x17\x0d251231230000Z"
    assert der.generalized_time(datetime(7, 1, 1, tzinfo=UTC)) == b"\x18\x0f00070101000000Z"
    with pytest.raises(Malformed):
        der.time(datetime(2026, 1, 1))  # noqa: DTZ001 - what is to be refused
    with pytest.raises(Malformed):
        der.utc_time(datetime(2050, 1, 1, tzinfo=UTC))


def test_extension_leaves_out_the_default() -> None:
    assert der.extension("2.5.29.19", b"\x30\x00").hex() == "30090603551d130402" + "3000"
    assert der.extension("2.5.29.19", b"\x30\x00", critical=True).hex() == "300c0603551d130101ff04023000"


@pytest.mark.parametrize(
    ("algorithm", "whole"),
    [
        (SignatureAlgorithm.ECDSA_SHA256, "300a06082a8648ce3d040302"),
        (SignatureAlgorithm.ECDSA_SHA384, "300a06082a8648ce3d040303"),
        (SignatureAlgorithm.RSA_SHA256, "300d06092a864886f70d01010b0500"),
        (SignatureAlgorithm.ED25519, "300506032b6570"),
    ],
)
def test_algorithm_identifiers(algorithm: SignatureAlgorithm, whole: str) -> None:
    assert der.algorithm_identifier(algorithm).hex() == whole
    assert (
        der.assemble_certificate(b"\x30\x00", algorithm, b"\x01").hex()
        == f"30{len(whole) // 2 + 6:02x}3000{whole}03020001"
    )


def walk(whole: bytes, depth: int = 0) -> int:
    """Visit everything that reads as DER, as deep as it goes."""
    count = 0
    for found in Reader(whole, depth):
        count += 1
        assert found.whole.endswith(found.content)
        if found.tag & 0x20:
            count += walk(found.content, depth + 1)
    return count


@given(st.binary(max_size=300))
def test_reader_raises_nothing_but_malformed_on_noise(noise: bytes) -> None:
    for read in (walk, lambda b: Reader(b).integer(), lambda b: Reader(b).oid(), lambda b: Reader(b).boolean()):
        with contextlib.suppress(Malformed):
            read(noise)


SAMPLE = der.sequence(
    der.sequence(der.integer(5), der.oid("1.2.3"), der.set_of(der.null(), der.octet_string(bytes(200)))),
    der.explicit(3, der.sequence(der.boolean(True))),
)


@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255), st.integers(0, 3))
def test_reader_raises_nothing_but_malformed_on_mutations(at: int, octet: int, cut: int) -> None:
    mutated = SAMPLE[:at] + bytes((octet,)) + SAMPLE[at + cut :]
    with contextlib.suppress(Malformed):
        walk(mutated)


def test_walk_sees_all_of_the_sample() -> None:
    assert walk(SAMPLE) == 10


@given(
    st.recursive(
        st.binary(max_size=20).map(der.octet_string),
        lambda inner: st.lists(inner, max_size=4).map(lambda p: der.sequence(*p)),
        max_leaves=12,
    )
)
def test_nested_round_trip(whole: bytes) -> None:
    def rewrite(data: bytes) -> bytes:
        return b"".join(
            der.sequence(rewrite(e.content)) if e.tag == der.SEQUENCE else der.octet_string(e.content)
            for e in Reader(data)
        )

    assert rewrite(whole) == whole
