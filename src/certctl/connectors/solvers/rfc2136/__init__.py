"""dns-01 by dynamic updates (RFC 2136) signed with a TSIG key (RFC 8945), over TCP through the one way out.

CNAMEs of `_acme-challenge` are followed, so that a zone can leave its challenges to another one. Whether the answer can
be seen is asked at every authoritative server of the zone: no fixed sleep. Must never show the key.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import struct
from datetime import timedelta
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.tsig
import dns.tsigkeyring
import dns.update
from msgspec import Struct

from certctl.connectors.base.solver import Proof
from certctl.connectors.dial import DialPolicy, dial
from certctl.core.errors import Misconfigured, Rejected, Temporary, TrustError
from certctl.wire import jws

_TIMEOUT = timedelta(seconds=10)
_TTL_SECONDS = 30
_MOST_CNAMES, _MOST_SERVERS = 8, 13
_REFUSALS = {dns.rcode.REFUSED, dns.rcode.NOTAUTH, dns.rcode.NOTZONE}


class Zone(Struct, frozen=True, kw_only=True):
    """Where updates go. `server` is `host:port` of the primary; `name` is empty to be found; `watched` and `resolver`
    as in the issuer's configuration.
    """

    server: str
    name: str
    tsig_name: str
    tsig_secret: str
    tsig_algorithm: str
    watched: tuple[str, ...]
    resolver: str


class Rfc2136Solver:
    """Puts TXT records of `_acme-challenge` into a zone and takes them out."""

    challenge_type = "dns-01"

    def __init__(self, zone: Zone, policy: DialPolicy) -> None:
        if not zone.server or not zone.tsig_name or not zone.tsig_secret:
            raise Misconfigured("dns-01 by RFC 2136 needs dns_server, tsig_name and tsig_secret")
        self._zone = zone
        self._policy = policy
        self._server = read_server(zone.server, "dns_server")
        self._watched = tuple(read_server(text, "propagation_servers") for text in zone.watched)
        try:
            base64.b64decode(zone.tsig_secret, validate=True)
            self._ring = dns.tsigkeyring.from_text({zone.tsig_name: zone.tsig_secret})
        except (dns.exception.DNSException, ValueError) as error:
            raise Misconfigured("tsig_name is no name, or tsig_secret no base64") from error

    async def present(self, proof: Proof) -> None:
        """Add the record beside those that are there: a wildcard and its base name have one each."""
        target, zone = await self._place(proof)
        update = self._update(zone)
        update.add(target, _TTL_SECONDS, "TXT", _quoted(proof))
        await self._send(update)

    async def is_visible(self, proof: Proof) -> bool:
        """Whether every authoritative server has the record."""
        target, zone = await self._place(proof)
        wanted = value_of(proof).encode()
        for server in [self._server, *(self._watched or await self._authoritative(zone))]:
            answer = await self._ask(server, dns.message.make_query(target, "TXT"))
            found = answer.get_rrset(answer.answer, target, dns.rdataclass.IN, dns.rdatatype.TXT)
            if wanted not in [b"".join(record.strings) for record in found or ()]:
                return False
        return True

    async def cleanup(self, proof: Proof) -> None:
        """Take this one record out."""
        target, zone = await self._place(proof)
        update = self._update(zone)
        update.delete(target, "TXT", _quoted(proof))
        await self._send(update)

    async def _place(self, proof: Proof) -> tuple[dns.name.Name, dns.name.Name]:
        """The name that the record belongs to, CNAMEs followed, and its zone."""
        try:
            target = dns.name.from_text(f"_acme-challenge.{proof.name}")
            for _ in range(_MOST_CNAMES):
                alias = await self._look_up(target, "CNAME")
                if not alias:
                    break
                target = alias[0].target
            else:
                raise Misconfigured(f"the CNAMEs of _acme-challenge.{proof.name} have no end")
        except (dns.exception.DNSException, ValueError) as error:
            raise Rejected(f"{proof.name} is no name that dns-01 can prove") from error
        return target, await self._zone_of(target)

    async def _zone_of(self, target: dns.name.Name) -> dns.name.Name:
        if self._zone.name:
            zone = dns.name.from_text(self._zone.name)
            if not target.is_subdomain(zone):
                raise Misconfigured(f"{target} does not lie in dns_zone {zone}")
            return zone
        candidate = target
        while candidate != dns.name.root:
            answer = await self._ask(self._server, dns.message.make_query(candidate, "SOA"))
            if answer.get_rrset(answer.answer, candidate, dns.rdataclass.IN, dns.rdatatype.SOA) is not None:
                return candidate
            candidate = candidate.parent()
        raise Misconfigured(f"{self._zone.server} serves no zone that {target} lies in; see dns_server and dns_zone")

    async def _authoritative(self, zone: dns.name.Name) -> list[tuple[str, int]]:
        answer = await self._ask(self._server, dns.message.make_query(zone, "NS"))
        found = answer.get_rrset(answer.answer, zone, dns.rdataclass.IN, dns.rdatatype.NS)
        return [(record.target.to_text(omit_final_dot=True), 53) for record in list(found or ())[:_MOST_SERVERS]]

    async def _look_up(self, name: dns.name.Name, kind: str) -> list[Any]:
        try:
            resolver = dns.asyncresolver.Resolver(configure=not self._zone.resolver)
            if self._zone.resolver:
                host, port = read_server(self._zone.resolver, "dns_resolver")
                resolver.nameservers, resolver.port = [str(ipaddress.ip_address(host))], port
            resolver.lifetime = _TIMEOUT.total_seconds()
            return list(await resolver.resolve(name, kind, search=False))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise Temporary(f"{kind} of {name} could not be looked up; see dns_resolver") from error
        except ValueError as error:
            raise Misconfigured("dns_resolver is written address:port") from error

    def _update(self, zone: dns.name.Name) -> dns.update.UpdateMessage:
        return dns.update.UpdateMessage(zone, keyring=self._ring, keyalgorithm=self._zone.tsig_algorithm)

    async def _send(self, update: dns.update.UpdateMessage) -> None:
        answer = await self._ask(self._server, update)
        if answer.rcode() == dns.rcode.NOERROR:
            return
        said = f"{self._zone.server} answered {dns.rcode.to_text(answer.rcode())} to an update"
        if answer.rcode() in _REFUSALS:
            raise Misconfigured(f"{said}: see the key's rights (allow-update, update-policy), tsig_name and dns_zone")
        raise Temporary(said)

    async def _ask(self, server: tuple[str, int], message: dns.message.Message) -> dns.message.Message:
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


def _quoted(proof: Proof) -> str:
    return f'"{value_of(proof)}"'


def read_server(text: str, field: str) -> tuple[str, int]:
    """`host:port`, `[address]:port`, or a host alone (port 53). Raises Misconfigured."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = text.strip(), "53"
    host = host.strip("[]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise Misconfigured(f"{field}: {text[:100]!r} is not host:port")
    return host, int(port)
