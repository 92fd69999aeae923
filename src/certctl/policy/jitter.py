"""Spread without chance: a fraction drawn from a text, so that many things due together do not all happen together.

The same text always gives the same fraction, so a decision is the same after a crash and on every replica.
"""

from __future__ import annotations

import hashlib


def fraction_of(seed: str) -> float:
    """A number from 0 up to, not including, 1, evenly spread over seeds."""
    # 52 bits: the largest count that a float divides without ever rounding up to 1
    return (int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big") >> 12) / (1 << 52)
