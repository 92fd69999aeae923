"""Opens what the reference product has sealed at rest, for whoever moves over; never seals in its formats.

AES-256-GCM under PBKDF2-HMAC-SHA256 (RFC 8018) of its CERTCTL_CONFIG_ENCRYPTION_KEY, no associated data:

    v3   0x03 | salt (16) | nonce (12) | ciphertext and tag    600,000 rounds
    v2   0x02 | salt (16) | nonce (12) | ciphertext and tag    100,000 rounds
    v1   nonce (12) | ciphertext and tag                       100,000 rounds, one salt for all

A v1 value may begin with 0x02 or 0x03 by chance: what does not open as the one is tried as the other. Never prints
passphrase, key or plaintext.
"""

from __future__ import annotations

import binascii
import hashlib
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certctl.core.errors import Misconfigured, TrustError
from certctl.core.secret import Secret

_SALT_BYTES, _NONCE_BYTES, _TAG_BYTES = 16, 12, 16
_ROUNDS = {0x03: 600_000, 0x02: 100_000}
_FIRST_SALT, _FIRST_ROUNDS = b"certctl-config-encryption-v1", 100_000
_BYTEA = re.compile(r"\\x(?:[0-9a-fA-F]{2})*")


def read_bytea(text: str) -> bytes:
    r"""A `bytea` as PostgreSQL writes it (`\x6869`). Raises ValueError for anything else."""
    if not _BYTEA.fullmatch(text):
        raise ValueError("is no bytea as PostgreSQL writes it (\\x and hex digits)")
    return binascii.unhexlify(text[2:])


class ReferenceSeal:
    """Opens under one passphrase. Each salt costs a derivation, a good part of a second, once."""

    def __init__(self, passphrase: Secret) -> None:
        """Raises Misconfigured for an empty one."""
        if not passphrase:
            raise Misconfigured("the reference product's CERTCTL_CONFIG_ENCRYPTION_KEY is empty")
        self._passphrase = passphrase
        self._ciphers: dict[tuple[bytes, int], AESGCM] = {}

    def open(self, sealed: bytes, name: str) -> bytes:
        """The plaintext of the value called `name`. Raises TrustError for what is too short to be one, Misconfigured
        where it does not open: the passphrase is another, or the value was changed; AES-GCM does not say which.
        """
        if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
            raise TrustError(f"{name} is no sealed value of the reference product: it has {len(sealed)} bytes")
        rounds = _ROUNDS.get(sealed[0])
        if rounds is not None and len(sealed) >= 1 + _SALT_BYTES + _NONCE_BYTES + _TAG_BYTES:
            opened = self._try(sealed[1 + _SALT_BYTES :], sealed[1 : 1 + _SALT_BYTES], rounds)
            if opened is not None:
                return opened
        opened = self._try(sealed, _FIRST_SALT, _FIRST_ROUNDS)
        if opened is None:
            raise Misconfigured(
                f"{name} does not open: the passphrase is not the CERTCTL_CONFIG_ENCRYPTION_KEY that it was sealed "
                "with, or the value was changed"
            )
        return opened

    def _try(self, boxed: bytes, salt: bytes, rounds: int) -> bytes | None:
        try:
            return self._cipher(salt, rounds).decrypt(boxed[:_NONCE_BYTES], boxed[_NONCE_BYTES:], None)
        except InvalidTag:
            return None

    def _cipher(self, salt: bytes, rounds: int) -> AESGCM:
        if (salt, rounds) not in self._ciphers:
            key = hashlib.pbkdf2_hmac("sha256", self._passphrase.reveal().encode(), salt, rounds, dklen=32)
            self._ciphers[salt, rounds] = AESGCM(key)
        return self._ciphers[salt, rounds]

    def __repr__(self) -> str:
        return "ReferenceSeal([redacted])"
