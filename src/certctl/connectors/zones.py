"""DNS as dns-01 needs it: CNAMEs of `_acme-challenge` followed, and the record watched at the authoritative servers.

Servers are asked over TCP through the one way out; only the resolver that follows names is asked as the host asks its
own. A zone's servers must all show a record before it counts as seen: no fixed sleep.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import struct
from datetime import timedelta
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.tsig

from certctl.connectors.base.solver import Proof
from certctl.connectors.dial import DialPolicy, dial
from certctl.core.errors import Misconfigured, Rejected, Temporary, TrustError
from certctl.wire import jws

Server = tuple[str, int]
_TIMEOUT = timedelta(seconds=10)
_MOST_CNAMES, _MOST_SERVERS = 8, 13


class Zones:
    """`resolver` is `address:port` (empty: this host's own); `watched` are asked instead of a zone's NS records."""

    def __init__(self, resolver: str, watched: tuple[str, ...], policy: DialPolicy) -> None:
        self._resolver = resolver
        self._watched = tuple(read_server(text, "propagation_servers") for text in watched)
        self._policy = policy

    async def target_of(self, proof: Proof) -> dns.name.Name:
        """The name that the record belongs to: `_acme-challenge` of the proof's, CNAMEs followed."""
        try:
            target = dns.name.from_text(f"_acme-challenge.{proof.name}")
            for _ in range(_MOST_CNAMES):
                alias = await self.look_up(target, "CNAME")
                if not alias:
                    return target
                target = alias[0].target
        except (dns.exception.DNSException, ValueError) as error:
            raise Rejected(f"{proof.name} is no name that dns-01 can prove") from error
        raise Misconfigured(f"the CNAMEs of _acme-challenge.{proof.name} have no end")

    async def is_seen(self, target: dns.name.Name, value: str, primary: Server | None = None) -> bool:
        """Whether `primary`, if any, and every watched or authoritative server has `value` among the TXT records."""
        servers = [primary] if primary else []
        servers += self._watched or await self._authoritative(target, primary)
        for server in servers:
            answer = await self.ask(server, dns.message.make_query(target, "TXT"))
            found = answer.get_rrset(answer.answer, target, dns.rdataclass.IN, dns.rdatatype.TXT)
            if value.encode() not in [b"".join(record.strings) for record in found or ()]:
                return False
        return True

    async def _authoritative(self, target: dns.name.Name, primary: Server | None) -> list[Server]:
        """The servers of the zone that `target` lies in, as its primary says, or else the resolver."""
        zone = await self.zone_at(primary, target) if primary else await self.zone_above(target)
        if zone is None:
            raise Misconfigured(f"no zone is found that {target} lies in; see dns_resolver")
        if primary:
            answer = await self.ask(primary, dns.message.make_query(zone, "NS"))
            found = list(answer.get_rrset(answer.answer, zone, dns.rdataclass.IN, dns.rdatatype.NS) or ())
        else:
            found = await self.look_up(zone, "NS")
        if not found:
            raise Misconfigured(f"the zone {zone} has no NS records; name servers to watch in propagation_servers")
        return [(record.target.to_text(omit_final_dot=True), 53) for record in found[:_MOST_SERVERS]]

    async def zone_at(self, server: Server, target: dns.name.Name) -> dns.name.Name | None:
        """The zone of `server` that `target` lies in; None when it serves none."""
        candidate = target
        while candidate != dns.name.root:
            answer = await self.ask(server, dns.message.make_query(candidate, "SOA"))
            if answer.get_rrset(answer.answer, candidate, dns.rdataclass.IN, dns.rdatatype.SOA) is not None:
                return candidate
            candidate = candidate.parent()
        return None

    async def zone_above(self, target: dns.name.Name) -> dns.name.Name | None:
        """The zone that `target` lies in, as the resolver says; None when it finds none."""
        candidate = target
        while candidate != dns.name.root:
            if await self.look_up(candidate, "SOA"):
                return candidate
            candidate = candidate.parent()
        return None

    async def look_up(self, name: dns.name.Name, kind: str) -> list[Any]:
        """Records of a name, as the resolver finds them; empty for none. Raises Temporary."""
        try:
            resolver = dns.asyncresolver.Resolver(configure=not self._resolver)
            if self._resolver:
                host, port = read_server(self._resolver, "dns_resolver")
                resolver.nameservers, resolver.port = [str(ipaddress.ip_address(host))], port
            resolver.lifetime = _TIMEOUT.total_seconds()
            return list(await resolver.resolve(name, kind, search=False))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise Temporary(f"{kind} of {name} could not be looked up; see dns_resolver") from error
        except ValueError as error:
            raise Misconfigured("dns_resolver is written address:port") from error

    async def ask(self, server: Server, message: dns.message.Message) -> dns.message.Message:
        """One message over TCP (RFC 1035 4.2.2), its answer's TSIG verified where it was signed."""
        host, port = server
        asked = message.to_wire()
        reader, writer = await dial(host, port, self._policy, _TIMEOUT)
        try:
            writer.write(struct.pack("!H", len(asked)) + asked)
            await writer.drain()
            (length,) = struct.unpack("!H", await _exactly(reader, 2))
            raw = await _exactly(reader, length)
        except OSError as error:
            raise Temporary(f"{host}:{port} broke off: {error.strerror or error}") from error
        finally:
            writer.close()
        try:
            answer = dns.message.from_wire(raw, keyring=message.keyring, request_mac=message.mac)
        except dns.tsig.PeerError as error:
            raise Misconfigured(
                f"{host}:{port} does not accept the TSIG key: see tsig_name, tsig_secret and the clock"
            ) from error
        except (dns.exception.DNSException, ValueError) as error:
            raise TrustError(f"the answer of {host}:{port} cannot be read, or is not signed as it should be") from error
        if not message.is_response(answer):
            raise TrustError(f"the answer of {host}:{port} answers another question")
        return answer


async def _exactly(reader: asyncio.StreamReader, number: int) -> bytes:
    try:
        async with asyncio.timeout(_TIMEOUT.total_seconds()):
            return await reader.readexactly(number)
    except (TimeoutError, asyncio.IncompleteReadError) as error:
        raise Temporary("the DNS server gave no whole answer in time") from error


def value_of(proof: Proof) -> str:
    """What the record says (RFC 8555 8.4)."""
    return jws.encode(hashlib.sha256(proof.key_authorization.encode()).digest())


def read_server(text: str, field: str) -> Server:
    """`host:port`, `[address]:port`, or a host alone (port 53). Raises Misconfigured."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = text.strip(), "53"
    host = host.strip("[]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise Misconfigured(f"{field}: {text[:100]!r} is not host:port")
    return host, int(port)
