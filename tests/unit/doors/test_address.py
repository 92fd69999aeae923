"""Whom X-Forwarded-For is believed, and how far."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.doors.address import client_address
from certctl.doors.limits import neighbourhood

TRUSTED = tuple(ipaddress.ip_network(text) for text in ("10.0.0.0/8", "2001:db8:1::/48"))


@pytest.mark.parametrize(
    ("peer", "lines", "expected"),
    [
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),  # a header of somebody nobody trusts
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7, 203.0.113.9"], "203.0.113.9"),  # the left one is what the client wrote
        ("10.0.0.1", ["198.51.100.7", "203.0.113.9, 10.2.2.2"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),  # all of them proxies: the farthest
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::7]:443"], "2001:db8::7"),
        ("10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("2001:db8:1::5", ["203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("::ffff:192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, "], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, 10.1.1.1, _hidden"], "10.0.0.1"),
        ("10.0.0.1", ["fe80::1%eth0"], "10.0.0.1"),
        ("10.0.0.1", ["127.0.0.1"], "127.0.0.1"),
        ("", ["203.0.113.9"], ""),
        ("/run/socket", ["203.0.113.9"], "/run/socket"),
    ],
)
def test_the_rightmost_hop_that_is_not_trusted(peer, lines, expected):
    assert client_address(peer, lines, TRUSTED) == expected


@given(st.lists(st.text(max_size=60), max_size=4))
def test_what_an_untrusted_peer_writes_changes_nothing(lines):
    assert client_address("192.0.2.1", lines, TRUSTED) == "192.0.2.1"
    assert client_address("192.0.2.1", lines, ()) == "192.0.2.1"


@given(st.lists(st.text(max_size=60), max_size=4))
def test_whatever_a_proxy_writes_an_address_comes_out(lines):
    assert ipaddress.ip_address(client_address("10.0.0.1", lines, TRUSTED))


@given(st.lists(st.ip_addresses().map(str), max_size=6), st.ip_addresses().map(str))
def test_what_a_client_wrote_before_the_proxy_never_counts(written, client):
    line = ", ".join([*written, client])
    expected = client_address("10.0.0.1", [client], TRUSTED)
    parsed = ipaddress.ip_address(expected)
    if not any(parsed.version == net.version and parsed in net for net in TRUSTED):
        assert client_address("10.0.0.1", [line], TRUSTED) == expected


def test_a_long_list_is_cut_not_walked():
    assert client_address("10.0.0.1", [", ".join(["203.0.113.9"] + ["10.1.1.1"] * 5000)], TRUSTED) == "10.1.1.1"


def test_what_counts_as_one_address():
    assert neighbourhood("192.0.2.1") == "192.0.2.1"
    assert neighbourhood("2001:db8::1") == neighbourhood("2001:db8::ffff:1") != neighbourhood("2001:db8:0:1::1")
    assert len(neighbourhood("x" * 1000)) == 64
