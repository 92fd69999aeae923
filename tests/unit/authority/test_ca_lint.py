"""Every rule for intermediates catches the certificate it is for; leaves keep the constraints of every CA above."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from certctl.authority import ca_lint
from certctl.authority.ca_lint import CA_RULES, lint_ca
from certctl.authority.hierarchy import CaSubject, CaTemplate, draft_intermediate, make_root, sign_intermediate
from certctl.authority.lint import RULES
from certctl.authority.sign import LeafTemplate, draft_leaf
from certctl.authority.signer import IssuingCA, SealedKey
from certctl.authority.tbs import certificate_of, make_twin
from certctl.core.errors import Misconfigured, TrustError
from certctl.core.names import parse_names
from certctl.pki.algorithms import SIGNATURE_OF, KeyAlgorithm
from certctl.pki.constraints import is_narrower
from certctl.pki.keys import generate_private_key, load_public_key, spki_der
from made_ca import ADDRESSES, NOW, MadeCA

LIFE = timedelta(days=365)


def dns(*names: str) -> tuple[x509.GeneralName, ...]:
    return tuple(x509.DNSName(name) for name in names)


async def root(algorithm: KeyAlgorithm = KeyAlgorithm.ECDSA_P256) -> tuple[MadeCA, IssuingCA]:
    made = MadeCA()
    key = await made.key(algorithm, "k-root")
    der = await make_root("Test Root", key, made.signer, NOW, timedelta(days=3650))
    return made, IssuingCA("ca-root", der, (), "k-root", algorithm)


async def below(made: MadeCA, parent: IssuingCA, name: str, **template: object) -> tuple[IssuingCA, SealedKey]:
    key = await made.key(KeyAlgorithm.ECDSA_P256, f"k-{name}")
    wanted = CaTemplate(subject=CaSubject(common_name=name), validity=LIFE, **template)
    draft = draft_intermediate(wanted, key, parent, ADDRESSES, NOW)
    der = await sign_intermediate(draft.tbs_der, key.spki_der, parent, made.signer)
    above = (
        ()
        if not parent.chain_der and parent.ca_certificate_id == "ca-root"
        else (parent.certificate_der, *parent.chain_der)
    )
    return IssuingCA(f"ca-{name}", der, above, key.key_ref, key.algorithm), key


def leaf(ca: IssuingCA, name: str) -> None:
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    names = parse_names([name])
    draft_leaf(ca, LeafTemplate("", names, spki_der(key), timedelta(days=1), ("serverAuth",), False, NOW), ADDRESSES)


async def test_a_leaf_keeps_the_constraints_of_every_ca_above() -> None:
    made, top = await root()
    corp, _ = await below(
        made, top, "Corp", path_length=1, permitted=dns("corp.example"), excluded=dns("x.corp.example")
    )
    web, _ = await below(made, corp, "Web")
    leaf(web, "a.corp.example")
    for outside in ("a.example", "a.x.corp.example"):
        with pytest.raises(TrustError, match="name_is_outside_the_cas_constraints"):
            leaf(web, outside)
    assert "name_is_outside_the_cas_constraints" in {rule.__name__ for rule in RULES}


async def test_an_intermediate_may_no_more_than_what_stands_above() -> None:
    made, top = await root()
    corp, _ = await below(
        made, top, "Corp", path_length=1, permitted=(*dns("corp.example"), x509.IPAddress(ip_network("10.0.0.0/8")))
    )
    await below(made, corp, "narrower", permitted=(*dns("web.corp.example"), x509.IPAddress(ip_network("10.1.0.0/16"))))
    for wider in (dns("example"), dns("corp.example", "other.example"), (x509.IPAddress(ip_network("10.0.0.0/7")),)):
        with pytest.raises(TrustError, match="constraints_are_wider_than_the_parents"):
            await below(made, corp, "wider", permitted=wider)
    with pytest.raises(Misconfigured, match="path length"):
        await below(made, corp, "longer", path_length=1)


@pytest.mark.parametrize(
    ("parent", "child", "fits"),
    [
        (KeyAlgorithm.ECDSA_P384, KeyAlgorithm.ECDSA_P256, True),
        (KeyAlgorithm.ECDSA_P256, KeyAlgorithm.RSA_2048, False),
        (KeyAlgorithm.ECDSA_P256, KeyAlgorithm.RSA_3072, True),
        (KeyAlgorithm.RSA_2048, KeyAlgorithm.RSA_2048, True),
        (KeyAlgorithm.ED25519, KeyAlgorithm.ECDSA_P256, True),
    ],
)
async def test_no_key_is_weaker_than_its_parents(parent: KeyAlgorithm, child: KeyAlgorithm, fits: bool) -> None:
    made, top = await root(parent)
    key = await made.key(child, "k-child")
    template = CaTemplate(subject=CaSubject(common_name="Child"), validity=LIFE)
    if fits:
        assert draft_intermediate(template, key, top, ADDRESSES, NOW).tbs_der
        return
    with pytest.raises(TrustError, match="key_is_weaker_than_the_parents"):
        draft_intermediate(template, key, top, ADDRESSES, NOW)


async def spoiled(rule: str) -> tuple[x509.Certificate, IssuingCA, bytes]:
    """The twin of an intermediate with one thing wrong."""
    made, top = await root()
    key = await made.key(KeyAlgorithm.ECDSA_P256, "k-child")
    parent, public = certificate_of(top), load_public_key(key.spki_der)
    draft = draft_intermediate(CaTemplate(subject=CaSubject(common_name="C"), validity=LIFE), key, top, ADDRESSES, NOW)
    good = make_twin(draft.tbs_der, SIGNATURE_OF[KeyAlgorithm.ECDSA_P256])
    builder = (
        x509.CertificateBuilder()
        .serial_number(good.serial_number)
        .issuer_name(parent.subject)
        .subject_name(good.subject)
        .public_key(public)
        .not_valid_before(good.not_valid_before_utc)
        .not_valid_after(good.not_valid_after_utc)
    )
    for extension in good.extensions:
        value: x509.ExtensionType = extension.value
        critical = extension.critical
        if rule == "ca_is_no_ca" and isinstance(value, x509.BasicConstraints):
            value = x509.BasicConstraints(ca=False, path_length=None)
        if rule == "path_is_longer_than_the_parents" and isinstance(value, x509.BasicConstraints):
            value = x509.BasicConstraints(ca=True, path_length=None)
        if rule == "key_identifiers_are_wrong" and isinstance(value, x509.SubjectKeyIdentifier):
            value = x509.SubjectKeyIdentifier(b"x" * 20)
        builder = builder.add_extension(value, critical)
    if rule == "ca_extension_is_unknown":
        builder = builder.add_extension(x509.OCSPNoCheck(), critical=False)
    if rule == "constraints_are_wider_than_the_parents":
        builder = builder.add_extension(x509.NameConstraints(list(dns("a.example")), None), critical=False)
    tbs = builder.sign(generate_private_key(KeyAlgorithm.ECDSA_P256), hashes.SHA256()).tbs_certificate_bytes
    return make_twin(tbs, SIGNATURE_OF[KeyAlgorithm.ECDSA_P256]), top, key.spki_der


@pytest.mark.parametrize(
    "rule",
    [
        "ca_is_no_ca",
        "path_is_longer_than_the_parents",
        "key_identifiers_are_wrong",
        "ca_extension_is_unknown",
        "constraints_are_wider_than_the_parents",
    ],
)
async def test_the_rule_catches_its_certificate(rule: str) -> None:
    twin, top, spki = await spoiled("")
    lint_ca(twin, top, spki)
    twin, top, spki = await spoiled(rule)
    with pytest.raises(TrustError, match=rf"\b{rule}\b"):
        lint_ca(twin, top, spki)


async def test_another_key_than_the_stored_one_is_refused() -> None:
    twin, top, _ = await spoiled("")
    with pytest.raises(TrustError, match="key_is_not_the_approved"):
        lint_ca(twin, top, spki_der(generate_private_key(KeyAlgorithm.ECDSA_P256)))


def test_every_rule_of_cas_is_asked() -> None:
    defined = {
        name
        for name, value in vars(ca_lint).items()
        if getattr(value, "__annotations__", {}).get("case") and value.__module__ == ca_lint.__name__
    }
    assert defined <= {rule.__name__ for rule in CA_RULES}
    assert len(defined) == 5


@pytest.mark.parametrize(
    ("base", "above", "expected"),
    [
        (x509.DNSName("a.example.com"), x509.DNSName("example.com"), True),
        (x509.DNSName("example.com"), x509.DNSName("a.example.com"), False),
        (x509.DNSName("badexample.com"), x509.DNSName("example.com"), False),
        (x509.IPAddress(ip_network("10.1.0.0/16")), x509.IPAddress(ip_network("10.0.0.0/8")), True),
        (x509.IPAddress(ip_network("0.0.0.0/0")), x509.IPAddress(ip_network("10.0.0.0/8")), False),
        (x509.IPAddress(ip_network("2001:db8::/32")), x509.IPAddress(ip_network("::/0")), True),
        (x509.IPAddress(ip_network("10.0.0.0/8")), x509.IPAddress(ip_network("::/0")), False),
        (x509.RFC822Name("a@example.com"), x509.RFC822Name("example.com"), True),
        (x509.RFC822Name("example.com"), x509.RFC822Name("a@example.com"), False),
        (x509.RFC822Name("sub.example.com"), x509.RFC822Name("example.com"), False),
        (x509.DNSName("example.com"), x509.RFC822Name("example.com"), False),
    ],
)
def test_narrower(base: x509.GeneralName, above: x509.GeneralName, expected: bool) -> None:
    assert is_narrower(base, above) is expected
