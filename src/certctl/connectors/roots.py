"""The roots that this machine trusts, as OpenSSL's own defaults name them (SSL_CERT_FILE, SSL_CERT_DIR), read once.

Only for judging what others serve; our own connections are verified by OpenSSL itself. What cannot be read is left out.
"""

from __future__ import annotations

import ssl as tls
from functools import lru_cache
from pathlib import Path

from certctl.core.errors import Malformed
from certctl.pki.pem import read_certificates

_MOST_FILE_BYTES = 8 * 1024 * 1024


@lru_cache(maxsize=1)
def system_roots() -> tuple[bytes, ...]:
    """Every certificate (DER) of the machine's trust store; none where there is no store."""
    paths = tls.get_default_verify_paths()
    found: dict[bytes, None] = {}
    if paths.cafile:
        found |= dict.fromkeys(_read(Path(paths.cafile)))
    if not found and paths.capath:
        for path in sorted(Path(paths.capath).glob("*.[0-9]")):
            found |= dict.fromkeys(_read(path))
    return tuple(found)


def _read(path: Path) -> tuple[bytes, ...]:
    try:
        if path.stat().st_size > _MOST_FILE_BYTES:
            return ()
        return read_certificates(path.read_bytes())
    except (OSError, Malformed):
        return ()
