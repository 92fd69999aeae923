"""Pages of other origins: refused unless listed (the Fetch standard's CORS protocol). `*` is never among the listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_METHODS = "GET, POST, PUT, PATCH, DELETE"
_HEADERS = "Authorization, Content-Type, X-CSRF-Token, If-Match, If-None-Match, Idempotency-Key"
_EXPOSED = "ETag, Location, Retry-After, X-Request-Id"

Headers = list[tuple[bytes, bytes]]


def cors_headers(headers: Mapping[str, str], origins: Sequence[str]) -> Headers:
    """What every answer to a request carries where origins are listed; nothing for those that are not."""
    if not origins:
        return []
    vary = [(b"vary", b"Origin")]
    origin = headers.get("origin", "")
    if origin not in origins:
        return vary
    return [
        *vary,
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", _EXPOSED.encode()),
    ]


def preflight(method: str, headers: Mapping[str, str], origins: Sequence[str]) -> Headers | None:
    """The answer to a browser that asks first; None when this is no such question, or not from a listed origin."""
    asks = method == "OPTIONS" and "access-control-request-method" in headers
    if not asks or headers.get("origin", "") not in origins:
        return None
    return [
        (b"access-control-allow-methods", _METHODS.encode()),
        (b"access-control-allow-headers", _HEADERS.encode()),
        (b"access-control-max-age", b"600"),
    ]
