"""Name constraints of CAs (RFC 5280 4.2.1.10): may this leaf speak for these names under this CA?

Judges DNS, IP, e-mail, URI and directory names. Never lets an unknown kind through: a constraint of a kind that the
leaf uses and this module does not know is a TrustError.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from cryptography import x509

from certctl.core.errors import TrustError
from certctl.pki.sans import text_of


def check_name_constraints(leaf: x509.Certificate, constraints: x509.NameConstraints, ca_subject: str) -> None:
    """Raise TrustError when a name of `leaf` is excluded, or not within what is permitted for its kind."""
    for name in _names_of(leaf):
        if any(_within(name, base) for base in constraints.excluded_subtrees or ()):
            raise TrustError(f"{text_of(name)!r} is excluded by the name constraints of {ca_subject}")
        permitted = [base for base in constraints.permitted_subtrees or () if type(base) is type(name)]
        if permitted and not any(_within(name, base) for base in permitted):
            raise TrustError(f"{text_of(name)!r} is not permitted by the name constraints of {ca_subject}")


def is_narrower(base: x509.GeneralName, above: x509.GeneralName) -> bool:
    """Whether everything within `base` is within `above`. Raises TrustError for a kind that cannot be judged."""
    if isinstance(base, x509.IPAddress) and isinstance(above, x509.IPAddress):
        inner, outer = base.value, above.value
        if isinstance(inner, ipaddress.IPv4Network) and isinstance(outer, ipaddress.IPv4Network):
            return inner.subnet_of(outer)
        if isinstance(inner, ipaddress.IPv6Network) and isinstance(outer, ipaddress.IPv6Network):
            return inner.subnet_of(outer)
        return False
    if isinstance(base, x509.RFC822Name) and isinstance(above, x509.RFC822Name):
        return base.value == above.value or ("@" in base.value and _within(base, above))
    return _within(base, above)


def _names_of(leaf: x509.Certificate) -> list[x509.GeneralName]:
    try:
        names = list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    return [*names, x509.DirectoryName(leaf.subject)] if len(leaf.subject.rdns) else names


def _within(name: x509.GeneralName, base: x509.GeneralName) -> bool:
    if type(name) is not type(base):
        return False
    if isinstance(name, x509.DNSName):
        return _host_within(str(name.value), str(base.value), dot_means_below=False)
    if isinstance(name, x509.IPAddress) and isinstance(base, x509.IPAddress):
        return _address_within(name, base)
    if isinstance(name, x509.RFC822Name):
        return _mail_within(str(name.value), str(base.value))
    if isinstance(name, x509.UniformResourceIdentifier):
        host = urlsplit(str(name.value)).hostname or ""
        return _host_within(host, str(base.value), dot_means_below=True)
    if isinstance(name, x509.DirectoryName) and isinstance(base, x509.DirectoryName):
        return list(name.value.rdns)[: len(base.value.rdns)] == list(base.value.rdns)
    raise TrustError(f"name constraints on {type(name).__name__} cannot be judged")


def _host_within(host: str, base: str, *, dot_means_below: bool) -> bool:
    # DNS: the base and everything below it. URI and e-mail hosts: exactly the host, or, with a leading dot, all below.
    host, base = host.lower().rstrip("."), base.lower().rstrip(".")
    if not base:
        return True
    if base.startswith("."):
        return host.endswith(base)
    return host == base or (not dot_means_below and host.endswith("." + base))


def _mail_within(address: str, base: str) -> bool:
    if "@" in base:
        local, _, host = address.rpartition("@")
        base_local, _, base_host = base.rpartition("@")
        return local == base_local and host.lower() == base_host.lower()
    return _host_within(address.rpartition("@")[2], base, dot_means_below=True)


def _address_within(name: x509.IPAddress, base: x509.IPAddress) -> bool:
    address, network = name.value, base.value
    if isinstance(address, ipaddress.IPv4Address) and isinstance(network, ipaddress.IPv4Network):
        return address in network
    if isinstance(address, ipaddress.IPv6Address) and isinstance(network, ipaddress.IPv6Network):
        return address in network
    return False
