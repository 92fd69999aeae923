"""Secrets at rest: AES-256-GCM under a key derived from CERTCTL_CONFIG_ENCRYPTION_KEY (PBKDF2, RFC 8018).

Layout: 0x04 | key id (8 bytes) | nonce (12) | ciphertext and tag. The associated data is the identity of the row: so
sealed bytes moved to another row do not open. Never prints key, passphrase or plaintext.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certctl.core.errors import Misconfigured, TrustError
from certctl.core.secret import Secret

LAYOUT = b"\x04"
ITERATIONS = 600_000
_ID_BYTES, _NONCE_BYTES, _TAG_BYTES = 8, 12, 16
_HEADER_BYTES = len(LAYOUT) + _ID_BYTES
_LEAST_BYTES = _HEADER_BYTES + _NONCE_BYTES + _TAG_BYTES


def key_id_of(sealed: bytes) -> str:
    """The key id (hex) that a sealed value names; empty for what has another form."""
    return sealed[1:_HEADER_BYTES].hex() if len(sealed) >= _LEAST_BYTES and sealed[:1] == LAYOUT else ""


class Sealer:
    """Seals and unseals under one key. Make one a process: the derivation takes a good part of a second."""

    __slots__ = ("_cipher", "_key_id", "_root")

    def __init__(self, passphrase: Secret, salt: bytes) -> None:
        """`salt` is stored beside the data and is not secret: at least 16 bytes. Raises Misconfigured."""
        if not passphrase:
            raise Misconfigured(
                "CERTCTL_CONFIG_ENCRYPTION_KEY is empty; set it to a random text of 32 characters or more"
            )
        if len(salt) < 16:
            raise Misconfigured("the salt of the configuration key has fewer than 16 bytes")
        key = hashlib.pbkdf2_hmac("sha256", passphrase.reveal().encode(), salt, ITERATIONS, dklen=32)
        self._cipher = AESGCM(key)
        self._key_id = hmac.digest(key, b"certctl/config-key/id", "sha256")[:_ID_BYTES]
        self._root = hmac.digest(key, b"certctl/config-key/derive", "sha256")

    @property
    def key_id(self) -> str:
        """Which key this is, hex: two processes with the same passphrase and salt have the same."""
        return self._key_id.hex()

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose, the same in every process of this installation; says nothing of ours."""
        return hmac.digest(self._root, purpose.encode(), "sha256")

    def seal(self, plaintext: bytes, associated_data: str) -> bytes:
        """Encrypt `plaintext`, bound to `associated_data` (the row: `certctl/<table>/<id>`)."""
        nonce = os.urandom(_NONCE_BYTES)
        return LAYOUT + self._key_id + nonce + self._cipher.encrypt(nonce, plaintext, self._bind(associated_data))

    def unseal(self, sealed: bytes, associated_data: str) -> bytes:
        """Decrypt. Raises Misconfigured under another key, TrustError for bytes that were changed or moved."""
        if len(sealed) < _LEAST_BYTES or sealed[:1] != LAYOUT:
            raise TrustError(f"the sealed value of {associated_data} has an unknown form")
        if sealed[1:_HEADER_BYTES] != self._key_id:
            raise Misconfigured(
                f"{associated_data} was sealed under another configuration key ({sealed[1:_HEADER_BYTES].hex()}, this"
                f" process has {self.key_id}): set CERTCTL_CONFIG_ENCRYPTION_KEY to the value it was sealed with"
            )
        nonce, ciphertext = sealed[_HEADER_BYTES : _HEADER_BYTES + _NONCE_BYTES], sealed[_HEADER_BYTES + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, ciphertext, self._bind(associated_data))
        except InvalidTag as error:
            raise TrustError(f"the sealed value of {associated_data} was changed, or belongs to another row") from error

    def _bind(self, associated_data: str) -> bytes:
        # Layout and key id are authenticated with the row's identity.
        return LAYOUT + self._key_id + associated_data.encode()

    def __repr__(self) -> str:
        return f"Sealer(key_id={self.key_id})"
