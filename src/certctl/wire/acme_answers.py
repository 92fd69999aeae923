"""What ACME servers answer (RFC 8555 7, RFC 9773 4, the profiles extension), as a client reads it. Pure.

Fields that are not known are ignored; an answer of a wrong form is a TrustError that echoes nothing of it. Addresses
that an answer names are https, without user names: where they lead is for the dialler to judge.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from certctl.core.errors import TrustError
from certctl.wire.acme import Identifier
from certctl.wire.problem import PREFIX

StructT = TypeVar("StructT", bound=Struct)
_MOST_TEXT = 400
_MOST_SUBPROBLEMS = 100
_LINK = re.compile(r'<([^<>]*)>((?:\s*;\s*[A-Za-z0-9!#$&+.^_`|~*-]+\s*=\s*(?:"[^"]*"|[^\s",;]+))*)')


class Meta(Struct, frozen=True, rename="camel"):
    """RFC 8555 7.1.1; `profiles` of the extension: name -> what it is."""

    terms_of_service: str = ""
    caa_identities: list[str] = []
    external_account_required: bool = False
    profiles: dict[str, str] = {}


class Directory(Struct, frozen=True, rename="camel"):
    """RFC 8555 7.1.1."""

    new_nonce: str
    new_account: str
    new_order: str
    revoke_cert: str = ""
    key_change: str = ""
    renewal_info: str = ""
    meta: Meta = Meta()


class AccountAnswer(Struct, frozen=True):
    """RFC 8555 7.1.2."""

    status: str
    orders: str = ""


class OrdersAnswer(Struct, frozen=True):
    """RFC 8555 7.1.2.1."""

    orders: list[str]


class OrderAnswer(Struct, frozen=True):
    """RFC 8555 7.1.3. `error` is a problem document."""

    status: str
    identifiers: list[Identifier]
    authorizations: list[str]
    finalize: str
    certificate: str = ""
    error: dict[str, Any] | None = None


class ChallengeAnswer(Struct, frozen=True):
    """RFC 8555 7.1.5, 8."""

    type: str
    url: str
    status: str = "pending"
    token: str = ""
    error: dict[str, Any] | None = None


class AuthorizationAnswer(Struct, frozen=True):
    """RFC 8555 7.1.4."""

    identifier: Identifier
    status: str
    challenges: list[ChallengeAnswer]
    wildcard: bool = False


class _Window(Struct, frozen=True):
    start: datetime
    end: datetime


class RenewalInfo(
    Struct, frozen=True, rename={"suggested_window": "suggestedWindow", "explanation_url": "explanationURL"}
):
    """RFC 9773 4.2."""

    suggested_window: _Window
    explanation_url: str = ""

    @property
    def start(self) -> datetime:
        """When the window begins, UTC."""
        return self.suggested_window.start.astimezone(UTC)

    @property
    def end(self) -> datetime:
        """When it ends, UTC; after `start`."""
        return self.suggested_window.end.astimezone(UTC)


class Problem(Struct, frozen=True):
    """A problem document (RFC 9457), bounded and printable. `kind` is the type without ACME's prefix.

    `identifiers` holds, for each subproblem, the identifier it is about, its kind and its detail.
    """

    kind: str
    detail: str
    status: int = 0
    instance: str = ""
    identifiers: tuple[tuple[str, str, str], ...] = ()


def read(body: bytes, kind: type[StructT], what: str) -> StructT:
    """An answer as `kind`. Raises TrustError."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TrustError(f"the CA's answer is no {what}", detail=str(error)) from error


def read_renewal_info(body: bytes) -> RenewalInfo:
    """RFC 9773 4.2: TrustError also for a window that ends before it begins, or without a time zone."""
    found = read(body, RenewalInfo, "renewal information")
    window = found.suggested_window
    try:
        fits = window.start.tzinfo is not None and window.end.tzinfo is not None and found.start < found.end
    except OverflowError:
        fits = False
    if not fits:
        raise TrustError("the CA's renewal window has no length or no time zone")
    return found


def read_problem(data: object, status: int = 0) -> Problem:
    """A problem document, from its JSON or already decoded; what is none is a Problem of no kind. Never raises."""
    if isinstance(data, bytes):
        try:
            data = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            data = None
    if not isinstance(data, dict):
        return Problem("", "", status)
    subs = data.get("subproblems")
    found = [
        (_identifier(sub.get("identifier")), _kind(sub.get("type")), printable(sub.get("detail")))
        for sub in (subs[:_MOST_SUBPROBLEMS] if isinstance(subs, list) else [])
        if isinstance(sub, dict)
    ]
    told = data.get("status")
    return Problem(
        kind=_kind(data.get("type")),
        detail=printable(data.get("detail")),
        status=told if isinstance(told, int) and 100 <= told <= 599 else status,
        instance=printable(data.get("instance")),
        identifiers=tuple(found),
    )


def _kind(value: object) -> str:
    text = printable(value)
    return text.removeprefix(PREFIX) if text.startswith(PREFIX) else text


def _identifier(value: object) -> str:
    return printable(value.get("value")) if isinstance(value, dict) else ""


def printable(value: object) -> str:
    """What a CA wrote, for people: one line, bounded, nothing that a terminal would obey."""
    if not isinstance(value, str):
        return ""
    text = " ".join("".join(each if each.isprintable() else " " for each in value[: 4 * _MOST_TEXT]).split())
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"


def check_url(url: str) -> str:
    """An address that a CA named, if it may be asked. Raises TrustError."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme == "https" and bool(parts.hostname) and not parts.username and not parts.password
        parts.port  # noqa: B018 - raises ValueError for what is no port
    except ValueError:
        fine = False
    if not fine or not url.isascii() or not url.isprintable() or len(url) > 2000:
        raise TrustError("the CA named an address that is no plain https:// address; it is not asked")
    return url


def links(header: str, relation: str) -> tuple[str, ...]:
    """The targets of a Link header (RFC 8288) with this relation, as they stand there."""
    found: list[str] = []
    for target, parameters in _LINK.findall(header[:16_000]):
        for parameter in parameters.split(";"):
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "rel" and relation in value.strip().strip('"').lower().split():
                found.append(target)
    return tuple(found)
