"""Where a call comes from: the peer of the socket, or what trusted proxies say of it in X-Forwarded-For.

Each proxy appends the address it was called from, so the list is read from its right end: the first hop that is no
trusted proxy is the client. What stands further left was written by the client, and proves nothing. IPv4 addresses
that are mapped into IPv6 (RFC 4291 2.5.5.2) are read as IPv4.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from certctl.core.rules import Network

_MOST_HOPS = 32


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The client's address; `forwarded` holds the values of all X-Forwarded-For lines, in order."""
    address = _parse(peer)
    if address is None or not trusted or not _is_trusted(address, trusted):
        return peer if address is None else str(address)
    hops = [hop for line in forwarded for hop in line.split(",")]
    for hop in reversed(hops[-_MOST_HOPS:]):
        before = _parse(_without_port(hop.strip()))
        if before is None:
            break  # a hop that cannot be read hides what lies behind it
        address = before
        if not _is_trusted(address, trusted):
            break
    return str(address)


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        return address.ipv4_mapped or address
    return address


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    head, colon, port = hop.rpartition(":")
    return head if colon and ":" not in head and port.isdecimal() else hop


def _is_trusted(address: ipaddress.IPv4Address | ipaddress.IPv6Address, trusted: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in trusted)
