"""Private and public keys: make, write, read, describe (RSA of RFC 8017, ECDSA of RFC 5480, Ed25519 of RFC 8410).

Pure: never touches a file, never prints a private key. Weak and unknown keys are named, not silently accepted.
"""

from __future__ import annotations

import hashlib
import math
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from msgspec import Struct

from certctl.core.errors import Malformed, TrustError, Violation
from certctl.pki.algorithms import KeyAlgorithm

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_RSA_SIZES = {KeyAlgorithm.RSA_2048: 2048, KeyAlgorithm.RSA_3072: 3072, KeyAlgorithm.RSA_4096: 4096}
_RSA_LEAST, _RSA_MOST = 2048, 8192
_SMALL_PRIMES = [n for n in range(3, 752) if all(n % d for d in range(2, math.isqrt(n) + 1))]
_SMALL_PRIME_PRODUCT = math.prod(_SMALL_PRIMES)


class KeyFacts(Struct, frozen=True):
    """A public key in words: `kind` is RSA, ECDSA, Ed25519 (or the name of a kind certctl does not accept)."""

    kind: str
    size_bits: int
    curve: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.curve or self.size_bits}".removesuffix(" 0") if self.kind != "Ed25519" else self.kind


class _Curve(Struct, frozen=True):
    """y^2 = x^3 - 3x + b over the integers modulo p (SEC 2), and how the SubjectPublicKeyInfo of a point begins."""

    name: str
    octets: int
    p: int
    b: int
    prefix: bytes


_PLAIN = (
    _Curve(
        "P-256",
        32,
        2**256 - 2**224 + 2**192 + 2**96 - 1,
        0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
        bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"),
    ),
    _Curve(
        "P-384",
        48,
        2**384 - 2**128 - 2**96 + 2**32 - 1,
        0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
        bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004"),
    ),
)


def generate_private_key(algorithm: KeyAlgorithm) -> PrivateKey:
    """A new private key; RSA takes tens of milliseconds and more, so call it in a thread."""
    if algorithm in _RSA_SIZES:
        return rsa.generate_private_key(public_exponent=65537, key_size=_RSA_SIZES[algorithm])
    if algorithm is KeyAlgorithm.ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1() if algorithm is KeyAlgorithm.ECDSA_P256 else ec.SECP384R1())


def private_key_pem(key: PrivateKey) -> bytes:
    """PKCS#8 in PEM, unencrypted: whoever asks for it writes it to a file of mode 0600 or seals it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_private_key(pem: bytes) -> PrivateKey:
    """Read an unencrypted PEM private key (PKCS#8, SEC 1 or PKCS#1). Raises Malformed, without the text."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _fault("private_key_has_wrong_form", "the private key cannot be read (PEM, unencrypted)") from error
    if not isinstance(key, PrivateKey):
        raise _fault("key_kind_is_unsupported", f"{type(key).__name__} is not supported; use RSA, ECDSA or Ed25519")
    return key


def spki_der(key: PrivateKey | PublicKey) -> bytes:
    """SubjectPublicKeyInfo of a private or public key, DER."""
    public = key.public_key() if isinstance(key, PrivateKey) else key
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def spki_sha256(spki_der: bytes) -> str:
    """SHA-256 of a SubjectPublicKeyInfo, lowercase hex: the name of a key."""
    return hashlib.sha256(spki_der).hexdigest()


def load_public_key(spki_der: bytes) -> PublicKey:
    """Read a SubjectPublicKeyInfo, DER. Raises Malformed."""
    try:
        key = serialization.load_der_public_key(spki_der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _fault("public_key_has_wrong_form", "the public key cannot be read") from error
    if not isinstance(key, PublicKey):
        raise _fault("key_kind_is_unsupported", f"{type(key).__name__} is not supported; use RSA, ECDSA or Ed25519")
    return key


def key_facts(public_key: object) -> KeyFacts:
    """Describe any public key, weak and unknown ones too: for certificates that were found, not asked for."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return KeyFacts("RSA", public_key.key_size)
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        name = public_key.curve.name
        return KeyFacts("ECDSA", public_key.curve.key_size, _CURVES.get(name, name))
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return KeyFacts("Ed25519", 256)
    return KeyFacts(type(public_key).__name__.removesuffix("PublicKey").lstrip("_"), 0)


def key_facts_of_plain(spki_der: bytes) -> KeyFacts | None:
    """`key_facts` of a SubjectPublicKeyInfo, DER, that is an uncompressed point on P-256 or P-384 (RFC 5480 2), without
    the library, which builds the curve anew for each. None for every other, and for a point that is not on its curve.
    """
    for curve in _PLAIN:
        if spki_der.startswith(curve.prefix) and len(spki_der) == len(curve.prefix) + 2 * curve.octets:
            middle = len(spki_der) - curve.octets
            x, y = (int.from_bytes(part, "big") for part in (spki_der[len(curve.prefix) : middle], spki_der[middle:]))
            p = curve.p
            # the cofactor is one: every point on the curve is a public key
            is_key = x < p and y < p and (y * y - (x * x - 3) * x - curve.b) % p == 0
            return KeyFacts("ECDSA", 8 * curve.octets, curve.name) if is_key else None
    return None


def describe_key(public_key: object) -> KeyFacts:
    """Describe a key that certctl may certify. Raises Malformed naming what is unsupported or weak."""
    facts = key_facts(public_key)
    if isinstance(public_key, rsa.RSAPublicKey):
        _check_rsa(public_key)
    elif facts.kind == "ECDSA" and facts.curve not in _CURVES.values():
        raise _fault("key_curve_is_unsupported", f"curve {facts.curve} is not supported; use P-256, P-384 or P-521")
    elif facts.kind not in {"ECDSA", "Ed25519"}:
        raise _fault("key_kind_is_unsupported", f"{facts.kind} keys are not supported; use RSA, ECDSA or Ed25519")
    return facts


def _check_rsa(key: rsa.RSAPublicKey) -> None:
    if not _RSA_LEAST <= key.key_size <= _RSA_MOST:
        raise _fault(
            "key_size_is_not_allowed", f"RSA key of {key.key_size} bits; {_RSA_LEAST} to {_RSA_MOST} are accepted"
        )
    numbers = key.public_numbers()
    # CA/Browser Forum BR 6.1.6: an odd exponent from 2^16+1 to 2^256-1, a modulus without small factors.
    if numbers.e % 2 == 0 or not 65537 <= numbers.e < 1 << 256:
        raise _fault("key_exponent_is_not_allowed", f"RSA exponent {numbers.e} is not allowed; use 65537")
    if numbers.n % 2 == 0 or math.gcd(numbers.n, _SMALL_PRIME_PRODUCT) != 1:
        raise _fault("key_modulus_is_weak", "RSA modulus has a small factor")


def public_key_matches(private_key_pem: bytes, certificate_der: bytes) -> None:
    """Check that a private key (PEM) belongs to a certificate (DER). Raises TrustError, or Malformed if unreadable."""
    key = load_private_key(private_key_pem)
    try:
        certified = x509.load_der_x509_certificate(certificate_der).public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise _fault("certificate_has_wrong_form", "the certificate cannot be read") from error
    if not isinstance(certified, PublicKey) or spki_der(certified) != spki_der(key):
        raise TrustError("the private key does not belong to the certificate")


def _fault(rule: str, message: str) -> Malformed:
    return Malformed(message, violations=(Violation(rule, message, "key"),))


def subject_key_identifier(public_key: PublicKey) -> bytes:
    """20 bytes: the leftmost 160 bits of SHA-256 over the subjectPublicKey bits (RFC 7093 2, method 1)."""
    if isinstance(public_key, rsa.RSAPublicKey):
        encoding, form = serialization.Encoding.DER, serialization.PublicFormat.PKCS1
    elif isinstance(public_key, ec.EllipticCurvePublicKey):
        encoding, form = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    else:
        encoding, form = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    return hashlib.sha256(public_key.public_bytes(encoding, form)).digest()[:20]
