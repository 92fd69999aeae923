"""Statuses of ACME, walked; CAA records, windows of renewal and names of external accounts, judged without a network."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.connectors.validation import caa
from certctl.connectors.validation.resolving import read_address
from certctl.core.acme import MACHINES
from certctl.core.names import parse_name
from certctl.policy.renewal_information import suggested_window
from certctl.protocols.acme import naming

NOW = datetime(2026, 11, 26, tzinfo=UTC)
FIRST = {"account": "valid", "order": "pending", "authorization": "pending", "challenge": "pending"}


@pytest.mark.parametrize("name", MACHINES)
def test_every_status_is_reached_and_only_ends_are_terminal(name):
    machine = MACHINES[name]
    seen, waiting = set(), [next(status for status in machine if status == FIRST[name])]
    while waiting:
        if (one := waiting.pop()) not in seen:
            seen.add(one)
            waiting.extend(machine[one])
    assert seen == set(machine)
    assert all(targets <= set(machine) for targets in machine.values())


def asked(**more) -> caa.Asked:
    given_ = {
        "identities": ("ca.example",),
        "wildcard": False,
        "method": "dns-01",
        "root": "https://acme.example",
        "account_paths": ("/acme/account/1",),
    }
    return caa.Asked(**(given_ | more))


@pytest.mark.parametrize(
    ("records", "more", "allowed"),
    [
        ([(0, "iodef", "mailto:a@b.example")], {}, True),
        ([(0, "issue", "CA.example.")], {}, True),
        ([(0, "issue", ";")], {}, False),
        ([(0, "issue", "")], {}, False),
        ([(0, "issue", "other.example"), (0, "issue", "ca.example")], {}, True),
        ([(0, "issuewild", "other.example")], {}, True),
        ([(0, "issuewild", "other.example"), (0, "issue", "ca.example")], {"wildcard": True}, False),
        ([(128, "tbs", "x"), (0, "issue", "ca.example")], {}, False),
        ([(0, "tbs", "x"), (0, "issue", "ca.example")], {}, True),
        ([(0, "issue", "ca.example; accounturi=https://acme.example/acme/account/1")], {}, True),
        ([(0, "issue", "ca.example; accounturi=https://evil.example/acme/account/1")], {}, False),
        ([(0, "issue", "ca.example; accounturi=https://acme.example/acme/account/1; accounturi=x")], {}, False),
        ([(0, "issue", "ca.example; validationmethods=http-01")], {}, False),
        ([(0, "issue", "ca.example; nonsense")], {}, False),
    ],
)
def test_caa_sets(records, more, allowed):
    assert caa.allows(records, asked(**more)) is allowed


@given(
    st.lists(
        st.tuples(st.integers(0, 255), st.sampled_from(["issue", "issuewild", "iodef", "x"]), st.text(max_size=60)),
        max_size=5,
    )
)
def test_no_record_breaks_the_reading_of_caa(records):
    assert caa.allows(records, asked()) in {True, False}


async def test_the_nearest_set_counts_and_one_that_cannot_be_looked_up_forbids():
    class Zone:
        def __init__(self, **sets):
            self.sets, self.seen = sets, []

        async def caa(self, name):
            self.seen.append(name)
            return self.sets.get(name.replace(".", "_"), [])

    zone = Zone(a_example=[(0, "issue", ";")], example=[(0, "issue", "ca.example")])
    with pytest.raises(caa.AcmeRefusal):
        await caa.check(zone, "www.a.example", asked())
    assert zone.seen == ["www.a.example", "a.example"]
    await caa.check(zone, "b.example", asked())


@given(st.text(min_size=1, max_size=20), st.integers(1, 400))
def test_a_window_lies_within_the_second_half_of_a_life(seed, days):
    end = NOW + timedelta(days=days)
    window = suggested_window(seed, NOW, end, None)
    assert NOW + timedelta(days=days) / 2 <= window.start < window.end < end
    revoked = suggested_window(seed, NOW, end, NOW + timedelta(hours=1))
    assert revoked.start < revoked.end <= NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("name", "allowed", "yes"),
    [
        ("a.corp.example", ["corp.example"], True), ("corp.example", ["corp.example"], True), ("xcorp.example", ["corp.example"], False),
        ("*.corp.example", ["corp.example"], True), ("h.corp.example", ["=h.corp.example"], True), ("a.h.corp.example", ["=h.corp.example"], False),
        ("*.corp.example", ["=*.corp.example"], True), ("a.corp.example", ["=*.corp.example"], False),
        ("10.1.2.3", ["10.1.0.0/16"], True), ("10.2.2.3", ["10.1.0.0/16"], False), ("10.1.2.3", ["corp.example"], False),
        ("fd00::1", ["10.1.0.0/16"], False), ("fd00::1", ["fd00::/8"], True), ("anything.example", [], True),
    ],
)  # fmt: skip
def test_what_an_external_account_may_order(name, allowed, yes):
    assert naming.is_allowed(parse_name(name), allowed) is yes


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 53),
        ("192.0.2.1:5353", "192.0.2.1", 5353),
        ("[2001:db8::1]:54", "2001:db8::1", 54),
        ("2001:db8::1", "2001:db8::1", 53),
    ],
)
def test_resolver_addresses(text, host, port):
    assert read_address(text) == (host, port)
