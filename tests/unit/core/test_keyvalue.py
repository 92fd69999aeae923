from __future__ import annotations

import re
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.keyvalue import may_be_key, new_value

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def test_what_is_made_is_taken_and_found_by_a_scanner():
    values = {new_value().reveal() for _ in range(200)}
    assert len(values) == 200
    for value in values:
        assert may_be_key(value)
        assert re.fullmatch("ctk_[0-9A-Za-z]{46}", value)


@given(st.integers(4, 49), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_seen(place, letter):
    value = new_value().reveal()
    wrong = value[:place] + letter + value[place + 1 :]
    assert may_be_key(wrong) == (wrong == value)


@given(st.integers(4, 48))
def test_two_characters_swapped_are_seen(place):
    value = new_value().reveal()
    wrong = value[:place] + value[place + 1] + value[place] + value[place + 2 :]
    assert may_be_key(wrong) == (wrong == value)


@pytest.mark.parametrize("cut", [4, 20, 48, 49])
def test_a_value_cut_short_is_seen(cut):
    assert not may_be_key(new_value().reveal()[:cut])


def test_keys_from_before_the_checksum_stay_good():
    for _ in range(50):
        assert may_be_key(f"ctk_{secrets.token_urlsafe(32)}")


@given(st.text(max_size=80))
def test_any_text_is_judged(text):
    assert may_be_key("ctk_" + text) in {True, False}
    if not text.startswith("ctk_"):
        assert may_be_key(text)
