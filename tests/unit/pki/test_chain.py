"""Paths: built from a pool in any order, verified with each fault named."""

from __future__ import annotations

import ipaddress
import itertools
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certctl.core.errors import TrustError
from certctl.pki.chain import build_chain, verify_chain

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = [x509.DNSName("shop.example"), x509.IPAddress(ipaddress.ip_address("10.1.2.3"))]


class Maker:
    """Makes certificates, right and wrong ones."""

    def __init__(self) -> None:
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}

    def key(self, name: str) -> ec.EllipticCurvePrivateKey:
        return self.keys.setdefault(name, ec.generate_private_key(ec.SECP256R1()))

    def make(
        self,
        subject: str,
        issuer: str,
        *extensions: tuple[x509.ExtensionType, bool],
        signed_by: str = "",
        ca: bool | None = True,
        path_length: int | None = None,
        ends: datetime = NOW + timedelta(days=10),
        digest: hashes.HashAlgorithm | None = None,
    ) -> bytes:
        def name(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        builder = x509.CertificateBuilder(
            name(issuer),
            name(subject),
            self.key(subject).public_key(),
            x509.random_serial_number(),
            NOW - timedelta(days=1),
            ends,
        )
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca, path_length if ca else None), critical=True)
        for value, critical in extensions:
            builder = builder.add_extension(value, critical)
        return builder.sign(self.key(signed_by or issuer), digest or hashes.SHA256()).public_bytes(
            serialization.Encoding.DER
        )


M = Maker()
ROOT = M.make("root", "root")
UPPER = M.make("upper", "root", path_length=1)
LOWER = M.make("lower", "upper", path_length=0)
SAN = (x509.SubjectAlternativeName(NAMES), False)
LEAF = M.make("shop.example", "lower", SAN, ca=False)


def test_chains_are_built_from_any_order_without_the_root() -> None:
    stranger = M.make("stranger", "stranger")
    impostor = M.make("lower", "upper", signed_by="stranger")
    M.make("x", "x")
    for pool in itertools.permutations((ROOT, UPPER, LOWER, stranger, impostor, LEAF)):
        assert build_chain(LEAF, pool)[-1] == UPPER
        assert len(build_chain(LEAF, pool)) == 2
    assert build_chain(LEAF, (LOWER,)) == (LOWER,)
    assert build_chain(LEAF, (UPPER, ROOT)) == ()
    assert build_chain(ROOT, (ROOT,)) == ()


def test_a_cross_signed_issuer_prefers_the_known_root() -> None:
    crossed = M.make("lower", "elsewhere")
    for pool in itertools.permutations((crossed, LOWER, UPPER, ROOT)):
        assert build_chain(LEAF, pool) == (LOWER, UPPER)


def test_a_right_chain_verifies_with_and_without_its_root() -> None:
    verify_chain(LEAF, (LOWER, UPPER), ROOT, NOW)
    verify_chain(LEAF, (LOWER, UPPER, ROOT), ROOT, NOW)


def constrained(*permitted: x509.GeneralName, excluded: tuple[x509.GeneralName, ...] = ()) -> bytes:
    value = x509.NameConstraints(list(permitted) or None, list(excluded) or None)
    return M.make("upper", "root", (value, True), path_length=1)


IPV4 = ipaddress.ip_network
FAULTS: list[tuple[str, bytes, tuple[bytes, ...], bytes, datetime]] = [
    ("expired at", LEAF, (LOWER, UPPER), ROOT, NOW + timedelta(days=11)),
    ("not valid before", LEAF, (LOWER, UPPER), ROOT, NOW - timedelta(days=2)),
    ("names .* as issuer", LEAF, (UPPER,), ROOT, NOW),
    ("names .* as issuer", LEAF, (UPPER, LOWER), ROOT, NOW),
    ("is not signed by", LEAF, (LOWER, UPPER), Maker().make("root", "root"), NOW),
    ("is not signed by", M.make("shop.example", "lower", signed_by="root", ca=False), (LOWER, UPPER), ROOT, NOW),
    ("is no CA", LEAF, (M.make("lower", "upper", ca=False), UPPER), ROOT, NOW),
    ("is no CA", LEAF, (M.make("lower", "upper", ca=None), UPPER), ROOT, NOW),
    ("allows 0 CAs", LEAF, (LOWER, M.make("upper", "root", path_length=0)), ROOT, NOW),
    ("may not sign", LEAF, (LOWER, UPPER), M.make("root", "root", (x509.KeyUsage(True, *[False] * 8), True)), NOW),
    ("unknown critical", LEAF, (LOWER, M.make("upper", "root", (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b""), True))), ROOT, NOW),
    ("another issuer key", M.make("shop.example", "lower", (x509.AuthorityKeyIdentifier(b"x", None, None), False), ca=False),
     (M.make("lower", "upper", (x509.SubjectKeyIdentifier(b"y"), False)), UPPER), ROOT, NOW),
    ("cannot be read", LEAF, (b"nonsense",), ROOT, NOW),
    ("at most 10", LEAF, tuple(M.make(f"c{i}", "root") for i in range(11)), ROOT, NOW),
    ("is not permitted", LEAF, (LOWER, constrained(x509.DNSName("other.example"))), ROOT, NOW),
    ("is not permitted", LEAF, (LOWER, constrained(x509.DNSName("hop.example"))), ROOT, NOW),
    ("is not permitted", LEAF, (LOWER, constrained(x509.IPAddress(IPV4("10.2.0.0/16")))), ROOT, NOW),
    ("is excluded", LEAF, (LOWER, constrained(excluded=(x509.IPAddress(IPV4("10.0.0.0/8")),))), ROOT, NOW),
    ("is excluded", LEAF, (LOWER, constrained(excluded=(x509.DNSName("example"),))), ROOT, NOW),
]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "leaf", "chain", "root", "at"), FAULTS, ids=[f"{i}-{f[0]}" for i, f in enumerate(FAULTS)]
)
def test_each_fault_is_named(message: str, leaf: bytes, chain: tuple[bytes, ...], root: bytes, at: datetime) -> None:
    with pytest.raises(TrustError, match=message):
        verify_chain(leaf, chain, root, at)


@pytest.mark.parametrize(
    "constraints",
    [
        constrained(x509.DNSName("shop.example")),
        constrained(x509.DNSName("example")),
        constrained(x509.IPAddress(IPV4("10.0.0.0/8")), x509.DNSName("shop.example")),
        constrained(x509.RFC822Name("b.example")),
        constrained(excluded=(x509.DNSName("other.example"), x509.RFC822Name("x@shop.example"))),
    ],
    ids=["the name", "a suffix", "beside an address", "of mail alone", "others left out"],
)
def test_names_within_constraints_pass(constraints: bytes) -> None:
    verify_chain(LEAF, (LOWER, constraints), ROOT, NOW)


@pytest.mark.parametrize(
    ("name", "base", "within"),
    [
        (x509.RFC822Name("a@b.example"), x509.RFC822Name("b.example"), True),
        (x509.RFC822Name("a@c.b.example"), x509.RFC822Name("b.example"), False),
        (x509.RFC822Name("a@c.b.example"), x509.RFC822Name(".b.example"), True),
        (x509.RFC822Name("a@b.example"), x509.RFC822Name("a@b.example"), True),
        (x509.RFC822Name("b@b.example"), x509.RFC822Name("a@b.example"), False),
        (x509.UniformResourceIdentifier("spiffe://b.example/x"), x509.UniformResourceIdentifier("b.example"), True),
        (x509.UniformResourceIdentifier("spiffe://a.b.example/x"), x509.UniformResourceIdentifier("b.example"), False),
        (x509.UniformResourceIdentifier("spiffe://a.b.example/x"), x509.UniformResourceIdentifier(".b.example"), True),
        (x509.IPAddress(ipaddress.ip_address("::1")), x509.IPAddress(IPV4("10.0.0.0/8")), False),
        (x509.IPAddress(ipaddress.ip_address("::1")), x509.IPAddress(IPV4("::/64")), True),
    ],
)
def test_constraints_of_each_kind(name: x509.GeneralName, base: x509.GeneralName, within: bool) -> None:
    leaf = M.make("leaf", "lower", (x509.SubjectAlternativeName([name]), False), ca=False)
    chain = (LOWER, constrained(base))
    if within:
        verify_chain(leaf, chain, ROOT, NOW)
    else:
        with pytest.raises(TrustError, match="not permitted"):
            verify_chain(leaf, chain, ROOT, NOW)
