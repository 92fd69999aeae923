from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import Malformed
from certctl.policy.membership import AgentFacts, Criteria, belongs, check_criteria, network_of

AGENT = AgentFacts(os="linux", architecture="amd64", ip_address="10.1.2.3", version="2.1.0")


def fits(agent: AgentFacts = AGENT, **criteria: str) -> bool:
    check_criteria(Criteria(**criteria))
    return belongs(Criteria(**criteria), agent)


def at(ip: str) -> AgentFacts:
    return AgentFacts(os="linux", architecture="amd64", ip_address=ip, version="2.1.0")


def of(version: str) -> AgentFacts:
    return AgentFacts(os="linux", architecture="amd64", ip_address="10.1.2.3", version=version)


def test_no_criterion_is_nobody():
    assert not fits()


def test_every_criterion_must_fit():
    assert fits(os="linux", architecture="amd64", ip_cidr="10.0.0.0/8", version=">=2")
    for other in ({"os": "windows"}, {"architecture": "arm64"}, {"ip_cidr": "10.2.0.0/16"}, {"version": "<2"}):
        assert not fits(**({"os": "linux", "architecture": "amd64", "ip_cidr": "10.0.0.0/8", "version": ">=2"} | other))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("LINUX", True),
        ("lin*", True),
        ("*nux", True),
        ("*i*u*", True),
        ("lin", False),
        ("linux2", False),
        ("l.nux", False),
    ],
)
def test_words(word, expected):
    assert fits(os=word) is expected


@pytest.mark.parametrize(
    ("cidr", "ip", "expected"),
    [
        ("10.0.0.0/8", "10.255.255.255", True),
        ("10.0.0.0/8", "11.0.0.0", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.30", False),
        ("2001:db8::/32", "2001:DB8:0:1::5", True),
        ("2001:db8::/32", "2001:db9::", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::/0", "10.1.2.3", False),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("0.0.0.0/0", "", False),
        ("0.0.0.0/0", "host.example", False),
    ],
)
def test_networks(cidr, ip, expected):
    assert fits(at(ip), ip_cidr=cidr) is expected


@pytest.mark.parametrize(
    ("bounds", "version", "expected"),
    [
        ("2.1.0", "2.1.0", True),
        ("2.1", "v2.1.0", True),
        ("2.1.0", "2.1.0+build5", True),
        ("2.1.*", "2.1.9", True),
        ("2.1.*", "2.10.0", False),
        ("!=2.1.*", "2.1.9", False),
        (">=2.1, <3", "2.10.0", True),
        (">=2.1, <3", "3.0.0", False),
        (">= 2.1,< 3", "2.1.0-rc1", False),
        (">2.1.0-rc.2", "2.1.0-rc.10", True),
        (">2.1.0-rc.2", "2.1.0", True),
        (">2.9", "2.10", True),
        ("<=2.1, !=2.1.0", "2.1.0", False),
        (">=0", "", False),
        (">=0", "dev", False),
    ],
)
def test_versions(bounds, version, expected):
    assert fits(of(version), version=bounds) is expected


@pytest.mark.parametrize(
    ("field", "name", "text"),
    [
        ("match_os", "os", "x" * 101),
        ("match_os", "os", "a\nb"),
        ("match_os", "os", "*a*b*c*"),
        ("match_architecture", "architecture", " "),
        ("match_ip_cidr", "ip_cidr", "10.0.0.1/8"),
        ("match_ip_cidr", "ip_cidr", "10.0.0.0/33"),
        ("match_ip_cidr", "ip_cidr", "10.0.0"),
        ("match_ip_cidr", "ip_cidr", "2001:db8::1/32"),
        ("match_ip_cidr", "ip_cidr", "10.0.0.0/8, 11.0.0.0/8"),
        ("match_version", "version", "latest"),
        ("match_version", "version", ">=2.*"),
        ("match_version", "version", "2.1,"),
        ("match_version", "version", "=>2"),
        ("match_version", "version", ",".join(["1"] * 9)),
    ],
)
def test_what_cannot_be_read_is_named(field, name, text):
    with pytest.raises(Malformed) as caught:
        check_criteria(Criteria(**{name: text}))
    assert [each.field for each in caught.value.violations] == [field]
    assert not belongs(Criteria(**{name: text}), AGENT)


def test_every_fault_is_told_at_once():
    with pytest.raises(Malformed) as caught:
        check_criteria(Criteria(os="\0", architecture="\0", ip_cidr="x", version="x"))
    assert len(caught.value.violations) == 4


@given(st.text(max_size=220), st.text(max_size=70))
def test_any_text_is_read_or_refused(criterion, told):
    for name in ("os", "architecture", "ip_cidr", "version"):
        agent = AgentFacts(os=told, architecture=told, ip_address=told, version=told)
        asked = Criteria(**{name: criterion})
        assert belongs(asked, agent) in {True, False}
        try:
            check_criteria(asked)
        except Malformed as error:
            assert error.violations
            assert not belongs(asked, agent)


@given(st.ip_addresses(), st.integers(0, 32), st.ip_addresses(v=4))
def test_a_network_holds_exactly_its_addresses(ip, prefix, within):
    network = ipaddress.ip_network(f"{within}/{prefix}", strict=False)
    assert network_of(str(network)) == network
    plain = ip.ipv4_mapped or ip if ip.version == 6 else ip
    assert fits(at(str(ip)), ip_cidr=str(network)) is (plain in network)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.lists(st.integers(0, 30), min_size=1, max_size=4))
def test_versions_are_ordered_by_their_numbers(mine, bound):
    def padded(numbers):
        return numbers + [0] * (4 - len(numbers))

    text, asked = ".".join(map(str, mine)), ".".join(map(str, bound))
    assert fits(of(text), version=f">={asked}") is (padded(mine) >= padded(bound))
    assert fits(of(text), version=f"<{asked}") is (padded(mine) < padded(bound))
    assert fits(of(text), version=asked) is (padded(mine) == padded(bound))
