"""Keys of certificates that nothing is served with: thrown away once their CSR is made.

Curve keys are fresh each time. A fresh RSA key costs a hundred times as much as all the rest, so RSA moduli are
products of two out of a few fresh primes: whoever gathers enough of them could factor them, and would find nothing.
"""

from __future__ import annotations

import random

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certctl.core.names import Name
from certctl.pki.csr import build_csr

_EXPONENT = 65537
_KEYS_FOR_PRIMES = 20


class Keys:
    """Makes CSRs."""

    def __init__(self, seed: int) -> None:
        self._lot = random.Random(f"{seed}/keys")  # noqa: S311 - which primes go together guards nothing
        self._primes: list[int] = []

    def csr(self, algorithm: str, common_name: str, names: tuple[Name, ...]) -> bytes:
        """A CSR (DER) for a key that nobody has afterwards."""
        key = self._rsa() if algorithm.startswith("RSA") else ec.generate_private_key(ec.SECP256R1())
        return build_csr(key, common_name, names)

    def _rsa(self) -> rsa.RSAPrivateKey:
        if not self._primes:
            for _ in range(_KEYS_FOR_PRIMES):
                made = rsa.generate_private_key(_EXPONENT, 2048).private_numbers()
                self._primes += [made.p, made.q]
        p, q = self._lot.sample(self._primes, 2)
        d = pow(_EXPONENT, -1, (p - 1) * (q - 1))
        numbers = rsa.RSAPrivateNumbers(
            p=p, q=q, d=d, dmp1=d % (p - 1), dmq1=d % (q - 1), iqmp=pow(q, -1, p),
            public_numbers=rsa.RSAPublicNumbers(_EXPONENT, p * q),
        )  # fmt: skip
        return numbers.private_key(unsafe_skip_rsa_key_validation=True)
