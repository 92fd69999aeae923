"""Every lint rule catches the certificate it is for: a good TBS is rebuilt with one thing wrong."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certctl.authority import lint as lint_module
from certctl.authority.lint import RULES, LintRules
from certctl.authority.sign import LeafTemplate, approve_tbs, draft_leaf
from certctl.authority.tbs import certificate_of
from certctl.core.errors import TrustError
from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.keys import generate_private_key, spki_der, subject_key_identifier
from made_ca import ADDRESSES, NOW, MadeCA, make_ca

KEY = generate_private_key(KeyAlgorithm.ECDSA_P256)
OTHER_KEY = generate_private_key(KeyAlgorithm.ECDSA_P256)
TEMPLATE = LeafTemplate(
    common_name="shop.example",
    names=parse_names(["shop.example", "10.0.0.1"]),
    spki_der=spki_der(KEY),
    validity=timedelta(days=30),
    ekus=("serverAuth",),
    must_staple=False,
    now=NOW,
)
Mutation = Callable[["Parts"], None]


class Parts:
    """The pieces of a good leaf, each open to be spoiled."""

    def __init__(self, good: x509.Certificate, made: MadeCA) -> None:
        self.made = made
        self.serial_number = good.serial_number
        self.subject, self.issuer = good.subject, good.issuer
        self.not_before, self.not_after = good.not_valid_before_utc, good.not_valid_after_utc
        self.key: object = good.public_key()
        self.extensions = [(e.value, e.critical) for e in good.extensions]
        self.hash: hashes.HashAlgorithm = hashes.SHA256()

    def put(self, value: x509.ExtensionType, critical: bool = False) -> None:
        self.drop(type(value))
        self.extensions.append((value, critical))

    def drop(self, kind: type) -> None:
        self.extensions = [(value, critical) for value, critical in self.extensions if type(value) is not kind]

    def tbs(self) -> bytes:
        builder = x509.CertificateBuilder(
            issuer_name=self.issuer,
            subject_name=self.subject,
            public_key=self.key,  # type: ignore[arg-type] - tests put weak keys in
            serial_number=self.serial_number,
            not_valid_before=self.not_before.replace(tzinfo=None),
            not_valid_after=self.not_after.replace(tzinfo=None),
        )
        for value, critical in self.extensions:
            builder = builder.add_extension(value, critical)
        return builder.sign(OTHER_KEY, self.hash).tbs_certificate_bytes


def usage(**flags: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{name: flags.get(name, False) for name in names})


def cn(*values: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value) for value in values])


def sans(*values: x509.GeneralName) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(values)


def set_(**attributes: object) -> Mutation:
    return lambda parts: parts.__dict__.update(attributes)


def use_key(parts: Parts, key: object) -> None:
    parts.key = key
    parts.put(x509.SubjectKeyIdentifier(subject_key_identifier(key)))  # type: ignore[arg-type] - any public key


def points(url: str) -> x509.CRLDistributionPoints:
    return x509.CRLDistributionPoints([x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)])


def weak_rsa() -> rsa.RSAPublicKey:
    return rsa.generate_private_key(65537, 1024).public_key()


IP = x509.IPAddress(__import__("ipaddress").ip_address("10.0.0.1"))
MUTATIONS: list[tuple[str, Mutation]] = [
    ("serial_number_is_out_of_bounds", set_(serial_number=1)),
    ("signature_algorithm_is_not_the_issuers", set_(hash=hashes.SHA384())),
    ("issuer_name_differs", set_(issuer=cn("Test issuing"))),
    ("validity_exceeds_the_issuers", lambda p: set_(not_before=p.not_before - timedelta(days=9))(p)),
    ("validity_exceeds_the_issuers", lambda p: set_(not_after=p.not_after + timedelta(days=3650))(p)),
    ("validity_is_longer_than_approved", lambda p: set_(not_after=p.not_after + timedelta(minutes=10))(p)),
    ("validity_is_out_of_order", lambda p: set_(not_after=p.not_before)(p)),
    ("subject_has_other_attributes", set_(subject=cn("shop.example", "shop.example"))),
    ("subject_has_other_attributes", set_(subject=x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "X")]))),
    ("common_name_is_no_san", set_(subject=cn("Shop.example"))),
    ("san_is_missing", lambda p: p.drop(x509.SubjectAlternativeName)),
    ("san_is_missing", lambda p: p.put(sans(x509.DNSName("shop.example"), IP), critical=True)),
    ("name_is_not_canonical", lambda p: p.put(sans(x509.DNSName("SHOP.example"), IP))),
    ("name_is_not_canonical", lambda p: p.put(sans(x509.DNSName("shop.example."), IP))),
    ("name_is_not_canonical", lambda p: p.put(sans(x509.DNSName("sh op.example"), IP))),
    ("name_is_not_canonical", lambda p: p.put(sans(x509.RegisteredID(NameOID.COMMON_NAME)))),
    ("names_are_not_the_approved", lambda p: p.put(sans(x509.DNSName("shop.example"), IP, x509.DNSName("e.example")))),
    ("names_are_not_the_approved", lambda p: p.put(sans(x509.DNSName("shop.example"), IP, IP))),
    ("key_is_not_the_approved", lambda p: use_key(p, OTHER_KEY.public_key())),
    ("key_is_weak", lambda p: use_key(p, weak_rsa())),
    ("key_is_weak", lambda p: use_key(p, ec.generate_private_key(ec.SECP192R1()).public_key())),
    ("key_is_the_issuers", lambda p: use_key(p, certificate_of(p.made.issuing).public_key())),
    ("leaf_may_be_a_ca", lambda p: p.put(x509.BasicConstraints(ca=True, path_length=None), critical=True)),
    ("leaf_may_be_a_ca", lambda p: p.drop(x509.BasicConstraints)),
    ("key_usage_is_wrong", lambda p: p.put(usage(digital_signature=True, key_cert_sign=True), critical=True)),
    ("key_usage_is_wrong", lambda p: p.put(usage(digital_signature=True, crl_sign=True), critical=True)),
    ("key_usage_is_wrong", lambda p: p.put(usage(key_encipherment=True), critical=True)),
    ("key_usage_is_wrong", lambda p: p.drop(x509.KeyUsage)),
    ("ekus_are_not_the_approved", lambda p: p.put(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]))),
    ("ekus_are_not_the_approved", lambda p: p.drop(x509.ExtendedKeyUsage)),
    ("must_staple_is_not_as_approved", lambda p: p.put(x509.TLSFeature([x509.TLSFeatureType.status_request]))),
    ("key_identifiers_are_wrong", lambda p: p.put(x509.AuthorityKeyIdentifier(b"x" * 20, None, None))),
    ("key_identifiers_are_wrong", lambda p: p.drop(x509.AuthorityKeyIdentifier)),
    ("key_identifiers_are_wrong", lambda p: p.drop(x509.SubjectKeyIdentifier)),
    ("key_identifiers_are_wrong", lambda p: p.put(x509.SubjectKeyIdentifier(b"x" * 20))),
    ("extension_is_unknown", lambda p: p.put(x509.OCSPNoCheck())),
    ("extension_is_unknown", lambda p: p.put(x509.InhibitAnyPolicy(0), critical=True)),
    ("extension_is_unknown", lambda p: p.put(x509.BasicConstraints(ca=False, path_length=None), critical=False)),
    ("status_addresses_are_wrong", lambda p: p.drop(x509.CRLDistributionPoints)),
    ("status_addresses_are_wrong", lambda p: p.drop(x509.AuthorityInformationAccess)),
    ("status_addresses_are_wrong", lambda p: p.put(points("https://pki.example/crl"))),
]


@pytest.mark.parametrize(("rule", "mutate"), MUTATIONS, ids=[f"{i}-{m[0]}" for i, m in enumerate(MUTATIONS)])
async def test_the_rule_catches_its_certificate(rule: str, mutate: Mutation) -> None:
    made = await make_ca()
    draft = draft_leaf(made.issuing, TEMPLATE, ADDRESSES)
    parts = Parts(lint_module_twin(draft.tbs_der), made)
    approve_tbs(parts.tbs(), made.issuing, TEMPLATE.rules)  # unspoiled, the rebuilt leaf passes
    try:
        mutate(parts)
        tbs_der = parts.tbs()
    except ValueError as error:  # the builder itself refuses some; then the bytes are spoiled by hand below
        tbs_der = spoil_by_hand(rule, draft.tbs_der, error)
    with pytest.raises(TrustError, match=rf"^lint refused to sign: .*\b{rule}\b") as caught:
        approve_tbs(tbs_der, made.issuing, TEMPLATE.rules)
    assert caught.value.detail


def lint_module_twin(tbs_der: bytes) -> x509.Certificate:
    from certctl.authority.tbs import make_twin
    from certctl.pki.algorithms import SignatureAlgorithm

    return make_twin(tbs_der, SignatureAlgorithm.ECDSA_SHA256)


def spoil_by_hand(rule: str, tbs_der: bytes, error: Exception) -> bytes:
    # notAfter before notBefore: swap the two UTCTime values.
    assert rule == "validity_is_out_of_order", error
    at = tbs_der.index(b"\x17\x0d")
    first, second = tbs_der[at : at + 15], tbs_der[at + 15 : at + 30]
    return tbs_der[:at] + second + first + tbs_der[at + 30 :]


def test_every_rule_has_a_certificate_that_breaks_it() -> None:
    elsewhere = {"issuer_is_no_ca", "version_is_not_3", "name_is_outside_the_cas_constraints"}
    assert {rule.__name__ for rule in RULES} == {name for name, _ in MUTATIONS} | elsewhere
    defined = {name for name, value in vars(lint_module).items() if getattr(value, "__annotations__", {}).get("case")}
    assert {name for name in defined if not name.startswith("_")} == {rule.__name__ for rule in RULES}


async def test_all_violations_are_told_at_once() -> None:
    made = await make_ca()
    draft = draft_leaf(made.issuing, TEMPLATE, ADDRESSES)
    parts = Parts(lint_module_twin(draft.tbs_der), made)
    parts.drop(x509.KeyUsage)
    parts.serial_number = 7
    with pytest.raises(TrustError, match="serial_number_is_out_of_bounds, key_usage_is_wrong"):
        approve_tbs(parts.tbs(), made.issuing, TEMPLATE.rules)


async def test_an_issuer_that_is_no_ca_signs_nothing() -> None:
    made = await make_ca()
    draft = draft_leaf(made.issuing, TEMPLATE, ADDRESSES)
    from certctl.authority.sign import sign_tbs

    leaf_der = await sign_tbs(approve_tbs(draft.tbs_der, made.issuing, TEMPLATE.rules), made.issuing, made.signer)
    leaf_ca = msgspec.structs.replace(made.issuing, certificate_der=leaf_der)
    with pytest.raises(TrustError, match="issuer_is_no_ca"):
        approve_tbs(draft.tbs_der, leaf_ca, TEMPLATE.rules)


@pytest.mark.parametrize("cut", [0, 1, 4, 40, -1])
async def test_bytes_that_are_no_tbs_are_refused(cut: int) -> None:
    made = await make_ca()
    draft = draft_leaf(made.issuing, TEMPLATE, ADDRESSES)
    with pytest.raises(TrustError, match="lint refused"):
        approve_tbs(draft.tbs_der[:cut], made.issuing, TEMPLATE.rules)


async def test_version_1_is_refused() -> None:
    made = await make_ca()
    draft = draft_leaf(made.issuing, TEMPLATE, ADDRESSES)
    spoiled = draft.tbs_der.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020101"), 1)
    with pytest.raises(TrustError, match="lint refused"):
        approve_tbs(spoiled, made.issuing, TEMPLATE.rules)


def test_rules_are_those_of_the_template() -> None:
    assert TEMPLATE.rules == LintRules(TEMPLATE.names, TEMPLATE.spki_der, timedelta(days=30), ("serverAuth",), False)
