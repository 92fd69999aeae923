"""Sealing: round trips, another key, another row, any changed bit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.core.errors import Misconfigured, TrustError
from certctl.core.secret import Secret
from certctl.pki.seal import Sealer
from made_ca import SALT, sealer_of

SEALER = sealer_of()
SEALED = SEALER.seal(b"the key", "certctl/ca_keys/k-1")


@settings(deadline=None)
@given(plaintext=st.binary(max_size=500), row=st.text(max_size=40))
def test_what_is_sealed_opens_in_its_row(plaintext: bytes, row: str) -> None:
    sealed = SEALER.seal(plaintext, row)
    assert SEALER.unseal(sealed, row) == plaintext
    assert len(sealed) == 1 + 8 + 12 + len(plaintext) + 16
    assert sealed[:1] == b"\x04" and sealed[1:9].hex() == SEALER.key_id
    with pytest.raises(TrustError):
        SEALER.unseal(sealed, row + "x")


@settings(deadline=None)
@given(at=st.integers(0, len(SEALED) - 1), bit=st.integers(0, 7))
def test_any_changed_bit_is_found(at: int, bit: int) -> None:
    changed = SEALED[:at] + bytes([SEALED[at] ^ (1 << bit)]) + SEALED[at + 1 :]
    with pytest.raises((TrustError, Misconfigured)):
        SEALER.unseal(changed, "certctl/ca_keys/k-1")


@pytest.mark.parametrize("length", [0, 1, 9, 21, 36])
def test_cut_bytes_are_found(length: int) -> None:
    with pytest.raises(TrustError):
        SEALER.unseal(SEALED[:length], "certctl/ca_keys/k-1")


def test_sealing_twice_is_never_the_same() -> None:
    assert SEALER.seal(b"x", "r") != SEALER.seal(b"x", "r")


def test_another_passphrase_or_salt_is_another_key_and_says_what_to_do() -> None:
    for other in (sealer_of("another passphrase"), Sealer(Secret("correct horse battery staple"), SALT + b"x")):
        assert other.key_id != SEALER.key_id
        with pytest.raises(Misconfigured, match="set CERTCTL_CONFIG_ENCRYPTION_KEY to the value"):
            other.unseal(SEALED, "certctl/ca_keys/k-1")


def test_the_same_passphrase_is_the_same_key_in_every_process() -> None:
    assert Sealer(Secret("correct horse battery staple"), SALT).unseal(SEALED, "certctl/ca_keys/k-1") == b"the key"


def test_empty_passphrases_and_short_salts_are_refused() -> None:
    with pytest.raises(Misconfigured, match="CERTCTL_CONFIG_ENCRYPTION_KEY"):
        Sealer(Secret(""), SALT)
    with pytest.raises(Misconfigured, match="salt"):
        Sealer(Secret("x"), b"short")


def test_it_shows_its_key_id_only() -> None:
    assert repr(SEALER) == f"Sealer(key_id={SEALER.key_id})"
