"""Names have one canonical form each, and nothing but Malformed ever says that a text is no name."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.core import names
from certctl.core.errors import Malformed
from certctl.core.names import Name, NameKind, canonical_dns, parse_name, parse_names, spelled

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True).filter(lambda text: text[2:4] != "--")
DNS = st.builds(
    lambda labels, tld: ".".join([*labels, tld]),
    st.lists(LABEL, min_size=1, max_size=4),
    st.sampled_from(["example", "org"]),
)
NASTY = st.text(alphabet="aA0.-_*@:/[]%\\ \n\tüßéİKı例。．xn", max_size=40)


@given(
    st.one_of(
        st.text(max_size=60), NASTY, NASTY.map(lambda text: "xn--" + text), NASTY.map(lambda text: "spiffe://" + text)
    )
)
def test_any_text_is_a_name_or_malformed(text: str) -> None:
    try:
        name = parse_name(text)
    except Malformed as error:
        assert error.violations
        return
    assert parse_name(f"{name.kind}:{name.value}") == name, "the canonical form is its own canonical form"
    assert name.value.isascii()
    assert not set(name.value) & set(" \n\t\x00")


@given(st.sampled_from(sorted(NameKind)), st.one_of(st.text(max_size=40), NASTY))
def test_prefixed_texts_are_idempotent(kind: NameKind, text: str) -> None:
    with contextlib.suppress(Malformed):
        name = parse_name(f"{kind}:{text}")
        assert parse_name(f"{name.kind}:{name.value}") == name


@given(DNS, st.booleans(), st.booleans())
def test_dns_case_and_the_final_dot_do_not_matter(text: str, wildcard: bool, dot: bool) -> None:
    canonical = ("*." if wildcard else "") + text
    assert parse_name(canonical.upper() + ("." if dot else "")) == Name(NameKind.DNS, canonical)


@given(st.ip_addresses())
def test_ip_addresses_have_one_text(address: object) -> None:
    exploded = address.exploded  # type: ignore[attr-defined]  # both kinds have it
    if getattr(address, "ipv4_mapped", None) is not None:
        with pytest.raises(Malformed, match="IPv4"):
            parse_name(exploded)
        return
    assert parse_name(exploded) == parse_name(str(address)) == Name(NameKind.IP, str(address))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("Bücher.Example", NameKind.DNS, "xn--bcher-kva.example"),
        ("*.BÜCHER.example", NameKind.DNS, "*.xn--bcher-kva.example"),
        ("faß.example", NameKind.DNS, "xn--fa-hia.example"),
        ("例え。テスト", NameKind.DNS, "xn--r8jz45g.xn--zckzah"),
        ("_dmarc.example.com", NameKind.DNS, "_dmarc.example.com"),
        ("localhost", NameKind.DNS, "localhost"),
        ("2001:DB8:0::1", NameKind.IP, "2001:db8::1"),
        ("[::1]", NameKind.IP, "::1"),
        ("ip:192.0.2.1", NameKind.IP, "192.0.2.1"),
        ("SPIFFE://Td/ns/A", NameKind.URI, "spiffe://Td/ns/A"),
        ("uri:urn:uuid:1", NameKind.URI, "urn:uuid:1"),
        ("uri:dns:example.com", NameKind.URI, "dns:example.com"),
        ("Ops.Team@Example.COM", NameKind.EMAIL, "Ops.Team@example.com"),
    ],
)
def test_canonical_forms(text: str, kind: NameKind, value: str) -> None:
    assert parse_name(text) == Name(kind, value)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "dns_name_has_wrong_form"),
        ("*", "dns_name_has_wrong_form"),
        ("*.", "dns_name_has_wrong_form"),
        ("*.*.example.com", "dns_name_has_wrong_form"),
        ("w*.example.com", "dns_name_has_wrong_form"),
        ("a..example.com", "dns_name_has_wrong_form"),
        ("-a.example.com", "dns_name_has_wrong_form"),
        ("a b.example.com", "dns_name_has_wrong_form"),
        ("a\x00.example.com", "dns_name_has_wrong_form"),
        ("a" * 64 + ".example.com", "dns_name_has_wrong_form"),
        (".".join(["a" * 60] * 5), "dns_name_has_wrong_form"),
        ("*." + ".".join(["a" * 63, *["a" * 62] * 3]), "dns_name_has_wrong_form"),
        ("1.2.3.256", "dns_name_ends_in_number"),
        ("xn--zzzzzz-.example", "dns_name_has_wrong_form"),
        ("xn--a.example", "dns_name_is_not_idna"),
        ("☃.example", "dns_name_is_not_idna"),
        ("fe80::1%eth0", "ip_address_has_a_zone"),
        ("ip:fe80::1%1", "ip_address_has_a_zone"),
        ("::ffff:192.0.2.1", "ip_address_is_mapped"),
        ("[192.0.2.1]", "dns_name_has_wrong_form"),
        ("::1]", "ip_address_has_wrong_form"),
        ("10.0.0.0/8", "dns_name_has_wrong_form"),
        ("http://exa mple/", "uri_has_wrong_form"),
        ("http://ü.example/", "uri_has_wrong_form"),
        ("uri:example", "uri_has_wrong_form"),
        ("a@", "dns_name_has_wrong_form"),
        ("@example.com", "email_has_wrong_form"),
        ("a..b@example.com", "email_has_wrong_form"),
        (".a@example.com", "email_has_wrong_form"),
        ("a@*.example.com", "email_has_wrong_form"),
        ("a" * 65 + "@example.com", "email_has_wrong_form"),
    ],
)
def test_what_is_no_name_says_why(text: str, rule: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_name(text, "sans[0]")
    assert [(v.rule, v.field) for v in caught.value.violations] == [(rule, "sans[0]")]


def test_many_names_tell_every_fault_and_fold_duplicates() -> None:
    assert [str(name) for name in parse_names(["b.example", "A.example", "B.EXAMPLE."])] == ["b.example", "a.example"]
    with pytest.raises(Malformed) as caught:
        parse_names(["ok.example", "*", "fe80::1%0"])
    assert [v.field for v in caught.value.violations] == ["sans[1]", "sans[2]"]


def _read(text: str) -> str | tuple[str, ...]:
    try:
        return canonical_dns(text)
    except Malformed as error:
        return tuple(violation.rule for violation in error.violations)


@given(
    st.one_of(DNS, NASTY, st.text(alphabet="ab19-_.*x", max_size=12), DNS.map("*.{}".format), DNS.map("xn--{}".format))
)
def test_a_plain_name_reads_as_it_would_label_by_label(text: str) -> None:
    at_once = _read(text)
    plain, names._PLAIN = names._PLAIN, re.compile(r"(?!)")
    try:
        assert _read(text) == at_once
    finally:
        names._PLAIN = plain
    if isinstance(at_once, str):
        name = Name(NameKind.DNS, at_once)
        assert parse_name(spelled(name)) == name


def test_a_wildcard_name_of_full_length_is_allowed() -> None:
    base = ".".join(["a" * 61, "b" * 61, "c" * 61, "d" * 61])
    assert canonical_dns(f"*.{base}") == f"*.{base}"
