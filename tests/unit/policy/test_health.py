"""What is wrong at an endpoint is named, and its state follows from looks and thresholds."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.health import FaultKind, HealthStatus
from certctl.core.names import parse_names
from certctl.policy.health import UNSEEN, covers, judge_served, next_status, root_set
from peers.tls_sites import DAY, make

NOW = datetime.now(UTC)
COUNTED = [kind for kind in FaultKind if kind not in UNSEEN | {FaultKind.WRONG_CERTIFICATE}]


@cache
def town():
    root = make("Root", is_ca=True, start=NOW - 40 * DAY, validity=80 * DAY)
    middle = make("Middle", root, is_ca=True, start=NOW - 40 * DAY, validity=80 * DAY)
    return root, middle, make("shop.example", middle)


def kinds(leaf, chain=(), name="shop.example", roots=None, word="given"):
    root, _, _ = town()
    anchors = [root_set(word, [each.der for each in (roots if roots is not None else (root,))])]
    judged = judge_served(leaf.der, [each.der for each in chain], name, anchors, NOW)
    return [str(fault.kind) for fault in judged.faults], judged


def test_a_right_chain_is_trusted_and_says_by_whose_roots():
    root, middle, leaf = town()
    for chain in ([middle], [middle, root], [root, middle], [middle, middle]):
        assert kinds(leaf, chain)[0] == []
        assert kinds(leaf, chain)[1].trusted_by == "given"
    found = judge_served(leaf.der, [middle.der], "shop.example", [root_set("a", []), root_set("b", [root.der])], NOW)
    assert found.trusted_by == "b"
    assert kinds(leaf, [], roots=[leaf])[0] == []  # the very certificate was given as a root
    assert kinds(leaf, [middle], roots=[middle])[0] == []


def test_each_fault_has_a_name():
    root, middle, leaf = town()
    assert kinds(leaf)[0] == ["untrusted_chain"]
    assert "neither sent nor known" in kinds(leaf)[1].faults[0].message
    assert kinds(leaf, [middle], roots=[])[0] == ["untrusted_chain"]
    assert kinds(leaf, [middle, root], roots=[])[1].faults[0].message.count("no root that is trusted here") == 1
    assert kinds(leaf, [middle], name="other.example")[0] == ["wrong_name"]
    old = make("shop.example", middle, start=NOW - 20 * DAY, validity=10 * DAY)
    assert kinds(old, [middle])[0] == ["expired"]
    assert kinds(old, [], name="x.example")[0] == ["expired", "wrong_name", "untrusted_chain"]
    young = make("shop.example", middle, start=NOW + DAY)
    assert kinds(young, [middle])[0] == ["not_yet_valid"]
    past = make("Middle", root, is_ca=True, start=NOW - 20 * DAY, validity=10 * DAY)
    below = make("shop.example", past, start=NOW - 15 * DAY)
    assert kinds(below, [past])[0] == ["untrusted_chain"]
    assert "expired" in kinds(below, [past])[1].faults[0].message
    # a certificate that is no CA signs for nobody, and another key under the root's name is not the root
    assert kinds(make("shop.example", leaf), [leaf, middle])[0] == ["untrusted_chain"]
    assert kinds(leaf, [middle], roots=[make("Root", is_ca=True)])[0] == ["untrusted_chain"]


@pytest.mark.parametrize(
    ("sans", "name", "is_covered"),
    [
        (["shop.example"], "shop.example", True),
        (["shop.example"], "SHOP.example.", True),
        (["*.example.com"], "a.example.com", True),
        (["*.example.com"], "a.b.example.com", False),
        (["*.example.com"], "example.com", False),
        (["*.example.com"], "*.example.com", True),
        (["192.0.2.1"], "192.0.2.1", True),
        (["2001:db8::1"], "[2001:DB8:0::1]", True),
        (["dns:shop.example"], "192.0.2.1", False),
        ([], "shop.example", False),
    ],
)
def test_names(sans, name, is_covered):
    assert covers(parse_names(sans), name) is is_covered


@given(leaf=st.binary(max_size=200), chain=st.lists(st.binary(max_size=80), max_size=3), name=st.text(max_size=40))
def test_no_bytes_break_the_judge(leaf, chain, name):
    judged = judge_served(leaf, chain, name, [root_set("x", chain)], NOW)
    assert [fault.kind for fault in judged.faults] == [FaultKind.UNREADABLE]
    _, middle, good = town()
    judge_served(good.der, [middle.der, *chain], name, [root_set("x", chain)], NOW)


@given(
    looks=st.lists(st.one_of(st.none(), st.sampled_from(list(FaultKind))), max_size=30),
    degraded=st.integers(1, 6),
    more=st.integers(0, 6),
)
def test_the_state_follows_from_looks_and_thresholds(looks, degraded, more):
    down = degraded + more
    status, failures = HealthStatus.UNKNOWN, 0
    bad = 0
    for fault in looks:
        before = status
        status, failures = next_status(status, failures, fault, degraded, down)
        bad = 0 if fault is None or fault in UNSEEN else bad + 1
        assert failures == bad
        if fault is None:
            assert status is HealthStatus.HEALTHY
        elif fault in UNSEEN:
            assert status is HealthStatus.UNKNOWN
        elif fault is FaultKind.WRONG_CERTIFICATE:
            assert status is HealthStatus.CERT_MISMATCH
        elif bad >= down:
            assert status is HealthStatus.DOWN
        elif bad >= degraded:
            assert status is HealthStatus.DEGRADED
        else:
            assert status is before  # the first failure turns nothing, least of all unknown into healthy


def test_thresholds_are_reached_by_their_number_and_not_one_early():
    for kind in COUNTED:
        seen, status, failures = [], HealthStatus.HEALTHY, 0
        for _ in range(5):
            status, failures = next_status(status, failures, kind, 2, 5)
            seen.append(str(status))
        assert seen == ["healthy", "degraded", "degraded", "degraded", "down"]
