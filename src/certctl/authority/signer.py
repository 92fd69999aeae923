"""The one place that holds a CA's private key object: everyone else says `sign(key_ref, algorithm, tbs)`.

Drivers: the database-encrypted one (AES-256-GCM under the config key, the row's identity as associated data) is
`authority.keybox`; a PKCS#11 or KMS driver keeps this interface. Must never return, log or print a private key.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from certctl.pki.algorithms import SIGNATURE_OF, KeyAlgorithm, SignatureAlgorithm


class SealedKey(Struct, frozen=True):
    """A private key as it lies in the database: sealed, with its public half in the clear."""

    key_ref: str
    algorithm: KeyAlgorithm
    spki_der: bytes
    sealed: bytes


class Signer(Protocol):
    """Signs with keys it alone can use."""

    async def sign(self, key_ref: str, algorithm: SignatureAlgorithm, tbs: bytes) -> bytes:
        """The signature over `tbs`, encoded as X.509 wants it. ECDSA is deterministic (RFC 6979): twice is the same."""
        ...

    async def public_key(self, key_ref: str) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        ...


class IssuingCA(Struct, frozen=True):
    """One CA generation that may sign: its certificate, the chain above it, and the name of its key."""

    ca_certificate_id: str
    certificate_der: bytes
    chain_der: tuple[bytes, ...]
    key_ref: str
    key_algorithm: KeyAlgorithm

    @property
    def signature_algorithm(self) -> SignatureAlgorithm:
        """The algorithm this CA signs with."""
        return SIGNATURE_OF[self.key_algorithm]


class PkiAddresses(Struct, frozen=True):
    """Where relying parties find CRL, OCSP and CA certificates: plain HTTP, no slash at the end (RFC 5280 4.2.2.1)."""

    base_url: str

    def crl(self, ca_certificate_id: str, shard: int = 0) -> str:
        """CRL distribution point of one CA generation: its full CRL, or a shard from 1 on."""
        return f"{self.base_url}/.well-known/pki/crl/{ca_certificate_id}{f'/{shard}' if shard else ''}"

    def delta_crl(self, ca_certificate_id: str, shard: int = 0) -> str:
        """Where the delta to that CRL is."""
        return f"{self.crl(ca_certificate_id, shard)}/delta"

    def ocsp(self, ca_certificate_id: str) -> str:
        """OCSP responder of one CA generation."""
        return f"{self.base_url}/.well-known/pki/ocsp/{ca_certificate_id}"

    def certificate(self, ca_certificate_id: str) -> str:
        """The CA's own certificate, DER (caIssuers)."""
        return f"{self.base_url}/.well-known/pki/certs/{ca_certificate_id}"
