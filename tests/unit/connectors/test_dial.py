"""Which addresses may be dialled, judged as pure facts; sockets are in tests/integration/test_dial_sockets.py."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.connectors.dial import DialPolicy, classify, embedded, judge, resolve, show_endpoint
from certctl.core.errors import Misconfigured, Temporary

STRICT = DialPolicy("acme.validation", setting="CERTCTL_DIAL_ALLOW")
OPEN = DialPolicy("agent.probe", (), allow_private=True, allow_loopback=True)


def may(text: str, policy: DialPolicy = STRICT, port: int = 443, host: str = "") -> bool:
    try:
        judge(ipaddress.ip_address(text), port, policy, host=host)
    except Misconfigured:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("8.8.8.8", "global"),
        ("2606:4700::1111", "global"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("10.1.2.3", "private"),
        ("172.31.255.255", "private"),
        ("192.168.0.1", "private"),
        ("100.64.0.1", "private"),
        ("fd12:3456::1", "private"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("169.254.169.254", "cloud metadata"),
        ("fd00:ec2::254", "cloud metadata"),
        ("168.63.129.16", "cloud metadata"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("255.255.255.255", "reserved"),
        ("240.0.0.1", "reserved"),
        ("192.0.2.1", "reserved"),
        ("198.18.0.1", "reserved"),
        ("2001:db8::1", "reserved"),
        ("2001:0:1234::1", "reserved"),
        ("64:ff9b:1::7f00:1", "reserved"),
    ],
)
def test_every_kind_is_known_by_its_name(text: str, kind: str) -> None:
    assert classify(embedded(ipaddress.ip_address(text))) == kind
    assert may(text) == (kind == "global")


@pytest.mark.parametrize(
    "text",
    [
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
    ],
)
def test_an_address_hidden_in_ipv6_is_judged(text: str) -> None:
    assert not may(text)


@given(st.ip_addresses(v=4))
def test_hiding_an_address_never_opens_it(address: ipaddress.IPv4Address) -> None:
    plain = may(str(address))
    number = int(address)
    for hidden in ((0xFFFF << 32) | number, (0x2002 << 112) | (number << 80), (0x64FF9B << 96) | number):
        assert may(str(ipaddress.IPv6Address(hidden))) == plain


@given(st.ip_addresses())
def test_no_address_is_without_a_verdict(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if may(str(address)):
        assert may(str(address), OPEN)


def test_private_and_loopback_open_separately() -> None:
    assert may("10.0.0.1", DialPolicy("p", allow_private=True))
    assert not may("127.0.0.1", DialPolicy("p", allow_private=True))
    assert may("::1", DialPolicy("p", allow_loopback=True))
    assert not may("fd00::1", DialPolicy("p", allow_loopback=True))


@pytest.mark.parametrize(
    "text", ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "fe80::1", "0.0.0.0", "ff02::1"]
)
def test_open_policies_still_refuse_metadata_and_worse(text: str) -> None:
    assert not may(text, OPEN)


def test_a_network_on_the_list_opens_even_metadata_but_never_multicast() -> None:
    policy = DialPolicy("p", ("169.254.169.254", "10.1.0.0/16", "224.0.0.0/4", "0.0.0.0/0"))
    assert may("169.254.169.254", policy)
    assert may("10.1.2.3", policy)
    assert not may("224.0.0.1", policy)
    assert not may("0.0.0.0", policy)


def test_a_name_on_the_list_opens_private_addresses_of_that_name_only() -> None:
    policy = DialPolicy("p", ("ca.corp.example", "*.inside.example"))
    assert may("10.0.0.1", policy, host="CA.corp.example.")
    assert may("127.0.0.1", policy, host="a.inside.example")
    assert not may("10.0.0.1", policy, host="ca.corp.example.evil.example")
    assert not may("10.0.0.1", policy, host="inside.example.evil")
    assert not may("10.0.0.1", policy, host="inside.example")
    assert not may("169.254.169.254", policy, host="ca.corp.example")
    assert not may("10.0.0.1", policy)


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "1.2.3", "1.2.3.4.5", "::1/200", "fe80:::1"])
def test_a_typing_error_in_the_list_is_told(entry: str) -> None:
    with pytest.raises(Misconfigured, match="no address, network or host name"):
        judge(ipaddress.ip_address("10.0.0.1"), 443, DialPolicy("p", (entry,)))


def test_own_listeners_are_never_dialled() -> None:
    policy = DialPolicy("p", ("127.0.0.0/8",), True, True, frozenset({("127.0.0.1", 8443), ("0.0.0.0", 9443)}))
    assert not may("127.0.0.1", policy, 8443)
    assert not may("::ffff:127.0.0.1", policy, 8443)
    assert may("127.0.0.1", policy, 443)
    assert not may("127.0.0.9", policy, 9443)
    assert may("10.99.99.99", policy, 9443)


def test_a_refusal_names_address_purpose_and_setting() -> None:
    with pytest.raises(Misconfigured) as caught:
        judge(ipaddress.ip_address("10.0.0.5"), 443, STRICT, host="db.example")
    for part in ("acme.validation", "10.0.0.5", "db.example", "private", "CERTCTL_DIAL_ALLOW"):
        assert part in caught.value.message


async def test_resolving_keeps_only_what_may_be_dialled() -> None:
    async def answers(host: str, port: int) -> list[str]:
        return ["10.0.0.1", "8.8.8.8", "8.8.8.8", "::1"]

    assert [str(a) for a in await resolve("mixed.example", 443, STRICT, resolver=answers)] == ["8.8.8.8"]
    assert len(await resolve("mixed.example", 443, OPEN, resolver=answers)) == 3


async def test_a_name_of_only_inner_addresses_is_refused() -> None:
    async def answers(host: str, port: int) -> list[str]:
        return ["169.254.169.254", "127.0.0.1"]

    with pytest.raises(Misconfigured, match="cloud metadata"):
        await resolve("rebind.example", 80, STRICT, resolver=answers)


@pytest.mark.parametrize("host", ["0x7f.1", "2130706433", "127.1", "[::1]", "localhost", "127.0.0.1."])
async def test_odd_spellings_of_loopback_are_loopback(host: str) -> None:
    with pytest.raises((Misconfigured, Temporary)):
        await resolve(host, 80, STRICT)


async def test_a_name_that_does_not_resolve_is_temporary() -> None:
    async def fails(host: str, port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    with pytest.raises(Temporary, match="nowhere.example cannot be resolved"):
        await resolve("nowhere.example", 80, STRICT, resolver=fails)


@pytest.mark.parametrize("host", ["", "[]", ".", "a\0b"])
async def test_no_host_is_misconfigured(host: str) -> None:
    with pytest.raises(Misconfigured):
        await resolve(host, 80, STRICT)


def test_endpoints_are_shown_with_brackets() -> None:
    assert show_endpoint("::1", 443) == "[::1]:443"
    assert show_endpoint("a.example", 443) == "a.example:443"
