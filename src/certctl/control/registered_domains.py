"""Registered domains, as public CAs count them: by the Public Suffix List, private suffixes too; addresses by network.

The list is the one that the package brings, as old as the package: nothing is fetched.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from publicsuffixlist import PublicSuffixList

from certctl.core.names import Name, NameKind


def domains_of(names: Iterable[Name]) -> frozenset[str]:
    """The registered domain of each DNS name (a public suffix is its own), an IPv4 address, the /64 of an IPv6 one."""
    found = set()
    for name in names:
        if name.kind is NameKind.IP:
            address = ipaddress.ip_address(name.value)
            width = 32 if address.version == 4 else 64
            found.add(str(ipaddress.ip_network((address, width), strict=False)))
        elif name.kind is NameKind.DNS:
            bare = name.value.removeprefix("*.").rstrip(".").lower()
            found.add(_list().privatesuffix(bare) or bare)
    return frozenset(found)


@lru_cache(maxsize=1)
def _list() -> PublicSuffixList:
    return PublicSuffixList()
