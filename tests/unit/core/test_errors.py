"""Every leaf of the error tree has a stable code of its own; edges map by it."""

from __future__ import annotations

import inspect
from datetime import timedelta

import pytest

from certctl.core import errors
from certctl.core.errors import (
    CallerError,
    CertctlError,
    ConnectorError,
    Malformed,
    OutcomeUnknown,
    PolicyDenied,
    RateLimited,
    Temporary,
    TrustError,
    Violation,
)

CLASSES = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, CertctlError)]
LEAVES = [one for one in CLASSES if not any(other is not one and issubclass(other, one) for other in CLASSES)]


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda one: one.__name__)
def test_a_leaf_declares_its_own_code_in_one_of_three_families(leaf: type[CertctlError]) -> None:
    assert "code" in vars(leaf)
    assert leaf.code.isascii()
    assert leaf.code == leaf.code.lower()
    assert sum(issubclass(leaf, family) for family in (CallerError, ConnectorError, TrustError)) == 1


def test_no_two_classes_share_a_code() -> None:
    codes = [one.code for one in CLASSES]
    assert len(set(codes)) == len(codes)
    assert len(LEAVES) >= 17


def test_what_is_shown_and_what_is_logged_stay_apart() -> None:
    error = TrustError("the chain does not verify", detail="issuer CN=secret internal")
    assert str(error) == error.message == "the chain does not verify"
    assert "secret" not in repr(error)


def test_errors_carry_what_their_edge_needs() -> None:
    violations = (Violation("a", "first", "x"), Violation("b", "second"))
    assert str(PolicyDenied(violations)) == "first; second"
    assert PolicyDenied(()).message == "refused by policy"
    assert Malformed("no", violations=violations).violations == violations
    assert Temporary("later", retry_after=timedelta(seconds=3)).retry_after == timedelta(seconds=3)
    assert Temporary("later").retry_after is None
    assert RateLimited("slow", retry_after=timedelta(seconds=1)).retry_after == timedelta(seconds=1)
    assert OutcomeUnknown("?", reference="order-1").reference == "order-1"
