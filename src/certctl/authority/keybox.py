"""The database-encrypted signer: CA keys lie sealed in their rows and are opened in this process only.

Each key is bound to its row by the associated data `certctl/ca_keys/<key_ref>`: sealed bytes moved to another row do
not open. ECDSA is deterministic (RFC 6979): signing the same bytes again after a crash gives the same certificate.
Must never return, log or print a private key; nothing but `sign` uses one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from certctl.authority.signer import SealedKey
from certctl.core.errors import Misconfigured, TrustError
from certctl.pki.algorithms import SIGNATURE_OF, KeyAlgorithm, SignatureAlgorithm
from certctl.pki.keys import PrivateKey, generate_private_key, load_private_key, private_key_pem, spki_der
from certctl.pki.seal import Sealer

# what takes longer to hash than to hand to a thread
_LONG = 1 << 20
MAX_OPEN_KEYS = 256


class DatabaseSigner:
    """Signs with keys that `load` fetches by reference; `load` raises NotFound for an unknown one."""

    __slots__ = ("_load", "_open", "_sealer")

    def __init__(self, load: Callable[[str], Awaitable[SealedKey]], sealer: Sealer) -> None:
        self._load = load
        self._sealer = sealer
        self._open: dict[str, tuple[KeyAlgorithm, PrivateKey]] = {}

    @property
    def sealer(self) -> Sealer:
        """What seals this installation's secrets."""
        return self._sealer

    async def create_key(self, algorithm: KeyAlgorithm, key_ref: str) -> SealedKey:
        """Make a new key and seal it. The caller stores the row; this process can sign with it at once."""
        key = await asyncio.to_thread(generate_private_key, algorithm)
        self._remember(key_ref, algorithm, key)
        return SealedKey(
            key_ref=key_ref,
            algorithm=algorithm,
            spki_der=spki_der(key),
            sealed=self._sealer.seal(private_key_pem(key), associated_data(key_ref)),
        )

    async def sign(self, key_ref: str, algorithm: SignatureAlgorithm, tbs: bytes) -> bytes:
        """The signature over `tbs`. Raises Misconfigured when the key does not sign with `algorithm`."""
        key_algorithm, key = await self._key(key_ref)
        if SIGNATURE_OF[key_algorithm] is not algorithm:
            raise Misconfigured(f"key {key_ref} is {key_algorithm} and does not sign with {algorithm}")
        if isinstance(key, rsa.RSAPrivateKey):
            # A raw RSA signature takes up to milliseconds and lets the GIL go; the event loop must not wait for it.
            return await asyncio.to_thread(key.sign, tbs, padding.PKCS1v15(), hashes.SHA256())
        if len(tbs) > _LONG:
            return await asyncio.to_thread(_sign_curve, key, algorithm, tbs)
        return _sign_curve(key, algorithm, tbs)

    async def public_key(self, key_ref: str) -> bytes:
        """SubjectPublicKeyInfo (DER) of the key that this process can really open."""
        return spki_der((await self._key(key_ref))[1])

    async def _key(self, key_ref: str) -> tuple[KeyAlgorithm, PrivateKey]:
        found = self._open.get(key_ref)
        if found is not None:
            return found
        row = await self._load(key_ref)
        key = load_private_key(self._sealer.unseal(row.sealed, associated_data(key_ref)))
        if spki_der(key) != row.spki_der:
            raise TrustError(f"the sealed key {key_ref} does not belong to the public key of its row")
        self._remember(key_ref, row.algorithm, key)
        return row.algorithm, key

    def _remember(self, key_ref: str, algorithm: KeyAlgorithm, key: PrivateKey) -> None:
        while len(self._open) >= MAX_OPEN_KEYS:
            self._open.pop(next(iter(self._open)))
        self._open[key_ref] = (algorithm, key)

    def __repr__(self) -> str:
        return "DatabaseSigner()"


def associated_data(key_ref: str) -> str:
    """What a sealed CA key is bound to."""
    return f"certctl/ca_keys/{key_ref}"


def _sign_curve(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, algorithm: SignatureAlgorithm, tbs: bytes
) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(tbs)
    digest = hashes.SHA384() if algorithm is SignatureAlgorithm.ECDSA_SHA384 else hashes.SHA256()
    return key.sign(tbs, ec.ECDSA(digest, deterministic_signing=True))
