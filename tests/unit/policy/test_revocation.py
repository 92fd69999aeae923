"""Revocation reasons in RFC 5280's spelling, read in any case; a hold is refused plainly."""

from __future__ import annotations

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import Malformed
from certctl.policy.revocation import USABLE, RevocationReason, parse_reason

CODES = {
    "unspecified": 0,
    "keyCompromise": 1,
    "caCompromise": 2,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
    "certificateHold": 6,
    "privilegeWithdrawn": 9,
}


def test_codes_and_spellings_are_the_rfcs() -> None:
    assert {str(reason): reason.crl_code for reason in RevocationReason} == CODES
    peers = {flag.value for flag in x509.ReasonFlags}
    library_spells_ca = {"cACompromise" if name == "caCompromise" else name for name in CODES}
    assert library_spells_ca <= peers


@pytest.mark.parametrize("reason", USABLE)
def test_any_case_is_read_and_the_stored_form_reads_back(reason: RevocationReason) -> None:
    assert parse_reason(str(reason)) is reason
    assert parse_reason(reason.upper()) is reason
    assert parse_reason(f" {reason.lower()} ") is reason
    assert parse_reason(reason.name) is reason, "KEY_COMPROMISE is read too"


def test_a_hold_is_refused_and_says_why() -> None:
    with pytest.raises(Malformed, match="cannot be lifted") as caught:
        parse_reason("CertificateHold")
    assert caught.value.violations[0].field == "reason"


@given(st.text(max_size=30))
def test_anything_else_names_the_known_ones(text: str) -> None:
    try:
        assert parse_reason(text) in USABLE
    except Malformed as error:
        assert "keyCompromise" in error.message
