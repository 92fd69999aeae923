"""Nonces (RFC 8555 6.5): each proves by itself that we made it and when; spending one writes it down, once.

So asking for nonces costs no query and fills no table, every replica knows those of all, and none is good twice.
"""

from __future__ import annotations

import hmac
import os
import struct
from datetime import UTC, datetime, timedelta

from certctl.core.errors import Malformed
from certctl.pki.seal import Sealer
from certctl.wire import jws

_TIME = struct.Struct(">Q")
_RANDOM_BYTES, _TAG_BYTES = 12, 16
_LENGTH = _TIME.size + _RANDOM_BYTES + _TAG_BYTES


class Nonces:
    """Makes and reads nonces under a key of this installation's own, for one purpose."""

    def __init__(self, sealer: Sealer, ttl: timedelta) -> None:
        self._key = sealer.derive("certctl/acme/nonces")
        self._ttl = ttl

    def make(self, now: datetime) -> str:
        """A fresh nonce."""
        body = _TIME.pack(int(now.timestamp() * 1000)) + os.urandom(_RANDOM_BYTES)
        return jws.encode(body + self._tag(body))

    def until(self, nonce: str, now: datetime) -> datetime | None:
        """Until when a nonce is good; None when it is not ours, or its time is over."""
        try:
            octets = jws.decode(nonce, "the nonce")
        except Malformed:
            return None
        body, tag = octets[:-_TAG_BYTES], octets[-_TAG_BYTES:]
        if len(octets) != _LENGTH or not hmac.compare_digest(tag, self._tag(body)):
            return None
        made = datetime.fromtimestamp(_TIME.unpack_from(body)[0] / 1000, UTC)
        # another replica's clock may be ahead of ours, by no more than a lifetime
        return made + self._ttl if now - self._ttl < made < now + self._ttl else None

    def _tag(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_TAG_BYTES]
