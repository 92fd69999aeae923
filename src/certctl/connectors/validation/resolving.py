"""DNS for validation: one resolver, the operator's or this host's, asked anew each time, CNAMEs followed by it.

No answer and no such name are an empty list; a resolver that fails or stays silent is an AcmeRefusal (dns): what
could not be looked up proves nothing.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver

from certctl.core.errors import Misconfigured
from certctl.wire.problem import AcmeRefusal, ProblemType

_SECONDS = 10.0


class Resolver:
    """`address` is `address:port`, `[address]:port` or an address; empty for this host's own resolvers."""

    def __init__(self, address: str = "") -> None:
        self._address = address
        self._made: dns.asyncresolver.Resolver | None = None

    def _resolver(self) -> dns.asyncresolver.Resolver:
        if self._made is None:
            try:
                made = dns.asyncresolver.Resolver(configure=not self._address)
                if self._address:
                    host, port = read_address(self._address)
                    made.nameservers, made.port = [host], port
            except (dns.exception.DNSException, ValueError, OSError) as error:
                raise Misconfigured("the resolver for ACME validation cannot be used", detail=str(error)) from error
            made.lifetime, made.cache = _SECONDS, None
            self._made = made
        return self._made

    async def addresses(self, host: str, _port: int = 0) -> list[str]:
        """IPv6 and IPv4 addresses of a host; a literal address is its own."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        found = [record.address for record in await self._ask(host, "AAAA")]
        return [*found, *(record.address for record in await self._ask(host, "A"))]

    async def texts(self, name: str) -> list[bytes]:
        """TXT records, the strings of each put together (RFC 8555 8.4)."""
        return [b"".join(record.strings) for record in await self._ask(name, "TXT")]

    async def caa(self, name: str) -> list[tuple[int, str, str]]:
        """CAA records as (flags, tag, value)."""
        return [
            (record.flags, record.tag.decode("ascii", "replace").lower(), record.value.decode("ascii", "replace"))
            for record in await self._ask(name, "CAA")
        ]

    async def _ask(self, name: str, kind: str) -> list[Any]:
        try:
            return list(await self._resolver().resolve(dns.name.from_text(name), kind, search=False))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise AcmeRefusal(ProblemType.DNS, f"{kind} of {name} could not be looked up") from error


def read_address(text: str) -> tuple[str, int]:
    """`192.0.2.1:53`, `[2001:db8::1]:53` or an address alone. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = text, "53"
    return str(ipaddress.ip_address(host.strip("[]"))), int(port)
