"""Names a certificate can speak for: DNS, IP, URI and e-mail (RFC 5280 4.2.1.6), in one canonical form each.

DNS names are lowercase A-labels (IDNA 2008, UTS 46 mapping), wildcards only as the whole leftmost label (RFC 6125).
IP addresses are in their shortest text. Never guesses: a text that fits no kind raises Malformed.
"""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from functools import lru_cache
from urllib.parse import urlsplit

import idna
from msgspec import Struct

from certctl.core.errors import Malformed, Violation

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# what nearly every DNS name is: labels as above, none of them an A-label, the last one no number
_PLAIN = re.compile(r"(?:\*\.)?(?:(?!-|xn--)[a-z0-9_-]{1,63}(?<!-)\.)*(?!-|xn--|[0-9]+\Z)[a-z0-9_-]{1,63}(?<!-)")
# RFC 5321 4.1.2: a dot-string, atoms between single dots; at most 64 octets (4.5.3.1.1).
_LOCAL_PART = re.compile(r"(?=.{1,64}\Z)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


class NameKind(StrEnum):
    """The kinds of subject alternative name certctl issues."""

    DNS = "dns"
    IP = "ip"
    URI = "uri"
    EMAIL = "email"


_KINDS = frozenset(NameKind)


class Name(Struct, frozen=True, order=True):
    """One name in canonical form. Two names are the same name exactly when they are equal."""

    kind: NameKind
    value: str

    def __str__(self) -> str:
        return self.value


def spelled(name: Name) -> str:
    """The text that `parse_name` reads as this very name: its value alone where that says its kind as well."""
    if name.kind is NameKind.DNS:
        return name.value  # it has no colon, and does not end as an address does
    return name.value if parse_name(name.value) == name else f"{name.kind}:{name.value}"


@lru_cache(maxsize=512)  # each stage and rule reads the same few names of a request again
def parse_name(text: str, field: str = "sans") -> Name:
    """Read one name as people write it; `dns:`, `ip:`, `uri:`, `email:` may stand before it. Raises Malformed."""
    stripped = text.strip()
    prefix, _, rest = stripped.partition(":")
    if prefix.lower() in _KINDS and rest and not rest.startswith("//"):
        kind = NameKind(prefix.lower())
        return Name(kind, _CANONICAL[kind](rest, field))
    if "://" in stripped:
        return Name(NameKind.URI, _canonical_uri(stripped, field))
    if "@" in stripped:
        return Name(NameKind.EMAIL, _canonical_email(stripped, field))
    if ":" not in stripped and not stripped[-1:].isdigit():  # no address
        return Name(NameKind.DNS, canonical_dns(stripped, field))
    try:
        return Name(NameKind.IP, _canonical_ip(stripped, field))
    except Malformed:
        if ":" in stripped:
            raise  # no DNS name has a colon: what is wrong with it as an address is what helps
        return Name(NameKind.DNS, canonical_dns(stripped, field))


def parse_names(texts: list[str] | tuple[str, ...], field: str = "sans") -> tuple[Name, ...]:
    """Read many names: every fault is told at once, duplicates fold, the order is the caller's."""
    names: dict[Name, None] = {}
    violations: list[Violation] = []
    for index, text in enumerate(texts):
        try:
            names[parse_name(text, f"{field}[{index}]")] = None
        except Malformed as error:
            violations.extend(error.violations)
    if violations:
        raise Malformed("; ".join(v.message for v in violations), violations=tuple(violations))
    return tuple(names)


def canonical_dns(text: str, field: str = "dns") -> str:
    """Lowercase A-labels of a DNS name, `*.` allowed in front. Raises Malformed."""
    host = text.strip().removesuffix(".").lower()
    if len(host) <= 253 and _PLAIN.fullmatch(host):
        return host
    wildcard = host.startswith("*.")
    base = host[2:] if wildcard else host
    if not base.isascii():
        try:
            base = idna.encode(base, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise _fault(
                "dns_name_is_not_idna", f"{text!r} is no valid internationalised name: {error}", field
            ) from error
    labels = base.split(".")
    if len(base) + 2 * wildcard > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _fault("dns_name_has_wrong_form", f"{text!r} is no valid DNS name", field)
    if labels[-1].isdigit():
        raise _fault("dns_name_ends_in_number", f"{text!r} ends in a number and is no IP address", field)
    _check_a_labels(text, labels, field)
    return f"*.{base}" if wildcard else base


def _check_a_labels(text: str, labels: list[str], field: str) -> None:
    for label in labels:
        if label.startswith("xn--"):
            try:
                idna.decode(label)
            except (idna.IDNAError, UnicodeError) as error:
                raise _fault("dns_name_is_not_idna", f"{text!r} has a broken A-label: {error}", field) from error


def _canonical_ip(text: str, field: str) -> str:
    value = text.strip()
    bracketed = value.startswith("[") and value.endswith("]")
    try:
        address = ipaddress.IPv6Address(value[1:-1]) if bracketed else ipaddress.ip_address(value)
    except ValueError as error:
        raise _fault("ip_address_has_wrong_form", f"{text!r} is no IP address", field) from error
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise _fault("ip_address_has_a_zone", f"{text!r} names a zone, which no certificate can hold", field)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        # Nobody connects to such a name, and its text differs between Python versions: it has no one canonical form.
        message = f"{text!r} is an IPv4 address in IPv6 form; write {address.ipv4_mapped}"
        raise _fault("ip_address_is_mapped", message, field)
    return str(address)


def _canonical_uri(text: str, field: str) -> str:
    # RFC 5280 4.2.1.6: an absolute URI with a scheme; IA5String, so ASCII only.
    value = text.strip()
    try:
        parts = urlsplit(value)
    except ValueError as error:
        raise _fault("uri_has_wrong_form", f"{text!r} is no URI", field) from error
    if (
        not value.isascii()
        or not parts.scheme
        or not (parts.netloc or parts.path)
        or re.search(r"[\x00-\x20\x7f<>\"]", value)
    ):
        raise _fault("uri_has_wrong_form", f"{text!r} is no absolute ASCII URI", field)
    return f"{parts.scheme.lower()}:{value.split(':', 1)[1]}"


def _canonical_email(text: str, field: str) -> str:
    local, _, domain = text.strip().rpartition("@")
    if not _LOCAL_PART.fullmatch(local) or domain.startswith("*."):
        raise _fault("email_has_wrong_form", f"{text!r} is no e-mail address", field)
    return f"{local}@{canonical_dns(domain, field)}"


def _fault(rule: str, message: str, field: str) -> Malformed:
    return Malformed(message, violations=(Violation(rule, message, field),))


_CANONICAL = {
    NameKind.DNS: canonical_dns,
    NameKind.IP: _canonical_ip,
    NameKind.URI: _canonical_uri,
    NameKind.EMAIL: _canonical_email,
}
