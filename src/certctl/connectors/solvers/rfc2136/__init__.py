"""dns-01 by dynamic updates (RFC 2136) signed with a TSIG key (RFC 8945), over TCP through the one way out.

CNAMEs of `_acme-challenge` are followed, so that a zone can leave its challenges to another one. Whether the answer can
be seen is asked at every authoritative server of the zone: no fixed sleep. Must never show the key.
"""

from __future__ import annotations

import base64

import dns.exception
import dns.name
import dns.rcode
import dns.tsigkeyring
import dns.update
from msgspec import Struct

from certctl.connectors.base.solver import Proof
from certctl.connectors.dial import DialPolicy
from certctl.connectors.zones import Zones, read_server, value_of
from certctl.core.errors import Misconfigured, Temporary

_TTL_SECONDS = 30
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
        self._server = read_server(zone.server, "dns_server")
        self._zones = Zones(zone.resolver, zone.watched, policy)
        try:
            base64.b64decode(zone.tsig_secret, validate=True)
            self._ring = dns.tsigkeyring.from_text({zone.tsig_name: zone.tsig_secret})
        except (dns.exception.DNSException, ValueError) as error:
            raise Misconfigured("tsig_name is no name, or tsig_secret no base64") from error

    async def present(self, proof: Proof) -> None:
        """Add the record beside those that are there: a wildcard and its base name have one each."""
        target = await self._zones.target_of(proof)
        update = self._update(await self._zone_of(target))
        update.add(target, _TTL_SECONDS, "TXT", _quoted(proof))
        await self._send(update)

    async def is_visible(self, proof: Proof) -> bool:
        """Whether every authoritative server has the record."""
        return await self._zones.is_seen(await self._zones.target_of(proof), value_of(proof), self._server)

    async def cleanup(self, proof: Proof) -> None:
        """Take this one record out."""
        target = await self._zones.target_of(proof)
        update = self._update(await self._zone_of(target))
        update.delete(target, "TXT", _quoted(proof))
        await self._send(update)

    async def _zone_of(self, target: dns.name.Name) -> dns.name.Name:
        if self._zone.name:
            zone = dns.name.from_text(self._zone.name)
            if not target.is_subdomain(zone):
                raise Misconfigured(f"{target} does not lie in dns_zone {zone}")
            return zone
        found = await self._zones.zone_at(self._server, target)
        if found is None:
            raise Misconfigured(f"{self._zone.server} serves no zone that {target} lies in; see dns_server, dns_zone")
        return found

    def _update(self, zone: dns.name.Name) -> dns.update.UpdateMessage:
        return dns.update.UpdateMessage(zone, keyring=self._ring, keyalgorithm=self._zone.tsig_algorithm)

    async def _send(self, update: dns.update.UpdateMessage) -> None:
        answer = await self._zones.ask(self._server, update)
        if answer.rcode() == dns.rcode.NOERROR:
            return
        said = f"{self._zone.server} answered {dns.rcode.to_text(answer.rcode())} to an update"
        if answer.rcode() in _REFUSALS:
            raise Misconfigured(f"{said}: see the key's rights (allow-update, update-policy), tsig_name and dns_zone")
        raise Temporary(said)


def _quoted(proof: Proof) -> str:
    return f'"{value_of(proof)}"'
