"""What people write into a profile means what they think it means, and never takes a worker hostage."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import Malformed
from certctl.core.names import Name, NameKind, parse_name
from certctl.policy.patterns import check_pattern, matches


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("www.example.com", ["www.example.com", "WWW.example.com"], ["example.com", "a.www.example.com", "*.www.example.com"]),
        ("*.example.com", ["a.example.com", "*.example.com"], ["example.com", "a.b.example.com", "aexample.com", "a.example.org"]),
        ("**.example.com", ["a.example.com", "a.b.c.example.com", "*.b.example.com"], ["example.com", "badexample.com", "example.com.evil.org"]),
        ("*.Bücher.example", ["a.bücher.example"], ["a.example"]),
        ("*", ["localhost"], ["a.example", "10.0.0.1"]),
        ("**", ["localhost", "a.b.example"], ["10.0.0.1", "spiffe://td/a", "a@b.example"]),
        ("10.0.0.0/8", ["10.1.2.3"], ["11.0.0.1", "ten.example", "fd00::1"]),
        ("fd00::/8", ["fd00::1"], ["fe00::1", "10.0.0.1"]),
        ("192.0.2.1", ["192.0.2.1"], ["192.0.2.2"]),
        ("*@example.com", ["ops@example.com", "x.y@Example.com"], ["ops@a.example.com", "example.com"]),
        ("ops@*.example.com", ["ops@a.example.com"], ["dev@a.example.com", "ops@example.com"]),
        ("spiffe://td.example/ns/*/sa/*", ["spiffe://td.example/ns/a/sa/b"], ["spiffe://td.example/ns/a/b/sa/c", "spiffe://td.example/ns//sa/b", "spiffe://tdxexample/ns/a/sa/b", "https://td.example/ns/a/sa/b"]),
        ("SPIFFE://td.example/**", ["spiffe://td.example/a/b/c"], ["spiffe://td.example/", "spiffe://other/a"]),
        (r"re:[a-z]+-[0-9]{2}\.corp\.example", ["web-01.corp.example"], ["web-001.corp.example", "web-01.corp.example.org", "xweb-01corp.example"]),
        (r"re:(www|api)\.example\.com", ["www.example.com", "api.example.com"], ["www.example.com.evil.org", "mail.example.com"]),
        (r"re:(www\.)?example\.com", ["www.example.com", "example.com"], ["a.example.com"]),
    ],
)  # fmt: skip
def test_patterns(pattern: str, inside: list[str], outside: list[str]) -> None:
    for text in inside:
        assert matches(pattern, parse_name(text)), text
    for text in outside:
        assert not matches(pattern, parse_name(text)), text


@pytest.mark.parametrize(
    "pattern",
    ["", "  ", "a" * 201, "*.*.example.com", "**.", "w*.example.com", "10.0.0.0/33", "10.0.0.1/8", "a/b", "re:[", "re:(a+)+", "re:(a|a)*b", "re:(?=a)b", "re:(?i)a", r"re:(a)\1", "re:.*.*.*.*x", "re:a?a?a?a?aaaa", "re:a|b|c|d|e|f|g|h|i", "spiffe://a/*/*/*/*", "a b@example.com", "re:(a{2,}){3}"],
)  # fmt: skip
def test_unusable_patterns_are_refused_and_named(pattern: str) -> None:
    with pytest.raises(Malformed) as caught:
        check_pattern(pattern, "spiffe_uri_pattern")
    assert [(v.rule, v.field) for v in caught.value.violations] == [("pattern_has_wrong_form", "spiffe_uri_pattern")]


@given(st.text(max_size=40))
def test_any_text_is_a_pattern_or_malformed(pattern: str) -> None:
    for prefix in ("", "re:", "spiffe://", "*.", "x@"):
        with contextlib.suppress(Malformed):
            matches(prefix + pattern, Name(NameKind.DNS, "a.example.com"))


@given(st.text(alphabet="ab.*+?{}()|[]\\-:1,", max_size=60))
def test_no_regex_that_is_accepted_runs_away(pattern: str) -> None:
    with contextlib.suppress(Malformed):
        started = time.process_time()
        matches("re:" + pattern, Name(NameKind.DNS, "a" * 250 + "!"))
        assert time.process_time() - started < 1


def test_the_worst_that_is_accepted_is_bounded() -> None:
    started = time.process_time()
    assert not matches("re:a*a*a*b", Name(NameKind.DNS, "a" * 253))
    assert not matches("re:.*a.*a.*b", Name(NameKind.DNS, "a" * 253))
    assert not matches("x://**a**a**b", Name(NameKind.URI, "x://" + "a" * 508))
    assert time.process_time() - started < 5


def test_a_name_longer_than_the_bound_never_matches() -> None:
    assert not matches("re:a+", Name(NameKind.DNS, "a" * 254))
    assert not matches("x://**", Name(NameKind.URI, "x://" + "a" * 600))
