"""The two cookies of a browser session (RFC 6265, its `__Host-` prefix), and the token against forged requests.

`__Host-certctl_session` is the session's token, out of reach of scripts; `__Host-certctl_csrf` is read by our own
pages, which send it as X-CSRF-Token with every request that changes something. Another origin can make a browser send
the first, but can read neither.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from certctl.control.enrolment import digest
from certctl.control.sessions import Begun
from certctl.core.errors import NotAllowed
from certctl.core.rules import SessionRules
from certctl.core.secret import Secret

SESSION_COOKIE = "__Host-certctl_session"
CSRF_COOKIE = "__Host-certctl_csrf"
CSRF_HEADER = "x-csrf-token"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def session_token(headers: Mapping[str, str]) -> Secret | None:
    """The session token that a browser sent; None when there is none, two different ones, or no such form."""
    found = set()
    for pair in headers.get("cookie", "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == SESSION_COOKIE:
            found.add(value.strip('"'))
    if len(found) != 1:
        return None
    value = found.pop()
    return Secret(value) if _TOKEN.fullmatch(value) else None


def check_csrf(csrf_hash: str, method: str, headers: Mapping[str, str]) -> None:
    """NotAllowed for a request that changes something and does not prove that our own page sent it.

    `csrf_hash` is that of the session whose cookie made the caller known, or empty when no cookie did.
    """
    if not csrf_hash or method in _SAFE:
        return
    sent = headers.get(CSRF_HEADER, "")
    if not _TOKEN.fullmatch(sent) or not hmac.compare_digest(digest(Secret(sent)), csrf_hash):
        raise NotAllowed(f"send the value of the cookie {CSRF_COOKIE} as X-CSRF-Token with what changes something")


class BrowserCookie(Struct, frozen=True, kw_only=True):
    """One cookie to set, for this host and every path, over TLS alone; `max_age` in seconds, 0 removes it."""

    name: str
    value: str
    max_age: int
    http_only: bool

    def attributes(self, rules: SessionRules) -> dict[str, Any]:
        """The cookie as a web framework is told of it (RFC 6265 4.1)."""
        return {
            "key": self.name,
            "value": self.value,
            "max_age": self.max_age,
            "path": "/",
            "secure": True,
            "httponly": self.http_only,
            "samesite": "strict" if rules.same_site == "strict" else "lax",
        }


def cookies_of(begun: Begun, rules: SessionRules) -> list[BrowserCookie]:
    """What gives a browser its session."""
    seconds = int(rules.absolute.total_seconds())
    return [
        BrowserCookie(name=SESSION_COOKIE, value=begun.token.reveal(), max_age=seconds, http_only=True),
        BrowserCookie(name=CSRF_COOKIE, value=begun.csrf.reveal(), max_age=seconds, http_only=False),
    ]


def no_cookies() -> list[BrowserCookie]:
    """What takes it away."""
    return [
        BrowserCookie(name=SESSION_COOKIE, value="", max_age=0, http_only=True),
        BrowserCookie(name=CSRF_COOKIE, value="", max_age=0, http_only=False),
    ]
