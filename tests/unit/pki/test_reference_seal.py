"""The reference product's three stored formats, against an implementation of their description that is none of ours."""

from __future__ import annotations

import functools

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.core.errors import Misconfigured, TrustError
from certctl.core.secret import Secret
from certctl.pki.reference_seal import ReferenceSeal, read_bytea

PASSPHRASE = "the passphrase of the old house, long enough"
PLAIN = b'{"api_key":"s3cret"}'
SALT, NONCE = bytes(range(16)), bytes(range(100, 112))


@functools.cache
def derived(salt: bytes, rounds: int) -> bytes:
    return PBKDF2HMAC(hashes.SHA256(), 32, salt, rounds).derive(PASSPHRASE.encode())


def gcm(key: bytes, nonce: bytes, plain: bytes = PLAIN) -> bytes:
    writing = Cipher(algorithms.AES(key), modes.GCM(nonce)).encryptor()
    return nonce + writing.update(plain) + writing.finalize() + writing.tag


def first(nonce: bytes = NONCE) -> bytes:
    return gcm(derived(b"certctl-config-encryption-v1", 100_000), nonce)


SEALED = {
    "v3": b"\x03" + SALT + gcm(derived(SALT, 600_000), NONCE),
    "v2": b"\x02" + SALT + gcm(derived(SALT, 100_000), NONCE),
    "v1": first(),
    "v1 that begins as v3": first(b"\x03" + NONCE[1:]),
    "v1 that begins as v2": first(b"\x02" + NONCE[1:]),
}
OURS = ReferenceSeal(Secret(PASSPHRASE))


@pytest.mark.parametrize("form", SEALED)
def test_each_stored_form_opens(form):
    assert OURS.open(SEALED[form], "a row") == PLAIN


def test_exact_bytes():
    """What the other implementation wrote once stands here as bytes: neither may drift from it."""
    assert SEALED["v2"].hex() == VECTOR_2
    assert SEALED["v1"].hex() == VECTOR_1


VECTOR_1 = "6465666768696a6b6c6d6e6ffe6855501cc597dc1cf40ecd34ba657ad9a10d27565c84f10a2d3947e221a0d6e9aa3958"
VECTOR_2 = (
    "02000102030405060708090a0b0c0d0e0f6465666768696a6b6c6d6e6f93c51690070e42c2ce4c65642f92680b270ae059d0"
    "dbb88b376fa158332bf6576c5904dc"
)


@pytest.mark.parametrize("form", ["v3", "v2", "v1"])
def test_another_passphrase_is_told_plainly_and_shown_nowhere(form):
    wrong = ReferenceSeal(Secret("another passphrase, of enough length"))
    with pytest.raises(
        Misconfigured, match="a row does not open: the passphrase is not the CERTCTL_CONFIG_ENCRY"
    ) as no:
        wrong.open(SEALED[form], "a row")
    assert "another passphrase" not in str(no.value) + repr(wrong)
    with pytest.raises(Misconfigured):
        ReferenceSeal(Secret(""))


@settings(deadline=None, max_examples=60)
@given(form=st.sampled_from(["v2", "v1"]), at=st.integers(17, 60), bit=st.integers(0, 7))
def test_any_changed_bit_is_found(form, at, bit):
    sealed = SEALED[form]
    at = at % len(sealed) if form == "v1" else 17 + at % (len(sealed) - 17)
    changed = sealed[:at] + bytes([sealed[at] ^ (1 << bit)]) + sealed[at + 1 :]
    with pytest.raises(Misconfigured):
        OURS.open(changed, "a row")


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=90).filter(lambda one: one[:1] not in {b"\x02", b"\x03"}))
def test_no_bytes_make_it_fall(noise):
    with pytest.raises((TrustError, Misconfigured)):
        OURS.open(noise, "a row")


@pytest.mark.parametrize("length", [0, 1, 12, 27, 28, 44, 45])
def test_what_was_cut_off_is_refused(length):
    with pytest.raises((TrustError, Misconfigured)):
        OURS.open(SEALED["v2"][:length], "a row")


@given(st.binary(max_size=40))
def test_bytea_as_postgresql_prints_it(value):
    assert read_bytea("\\x" + value.hex()) == value


@pytest.mark.parametrize("text", ["", "x00", "\\x0", "\\xzz", "0x00", "\\x00\n", "\\X00"])
def test_other_text_is_no_bytea(text):
    with pytest.raises(ValueError, match="bytea"):
        read_bytea(text)
