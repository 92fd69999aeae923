"""Pages of other origins: refused unless listed (the Fetch standard's CORS protocol).

`*` is never among the listed where cookies and keys open a door; where every call proves itself by its own signature
(ACME, RFC 8555 6.1) it may be, and nothing is ever sent with credentials there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

Headers = list[tuple[bytes, bytes]]
_ANYWHERE = "*"


class Spoken(Struct, frozen=True, kw_only=True):
    """What a door says to pages of other origins: methods, headers they may send and read, whether as a known user."""

    methods: str
    sent: str
    read: str
    credentials: bool


PAGES = Spoken(
    methods="GET, POST, PUT, PATCH, DELETE",
    sent="Authorization, Content-Type, X-CSRF-Token, If-Match, If-None-Match, Idempotency-Key",
    read="ETag, Location, Retry-After, X-Request-Id",
    credentials=True,
)
SIGNED = Spoken(
    methods="GET, HEAD, POST",
    sent="Content-Type",
    read="Link, Location, Replay-Nonce, Retry-After, X-Request-Id",
    credentials=False,
)


def cors_headers(headers: Mapping[str, str], origins: Sequence[str], spoken: Spoken = PAGES) -> Headers:
    """What every answer to a request carries where origins are listed; nothing for those that are not."""
    if not origins:
        return []
    origin = headers.get("origin", "")
    if not spoken.credentials and _ANYWHERE in origins:
        named, vary = _ANYWHERE, []
    else:
        named, vary = origin, [(b"vary", b"Origin")]
        if origin not in origins:
            return vary
    allowed = [*vary, (b"access-control-allow-origin", named.encode("latin-1"))]
    if spoken.credentials:
        allowed.append((b"access-control-allow-credentials", b"true"))
    return [*allowed, (b"access-control-expose-headers", spoken.read.encode())]


def preflight(
    method: str, headers: Mapping[str, str], origins: Sequence[str], spoken: Spoken = PAGES
) -> Headers | None:
    """The answer to a browser that asks first; None when this is no such question, or not from a listed origin."""
    asks = method == "OPTIONS" and "access-control-request-method" in headers
    anywhere = not spoken.credentials and _ANYWHERE in origins
    if not asks or not (anywhere or headers.get("origin", "") in origins):
        return None
    return [
        (b"access-control-allow-methods", spoken.methods.encode()),
        (b"access-control-allow-headers", spoken.sent.encode()),
        (b"access-control-max-age", b"600"),
    ]
