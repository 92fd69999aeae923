"""The files that pages load: read once, told by content hash, so that a browser may keep them for ever.

Vendored ones stand in `static/vendor.json` with version, origin, licence and SHA-256; a test compares.
"""

from __future__ import annotations

import gzip
import hashlib
from functools import lru_cache
from pathlib import Path

from msgspec import Struct

ROOT = "/static/"
_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Asset(Struct, frozen=True, kw_only=True):
    """One file, plain and compressed."""

    media_type: str
    plain: bytes
    packed: bytes
    digest: str


@lru_cache(maxsize=1)
def assets() -> dict[str, Asset]:
    """Every file by its name."""
    found = {}
    for path in sorted(_FOLDER.iterdir()):
        if path.suffix in _TYPES:
            plain = path.read_bytes()
            found[path.name] = Asset(
                media_type=_TYPES[path.suffix],
                plain=plain,
                packed=gzip.compress(plain, mtime=0),
                digest=hashlib.sha256(plain).hexdigest()[:16],
            )
    return found


def address(name: str) -> str:
    """Where a page finds a file."""
    return f"{ROOT}{assets()[name].digest}/{name}"
