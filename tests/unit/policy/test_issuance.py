"""Each rule of issuance refuses what it names, alone, and all of them are told at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import Malformed, PolicyDenied
from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr_attributes import attribute_name, attribute_oid
from certctl.policy import issuance
from certctl.policy.approval import decision_hash
from certctl.policy.issuance import (
    IssuanceFacts,
    KeyRule,
    ProfileFacts,
    choose_key_algorithm,
    judge_csr,
    judge_request,
)

PROFILE = ProfileFacts(
    id="prof-web",
    version=3,
    allowed_key_algorithms=(KeyRule("ECDSA", 256), KeyRule("RSA", 3072)),
    max_ttl=timedelta(days=90),
    allowed_ekus=("serverAuth", "1.3.6.1.5.5.7.3.2"),
    required_san_patterns=("**.example.com", "10.0.0.0/8"),
    spiffe_uri_pattern="spiffe://td.example/ns/*",
)
ASKED = parse_names(["www.example.com", "api.example.com"])
GOOD = IssuanceFacts(
    common_name="www.example.com",
    names=ASKED,
    validity=timedelta(days=90),
    profile=PROFILE,
    issuer_id="iss-local",
    issuer_enabled=True,
    ekus=("serverAuth",),
    key_kind="ECDSA",
    key_size_bits=256,
    key_curve="P-256",
)


def changed(**fields: Any) -> IssuanceFacts:
    in_profile = {k: fields.pop(k) for k in list(fields) if k in ProfileFacts.__struct_fields__ and k != "must_staple"}
    if "profile_must_staple" in fields:
        in_profile["must_staple"] = fields.pop("profile_must_staple")
    return msgspec.structs.replace(GOOD, profile=msgspec.structs.replace(PROFILE, **in_profile), **fields)


def rules_of(facts: IssuanceFacts) -> list[str]:
    return [violation.rule for violation in judge_request(facts)]


def test_a_good_request_breaks_no_rule() -> None:
    assert judge_request(GOOD) == ()
    assert judge_request(changed(key_kind=None, key_size_bits=None, key_curve=None)) == ()


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"enabled": False}, "profile_is_disabled"),
        ({"issuer_enabled": False}, "issuer_is_disabled"),
        ({"names": (), "common_name": ""}, "no_names_given"),
        ({"common_name": "mail.example.com"}, "common_name_is_not_among_the_names"),
        ({"common_name": "not a name"}, "common_name_is_not_among_the_names"),
        ({"required_san_patterns": ("**.example.com", "re:(a+)+")}, "profile_pattern_is_unusable"),
        ({"names": parse_names(["www.example.com", "www.example.org"])}, "name_is_outside_the_profile"),
        ({"names": parse_names(["www.example.com", "11.0.0.1"])}, "name_is_outside_the_profile"),
        ({"names": parse_names(["www.example.com", "https://www.example.com/"])}, "name_is_outside_the_profile"),
        ({"names": parse_names(["www.example.com", "spiffe://td.example/sa/x"])}, "spiffe_name_is_outside_the_pattern"),
        ({"names": parse_names(["www.example.com", "spiffe://td.example/ns/a", "spiffe://td.example/ns/b"])}, "spiffe_name_is_not_the_only_uri"),
        ({"validity": timedelta(days=90, seconds=1)}, "lifetime_exceeds_the_profile"),
        ({"validity": timedelta(minutes=59)}, "lifetime_is_too_short"),
        ({"validity": timedelta(0), "allow_short_lived": True}, "lifetime_is_too_short"),
        ({"validity": timedelta(seconds=-5), "allow_short_lived": True}, "lifetime_is_too_short"),
        ({"ekus": ("serverAuth", "codeSigning")}, "eku_is_outside_the_profile"),
        ({"ekus": ("no such usage",)}, "eku_is_outside_the_profile"),
        ({"ekus": ("clientAuth",), "allowed_ekus": ()}, "eku_is_outside_the_profile"),
        ({"profile_must_staple": True}, "staple_is_missing"),
        ({"key_kind": "Ed25519", "key_size_bits": 256, "key_curve": ""}, "key_type_is_outside_the_profile"),
        ({"key_kind": "RSA", "key_size_bits": 2048, "key_curve": ""}, "key_is_too_small"),
        ({"key_kind": "ECDSA", "key_size_bits": 256, "key_curve": "secp256k1"}, "key_is_weak"),
        ({"key_kind": "RSA", "key_size_bits": 1024, "key_curve": "", "allowed_key_algorithms": ()}, "key_is_weak"),
        ({"key_kind": "DSA", "key_size_bits": 3072, "key_curve": "", "allowed_key_algorithms": ()}, "key_is_weak"),
    ],
)  # fmt: skip
def test_each_rule_refuses_what_it_names_and_no_other_does(fields: dict[str, Any], rule: str) -> None:
    assert rules_of(changed(**fields)) == [rule]


@pytest.mark.parametrize(
    "fields",
    [
        {"validity": timedelta(minutes=5), "allow_short_lived": True},
        {"validity": timedelta(hours=1)},
        {"validity": timedelta(days=9000), "max_ttl": None},
        {"ekus": ("1.3.6.1.5.5.7.3.1", "ClientAuth")},
        {"must_staple": True},
        {"must_staple": True, "profile_must_staple": True},
        {"names": parse_names(["www.example.com", "spiffe://td.example/ns/a", "10.1.1.1", "*.example.com"])},
        {"names": parse_names(["www.anything.org"]), "common_name": "WWW.anything.org.", "required_san_patterns": ()},
        {"key_kind": "RSA", "key_size_bits": 3072, "key_curve": ""},
        {"key_kind": "RSA", "key_size_bits": 2048, "allowed_key_algorithms": (KeyRule("rsa", 4096), KeyRule("RSA", 2048))},
        {"key_kind": "Ed25519", "key_size_bits": 256, "allowed_key_algorithms": ()},
    ],
)  # fmt: skip
def test_what_keeps_the_rules_passes(fields: dict[str, Any]) -> None:
    assert rules_of(changed(**fields)) == []


def test_every_violation_is_told_in_the_order_of_the_rules() -> None:
    facts = changed(enabled=False, issuer_enabled=False, names=(), validity=timedelta(days=400), ekus=("codeSigning",), key_kind="RSA", key_size_bits=512)  # fmt: skip
    assert rules_of(facts) == [
        "profile_is_disabled",
        "issuer_is_disabled",
        "no_names_given",
        "common_name_is_not_among_the_names",
        "lifetime_exceeds_the_profile",
        "eku_is_outside_the_profile",
        "key_is_too_small",
        "key_is_weak",
    ]
    assert all(violation.field and violation.message for violation in judge_request(facts))


def test_every_rule_names_its_own_violation() -> None:
    names = [rule.__name__ for rule in (*issuance.REQUEST_RULES, *issuance.CSR_RULES)]
    assert len(set(names)) == len(names) == 19


@pytest.mark.parametrize(
    ("common_name", "names", "rules"),
    [
        ("www.example.com", ["api.example.com", "www.example.com"], []),
        ("", ["www.example.com", "api.example.com"], []),
        ("API.example.com", [], []),
        ("", [], ["csr_lacks_names"]),
        ("www.example.com", ["www.example.com"], ["csr_lacks_names"]),
        ("evil.example.com", [], ["csr_names_other_names", "csr_lacks_names"]),
        ("evil.example.com", ["www.example.com", "api.example.com"], ["csr_names_other_names"]),
        ("not a name", ["www.example.com", "api.example.com"], ["csr_names_other_names"]),
        ("", ["www.example.com", "api.example.com", "evil.example.com"], ["csr_names_other_names"]),
        ("", ["*.example.com"], ["csr_names_other_names", "csr_lacks_names"]),
    ],
)
def test_a_csr_names_exactly_what_was_asked(common_name: str, names: list[str], rules: list[str]) -> None:
    found = judge_csr(GOOD, csr_common_name=common_name, csr_names=parse_names(names), asked=ASKED)
    assert [violation.rule for violation in found] == rules


def test_a_csr_is_judged_with_the_profile_as_it_now_is() -> None:
    facts = changed(enabled=False, key_kind="RSA", key_size_bits=2048, key_curve="")
    found = judge_csr(facts, csr_common_name="www.example.com", csr_names=ASKED, asked=ASKED)
    assert [violation.rule for violation in found] == ["profile_is_disabled", "key_is_too_small"]
    keyless = changed(key_kind=None)
    assert [v.rule for v in judge_csr(keyless, csr_common_name="", csr_names=ASKED, asked=ASKED)] == [
        "csr_shows_no_key"
    ]


@pytest.mark.parametrize(
    ("allowed", "chosen"),
    [
        ((), KeyAlgorithm.ECDSA_P256),
        ((KeyRule("RSA", 2048), KeyRule("ECDSA", 256)), KeyAlgorithm.ECDSA_P256),
        ((KeyRule("ECDSA", 384),), KeyAlgorithm.ECDSA_P384),
        ((KeyRule("RSA", 0),), KeyAlgorithm.RSA_2048),
        ((KeyRule("RSA", 2049),), KeyAlgorithm.RSA_3072),
        ((KeyRule("RSA", 4096),), KeyAlgorithm.RSA_4096),
        ((KeyRule("ed25519"),), KeyAlgorithm.ED25519),
        ((KeyRule("Ed25519"), KeyRule("RSA", 2048)), KeyAlgorithm.RSA_2048),
    ],
)
def test_the_smallest_strong_key_is_chosen(allowed: tuple[KeyRule, ...], chosen: KeyAlgorithm) -> None:
    assert choose_key_algorithm(msgspec.structs.replace(PROFILE, allowed_key_algorithms=allowed)) == chosen


@pytest.mark.parametrize("allowed", [(KeyRule("RSA", 8192),), (KeyRule("ECDSA", 521),), (KeyRule("DSA"),)])
def test_a_profile_without_a_key_we_make_is_told(allowed: tuple[KeyRule, ...]) -> None:
    with pytest.raises(PolicyDenied, match="no key"):
        choose_key_algorithm(msgspec.structs.replace(PROFILE, allowed_key_algorithms=allowed))


_MADE = {
    KeyAlgorithm.ECDSA_P256: ("ECDSA", 256, "P-256"),
    KeyAlgorithm.ECDSA_P384: ("ECDSA", 384, "P-384"),
    KeyAlgorithm.RSA_2048: ("RSA", 2048, ""),
    KeyAlgorithm.RSA_3072: ("RSA", 3072, ""),
    KeyAlgorithm.RSA_4096: ("RSA", 4096, ""),
    KeyAlgorithm.ED25519: ("Ed25519", 256, ""),
}


@given(st.lists(st.builds(KeyRule, st.sampled_from(["RSA", "ECDSA", "Ed25519"]), st.integers(0, 5000)), max_size=4))
def test_the_chosen_key_keeps_the_rules_it_was_chosen_under(allowed: list[KeyRule]) -> None:
    facts = changed(allowed_key_algorithms=tuple(allowed))
    try:
        kind, bits, curve = _MADE[choose_key_algorithm(facts.profile)]
    except PolicyDenied:
        return
    assert rules_of(msgspec.structs.replace(facts, key_kind=kind, key_size_bits=bits, key_curve=curve)) == []


DECISION: dict[str, Any] = {
    "names": ASKED,
    "profile_id": "prof-web",
    "profile_version": 3,
    "issuer_id": "iss-local",
    "validity": timedelta(days=90),
    "key_rule": "ECDSA-P256",
}


def test_the_decision_hash_is_stable_and_blind_to_order() -> None:
    assert decision_hash(**DECISION) == decision_hash(**DECISION | {"names": [*reversed(ASKED), *ASKED]})
    assert decision_hash(**DECISION) == "8ead65d558b818a2a8b885c3573c6c78f3c90e2c71ba5a63f4ea9e7a9f86fb61"


@pytest.mark.parametrize(
    "change",
    [
        {"names": ASKED[:1]},
        {"names": parse_names(["www.example.com", "email:a@example.com"])},
        {"profile_id": "prof-other"},
        {"profile_version": 4},
        {"issuer_id": "iss-acme"},
        {"validity": timedelta(days=90, seconds=1)},
        {"key_rule": "RSA-2048"},
    ],
)
def test_the_decision_hash_binds_everything_decided(change: dict[str, Any]) -> None:
    assert decision_hash(**DECISION | change) != decision_hash(**DECISION)


def test_a_csr_holds_what_the_profile_asks_for() -> None:
    asks = msgspec.structs.replace(PROFILE, required_csr_attributes=("ChallengePassword", "2.5.29.17"))
    lacking = ["csr_lacks_attributes"]
    for more, rules in (
        ({}, []),  # nobody has made a CSR yet
        ({"of_agent": True}, lacking),
        ({"csr_holds": frozenset()}, lacking),
        ({"csr_holds": frozenset({"1.2.840.113549.1.9.7"})}, lacking),
        ({"csr_holds": frozenset({"1.2.840.113549.1.9.7", "2.5.29.17", "1.2"})}, []),
    ):
        assert [each.rule for each in judge_request(msgspec.structs.replace(GOOD, profile=asks, **more))] == rules, more
    names_alone = msgspec.structs.replace(PROFILE, required_csr_attributes=("extensionRequest", "subjectAltName"))
    assert judge_request(msgspec.structs.replace(GOOD, profile=names_alone, of_agent=True)) == ()


@given(st.text() | st.from_regex(r"[0-9.]{1,40}", fullmatch=True))
def test_any_text_names_an_attribute_or_is_refused(text: str) -> None:
    try:
        dotted = attribute_oid(text)
    except Malformed:
        return
    assert attribute_oid(dotted) == dotted == attribute_oid(attribute_name(dotted))
