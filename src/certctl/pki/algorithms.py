"""Key and signature algorithms certctl knows, by name; shared by CA, agent and policy."""

from __future__ import annotations

from enum import StrEnum


class KeyAlgorithm(StrEnum):
    """Key types certctl makes and accepts, in the reference product's spelling."""

    ECDSA_P256 = "ECDSA-P256"
    ECDSA_P384 = "ECDSA-P384"
    RSA_2048 = "RSA-2048"
    RSA_3072 = "RSA-3072"
    RSA_4096 = "RSA-4096"
    ED25519 = "Ed25519"


class SignatureAlgorithm(StrEnum):
    """Signature algorithms of certificates, CRLs and OCSP answers (RFC 5758, RFC 4055, RFC 8410)."""

    ECDSA_SHA256 = "ecdsa-with-SHA256"
    ECDSA_SHA384 = "ecdsa-with-SHA384"
    RSA_SHA256 = "sha256WithRSAEncryption"
    ED25519 = "Ed25519"


SIGNATURE_OF: dict[KeyAlgorithm, SignatureAlgorithm] = {
    KeyAlgorithm.ECDSA_P256: SignatureAlgorithm.ECDSA_SHA256,
    KeyAlgorithm.ECDSA_P384: SignatureAlgorithm.ECDSA_SHA384,
    KeyAlgorithm.RSA_2048: SignatureAlgorithm.RSA_SHA256,
    KeyAlgorithm.RSA_3072: SignatureAlgorithm.RSA_SHA256,
    KeyAlgorithm.RSA_4096: SignatureAlgorithm.RSA_SHA256,
    KeyAlgorithm.ED25519: SignatureAlgorithm.ED25519,
}
