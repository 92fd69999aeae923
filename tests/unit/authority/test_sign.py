"""Leaves from draft to signature: what they say, which bytes are signed, and what is refused."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certctl.authority.sign import Draft, LeafTemplate, LintedTbs, approve_tbs, draft_leaf, sign_tbs
from certctl.authority.signer import IssuingCA
from certctl.authority.tbs import new_serial_number
from certctl.core.errors import Malformed, Misconfigured, Rejected, TrustError
from certctl.core.names import Name, NameKind, parse_names
from certctl.pki.algorithms import KeyAlgorithm, SignatureAlgorithm
from certctl.pki.certs import read_certificate
from certctl.pki.chain import verify_chain
from certctl.pki.keys import generate_private_key, spki_der
from certctl.pki.pem import certificate_pem
from made_ca import ADDRESSES, NOW, MadeCA, make_ca

KEY = generate_private_key(KeyAlgorithm.ECDSA_P256)
TEXTS = [
    "shop.example",
    "*.shop.example",
    "münchen.example",
    "10.0.0.1",
    "2001:db8::1",
    "spiffe://x.example/a",
    "a@b.example",
]
TEMPLATE = LeafTemplate(
    common_name="shop.example",
    names=parse_names(TEXTS),
    spki_der=spki_der(KEY),
    validity=timedelta(days=30),
    ekus=("serverAuth", "clientAuth"),
    must_staple=False,
    now=NOW,
)


def changed(**changes: object) -> LeafTemplate:
    return msgspec.structs.replace(TEMPLATE, **changes)


async def issue(made: MadeCA, template: LeafTemplate = TEMPLATE) -> tuple[Draft, bytes]:
    draft = draft_leaf(made.issuing, template, ADDRESSES)
    return draft, await sign_tbs(approve_tbs(draft.tbs_der, made.issuing, template.rules), made.issuing, made.signer)


def openssl_verify(folder: Path, made: MadeCA, leaf_der: bytes) -> str:
    for name, der in {"root": made.root.certificate_der, "int": made.issuing.certificate_der, "leaf": leaf_der}.items():
        (folder / f"{name}.pem").write_text(certificate_pem(der))
    at = str(int((NOW + timedelta(hours=1)).timestamp()))
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-attime",
        at,
        "-CAfile",
        "root.pem",
        "-untrusted",
        "int.pem",
        "leaf.pem",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("ca_algorithm", list(KeyAlgorithm))
async def test_every_algorithm_as_ca_and_leaf_passes_openssl(ca_algorithm: KeyAlgorithm, tmp_path: Path) -> None:
    made = await make_ca(ca_algorithm)
    leaf_algorithms = list(KeyAlgorithm) if ca_algorithm is KeyAlgorithm.ECDSA_P256 else [ca_algorithm]
    for leaf_algorithm in leaf_algorithms:
        template = changed(spki_der=spki_der(generate_private_key(leaf_algorithm)), must_staple=True)
        _, leaf_der = await issue(made, template)
        assert openssl_verify(tmp_path, made, leaf_der) == "leaf.pem: OK\n"
        verify_chain(leaf_der, (made.issuing.certificate_der,), made.root.certificate_der, NOW)
        usage = x509.load_der_x509_certificate(leaf_der).extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.key_encipherment is leaf_algorithm.startswith("RSA")


async def test_openssl_refuses_a_leaf_of_another_ca(tmp_path: Path) -> None:
    made, other = await make_ca(), await make_ca()
    _, leaf_der = await issue(made)
    assert "OK" not in openssl_verify(tmp_path, other, leaf_der)


async def test_the_leaf_says_what_was_approved_and_nothing_else() -> None:
    made = await make_ca()
    draft, leaf_der = await issue(made)
    facts, issuer = read_certificate(leaf_der), read_certificate(made.issuing.certificate_der)
    assert facts.names == TEMPLATE.names and facts.other_names == ()
    assert (facts.common_name, facts.subject) == ("shop.example", "CN=shop.example")
    assert facts.serial_number == draft.serial_number
    assert facts.issuer_der == issuer.subject_der
    assert facts.authority_key_identifier == issuer.subject_key_identifier
    assert facts.not_before == NOW.replace(microsecond=0) - timedelta(minutes=5)
    assert facts.not_after == NOW.replace(microsecond=0) + timedelta(days=30)
    assert (facts.not_before, facts.not_after) == (draft.not_before, draft.not_after)
    assert not facts.is_ca and not facts.must_staple
    assert facts.ocsp_urls == ("http://pki.example:8080/.well-known/pki/ocsp/ca-int",)
    assert facts.ca_issuer_urls == ("http://pki.example:8080/.well-known/pki/certs/ca-int",)
    assert facts.crl_urls == ("http://pki.example:8080/.well-known/pki/crl/ca-int",)


@pytest.mark.parametrize("algorithm", [a for a in KeyAlgorithm if a is not KeyAlgorithm.RSA_4096])
async def test_signing_one_tbs_twice_gives_the_same_bytes_even_in_another_process(algorithm: KeyAlgorithm) -> None:
    made = await make_ca(algorithm)
    draft = draft_leaf(made.issuing, TEMPLATE, ADDRESSES)
    first = await sign_tbs(approve_tbs(draft.tbs_der, made.issuing, TEMPLATE.rules), made.issuing, made.signer)
    again = await sign_tbs(approve_tbs(draft.tbs_der, made.issuing, TEMPLATE.rules), made.issuing, made.new_signer())
    assert first == again
    assert x509.load_der_x509_certificate(first).tbs_certificate_bytes == draft.tbs_der


async def test_a_token_is_used_once_and_only_for_its_ca() -> None:
    made = await make_ca()
    draft = draft_leaf(made.issuing, TEMPLATE, ADDRESSES)
    token = approve_tbs(draft.tbs_der, made.issuing, TEMPLATE.rules)
    await sign_tbs(token, made.issuing, made.signer)
    with pytest.raises(TrustError, match="twice"):
        await sign_tbs(token, made.issuing, made.signer)
    other = approve_tbs(draft.tbs_der, made.issuing, TEMPLATE.rules)
    with pytest.raises(TrustError, match="another"):
        await sign_tbs(other, made.root, made.signer)
    with pytest.raises(TrustError, match="twice"):
        await sign_tbs(other, made.issuing, made.signer)
    with pytest.raises(TypeError):
        LintedTbs(draft.tbs_der, "ca-int", object())


async def test_a_signature_that_does_not_verify_never_leaves() -> None:
    made, other = await make_ca(), await make_ca()
    draft = draft_leaf(made.issuing, TEMPLATE, ADDRESSES)

    class Lying:
        async def sign(self, key_ref: str, algorithm: SignatureAlgorithm, tbs: bytes) -> bytes:
            return await other.signer.sign(key_ref, algorithm, tbs)

        async def public_key(self, key_ref: str) -> bytes:
            return b""

    with pytest.raises(TrustError, match="does not verify"):
        await sign_tbs(approve_tbs(draft.tbs_der, made.issuing, TEMPLATE.rules), made.issuing, Lying())


async def test_short_lives_are_backdated_less_and_never_outlive_the_ca() -> None:
    made = await make_ca()
    short = draft_leaf(made.issuing, changed(validity=timedelta(minutes=10)), ADDRESSES)
    assert NOW - short.not_before <= timedelta(minutes=1, seconds=1)
    assert short.not_after == NOW.replace(microsecond=0) + timedelta(minutes=10)
    ends = read_certificate(made.issuing.certificate_der).not_after
    late = draft_leaf(made.issuing, changed(now=ends - timedelta(days=1)), ADDRESSES)
    assert late.not_after == ends
    with pytest.raises(Misconfigured, match="new CA generation"):
        draft_leaf(made.issuing, changed(now=ends), ADDRESSES)
    with pytest.raises(Misconfigured):
        draft_leaf(made.issuing, changed(now=NOW - timedelta(days=1)), ADDRESSES)
    with pytest.raises(Rejected):
        draft_leaf(made.issuing, changed(validity=timedelta(0)), ADDRESSES)


async def test_a_young_ca_does_not_lend_a_past_it_does_not_have() -> None:
    made = await make_ca()
    born = read_certificate(made.issuing.certificate_der).not_before
    assert draft_leaf(made.issuing, changed(now=born + timedelta(seconds=3)), ADDRESSES).not_before == born


async def test_a_long_common_name_stands_in_the_san_alone(tmp_path: Path) -> None:
    made = await make_ca()
    long = ".".join(["a" * 40, "b" * 40, "example"])
    template = changed(common_name=long, names=parse_names([long]))
    _, leaf_der = await issue(made, template)
    assert read_certificate(leaf_der).subject == ""
    san = x509.load_der_x509_certificate(leaf_der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert san.critical
    assert openssl_verify(tmp_path, made, leaf_der) == "leaf.pem: OK\n"


async def test_a_common_name_is_written_in_the_sans_spelling() -> None:
    made = await make_ca()
    _, leaf_der = await issue(made, changed(common_name="MÜNCHEN.example"))
    assert read_certificate(leaf_der).common_name == "xn--mnchen-3ya.example"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"names": ()}, "at least one name"),
        ({"common_name": "other.example"}, "common_name_is_no_san"),
        ({"ekus": ()}, "at least one name and one ext"),
        ({"ekus": ("OCSPSigning",)}, "ekus_are_not_the_approved"),
        ({"ekus": ("serverAuth", "anyExtendedKeyUsage")}, "ekus_are_not_the_approved"),
        ({"ekus": ("nonsense",)}, "cannot be written"),
        ({"names": (Name(NameKind.DNS, "shop.example"), Name(NameKind.IP, "fe80::1%eth0"))}, "cannot be written"),
        ({"spki_der": b"nonsense"}, "cannot be written"),
    ],
)
async def test_no_intent_is_drafted_that_could_not_be_signed(changes: dict[str, object], rule: str) -> None:
    made = await make_ca()
    with pytest.raises((TrustError, Rejected, Malformed), match=rule):
        draft_leaf(made.issuing, changed(**changes), ADDRESSES)


async def test_the_cas_own_key_gets_no_leaf() -> None:
    made = await make_ca()
    with pytest.raises(TrustError, match="key_is_the_issuers"):
        draft_leaf(made.issuing, changed(spki_der=made.rows["k-int"].spki_der), ADDRESSES)


async def test_addresses_that_are_not_plain_http_are_refused() -> None:
    made = await make_ca()
    for base in ("", "https://pki.example"):
        with pytest.raises(TrustError, match="status_addresses_are_wrong"):
            draft_leaf(made.issuing, TEMPLATE, msgspec.structs.replace(ADDRESSES, base_url=base))


def test_serial_numbers_are_positive_and_fit_twenty_octets() -> None:
    serials = {new_serial_number() for _ in range(2000)}
    assert len(serials) == 2000
    assert all(0 < s < 1 << 159 for s in serials)
    assert max(s.bit_length() for s in serials) == 159


LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True).filter(lambda s: "--" not in s)
DNS = st.builds(lambda a, b: f"{a}.{b}.example", LABEL, LABEL)
NAMES = st.one_of(
    DNS,
    DNS.map(lambda d: f"*.{d}"),
    st.sampled_from(["bücher.example", "пример.example", "例え.example", "straße.example"]),
    st.ip_addresses()
    .filter(lambda a: getattr(a, "scope_id", None) is None and getattr(a, "ipv4_mapped", None) is None)
    .map(str),
    st.builds(lambda d, p: f"spiffe://{d}/{p}", DNS, LABEL),
    st.builds(lambda d, p: f"urn:uuid:{p}-{d}", DNS, LABEL).map(lambda u: f"uri:{u}"),
    st.builds(lambda local, d: f"{local}@{d}", LABEL, DNS),
)
_MADE: list[MadeCA] = []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.lists(NAMES, min_size=1, max_size=8))
async def test_names_of_every_kind_round_trip_through_a_leaf(texts: list[str]) -> None:
    if not _MADE:
        _MADE.append(await make_ca())
    names = parse_names(texts)
    _, leaf_der = await issue(_MADE[0], changed(common_name=names[0].value, names=names))
    facts = read_certificate(leaf_der)
    assert facts.names == names
    assert facts.other_names == ()


@pytest.mark.parametrize("serial_number", [0x00FF << 64 | 1 << 63, (1 << 159) - 1, 1 << 158, 0x80 << 120, 1 << 127])
async def test_serials_at_the_edges_of_der(serial_number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("certctl.authority.sign.new_serial_number", lambda: serial_number)
    made = await make_ca()
    draft, leaf_der = await issue(made)
    assert read_certificate(leaf_der).serial_number == draft.serial_number == serial_number
    assert openssl_verify(tmp_path, made, leaf_der) == "leaf.pem: OK\n"


async def test_the_template_binds_names_key_and_life(monkeypatch: pytest.MonkeyPatch) -> None:
    made: MadeCA = await make_ca()
    ca: IssuingCA = made.issuing
    draft = draft_leaf(ca, TEMPLATE, ADDRESSES)
    for changes, rule in (
        ({"names": TEMPLATE.names[:-1]}, "names_are_not_the_approved"),
        ({"names": TEMPLATE.names[::-1]}, "names_are_not_the_approved"),
        ({"spki_der": spki_der(generate_private_key(KeyAlgorithm.ED25519))}, "key_is_not_the_approved"),
        ({"validity": timedelta(days=29)}, "validity_is_longer_than_approved"),
        ({"must_staple": True}, "must_staple_is_not_as_approved"),
        ({"ekus": ("serverAuth",)}, "ekus_are_not_the_approved"),
    ):
        with pytest.raises(TrustError, match=rule):
            approve_tbs(draft.tbs_der, ca, changed(**changes).rules)
