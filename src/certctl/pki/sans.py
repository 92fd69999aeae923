"""Subject alternative names between certctl's canonical Name and X.509 GeneralName (RFC 5280 4.2.1.6).

Never guesses: a kind that certctl does not issue, or a value that has no canonical form, raises Malformed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from cryptography import x509

from certctl.core.errors import Malformed, Violation
from certctl.core.names import Name, NameKind, canonical_dns, parse_name


def general_name(name: Name) -> x509.GeneralName:
    """One canonical name as GeneralName. Raises Malformed for an IPv6 zone, which a certificate cannot hold."""
    if name.kind is NameKind.DNS:
        return x509.DNSName(name.value)
    if name.kind is NameKind.URI:
        return x509.UniformResourceIdentifier(name.value)
    if name.kind is NameKind.EMAIL:
        return x509.RFC822Name(name.value)
    if "%" in name.value:
        raise _fault("ip_address_has_zone", f"{name.value!r} has a zone; a certificate holds the address only", "sans")
    return x509.IPAddress(ipaddress.ip_address(name.value))


def subject_alternative_name(names: Iterable[Name]) -> x509.SubjectAlternativeName:
    """The SAN extension's value for canonical names, in their order."""
    return x509.SubjectAlternativeName([general_name(name) for name in names])


def read_general_name(value: x509.GeneralName, field: str = "sans") -> Name:
    """One GeneralName in canonical form. Raises Malformed for another kind (otherName) or a wrong form."""
    if isinstance(value, x509.IPAddress):
        if not isinstance(value.value, ipaddress.IPv4Address | ipaddress.IPv6Address):
            raise _fault("ip_address_has_wrong_form", f"{value.value} is a network, not an address", field)
        return Name(NameKind.IP, str(value.value))
    kind = _kind_of(value)
    if kind is None:
        raise _fault("name_kind_is_unsupported", f"{type(value).__name__} names are not supported", field)
    text = str(value.value)
    if text.startswith("//"):
        raise _fault("uri_has_wrong_form", f"{text!r} is no absolute URI", field)
    if kind is NameKind.DNS and text:
        return Name(kind, canonical_dns(text, field))
    return parse_name(f"{kind}:{text}", field)


def text_of(value: x509.GeneralName) -> str:
    """Any GeneralName as text, for showing what was found."""
    if isinstance(value, x509.DirectoryName):
        return value.value.rfc4514_string()
    if isinstance(value, x509.OtherName):
        return f"{value.type_id.dotted_string}:{value.value.hex()}"
    return value.value.dotted_string if isinstance(value, x509.RegisteredID) else str(value.value)


def _kind_of(value: x509.GeneralName) -> NameKind | None:
    if isinstance(value, x509.DNSName):
        return NameKind.DNS
    if isinstance(value, x509.UniformResourceIdentifier):
        return NameKind.URI
    return NameKind.EMAIL if isinstance(value, x509.RFC822Name) else None


def _fault(rule: str, message: str, field: str) -> Malformed:
    return Malformed(message, violations=(Violation(rule, message, field),))
