"""dns-01 by the API of a DNS provider, spoken by dns-lexicon (the extra `certctl[lexicon]`) in a process of its own.

The zone is found by DNS, CNAMEs of `_acme-challenge` are followed, and whether the record can be seen is asked at the
zone's servers: what the provider says counts for nothing. Must never show a credential, whatever the provider answers.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote, quote_plus
from weakref import WeakKeyDictionary

import dns.exception
import dns.name
from msgspec import Struct

from certctl.connectors.base.solver import Proof
from certctl.connectors.dial import DialPolicy
from certctl.connectors.solvers.lexicon import errand
from certctl.connectors.zones import Zones, value_of
from certctl.core.dns_providers import options_of, provider_of, read_secrets
from certctl.core.errors import ConnectorError, Misconfigured, Rejected, Temporary
from certctl.core.secret import Secret

MISSING = "DNS providers need the extra certctl[lexicon] on this server: pip install 'certctl[lexicon]'"
LIMIT = timedelta(seconds=60)
_MOST_AT_ONCE = 4
_SHORTEST_SECRET, _SHOWN = 4, 500
_AGAIN = frozenset({408, 425, 429})
_QUERY = re.compile(r"\?[^\s'\")]*")


class Account(Struct, frozen=True, kw_only=True):
    """At which provider, told what; `zone` is empty to be found; `watched` and `resolver` as in the configuration."""

    provider: str
    options: Mapping[str, str]
    secrets: Secret
    zone: str
    watched: tuple[str, ...]
    resolver: str


class LexiconSolver:
    """Puts TXT records of `_acme-challenge` at a provider and takes them out."""

    challenge_type = "dns-01"

    def __init__(self, account: Account, policy: DialPolicy) -> None:
        if find_spec("lexicon") is None:
            raise Misconfigured(MISSING)
        try:
            provider = provider_of(account.provider)
            self._options = options_of(provider, account.options, account.secrets.reveal())
            self._hidden = _forms_of(read_secrets(account.secrets.reveal()).values(), account.options.values())
            self._zone = dns.name.from_text(account.zone) if account.zone else None
        except ValueError as error:
            raise Misconfigured(str(error)) from error
        except dns.exception.DNSException as error:
            raise Misconfigured("dns_zone is no name") from error
        self._provider = provider
        self._zones = Zones(account.resolver, account.watched, policy)
        self._policy = policy

    async def present(self, proof: Proof) -> None:
        """Have the record put beside those that are there."""
        await self._run("put", proof)

    async def is_visible(self, proof: Proof) -> bool:
        """Whether every authoritative server has the record."""
        return await self._zones.is_seen(await self._zones.target_of(proof), value_of(proof))

    async def cleanup(self, proof: Proof) -> None:
        """Have this one record taken away."""
        await self._run("take", proof)

    async def _run(self, verb: str, proof: Proof) -> None:
        target = await self._zones.target_of(proof)
        zone = await self._zone_of(target)
        order: dict[str, Any] = {
            "verb": verb,
            "provider": self._provider.name,
            "zone": zone.to_text(omit_final_dot=True),
            "name": target.to_text(omit_final_dot=True),
            "value": value_of(proof),
            "options": self._options,
        }
        # clients of providers read all records of a name and write them back: one at a time for each name
        turns = _turns()
        async with turns.of(order["name"]), turns.processes:
            ended = await errand.run(order, self._policy, LIMIT)
        if not ended.done:
            raise self._error(ended)

    async def _zone_of(self, target: dns.name.Name) -> dns.name.Name:
        zone = self._zone or await self._zones.zone_above(target)
        if zone is None:
            raise Misconfigured(f"no zone is found that {target} lies in; see dns_resolver, dns_zone")
        if not target.is_subdomain(zone):
            raise Misconfigured(f"{target} does not lie in dns_zone {zone}")
        return zone

    def _error(self, ended: errand.Ended) -> ConnectorError:
        """What the failure means for us, the provider's words without anything secret."""
        name, said = self._provider.name, scrub(ended.said, self._hidden)
        if ended.refused is not None:
            return ended.refused
        if ended.kind == "missing":
            beside = f"; it needs the package {self._provider.package} beside" if self._provider.package else ""
            return Misconfigured(f"the client of {name} is not whole on this server{beside}: {said}")
        if ended.kind == "forbidden":
            return Misconfigured(
                f"the client of {name} wanted what none may: TCP connections by the server, and no files: {said}"
            )
        status = int(ended.kind[7:]) if re.fullmatch(r"status [0-9]{3}", ended.kind) else 0
        if ended.kind == "credentials" or status in {401, 403}:
            return Misconfigured(f"{name} does not accept the credentials, or not for this zone: {said}")
        if ended.kind == "network" or status in _AGAIN or status >= 500:
            return Temporary(f"{name} could not be spoken to; tried again: {said}")
        return Rejected(f"{name} did not do it: {said}; see dns_provider_options and the zone at the provider")


class _Turns:
    """Who may run now, in one event loop."""

    def __init__(self) -> None:
        self.processes = asyncio.Semaphore(_MOST_AT_ONCE)
        self._names: dict[str, asyncio.Lock] = {}

    def of(self, name: str) -> asyncio.Lock:
        """The turn at one name; those that nobody holds are forgotten when there are many."""
        if len(self._names) > 1000:
            self._names = {key: lock for key, lock in self._names.items() if lock.locked()}
        return self._names.setdefault(name, asyncio.Lock())


_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()


def _turns() -> _Turns:
    return _TURNS.setdefault(asyncio.get_running_loop(), _Turns())


def _forms_of(secrets: Collection[str], users: Collection[str]) -> tuple[str, ...]:
    """Each secret as it is, and as it stands in an address, a header or behind `Basic` with one of `users`."""
    forms = {base64.b64encode(f"{user}:{secret}".encode()).decode() for user in users for secret in secrets}
    for secret in secrets:
        forms |= {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
        forms |= {base64.b64encode(secret.encode()).decode(), repr(secret)[1:-1]}
        forms |= {part for part in secret.split(":") if len(part) > _SHORTEST_SECRET * 2}
    return tuple(sorted((form for form in forms if len(form) >= _SHORTEST_SECRET), key=len, reverse=True))


def scrub(text: str, hidden: tuple[str, ...]) -> str:
    """What a provider's client said, bounded and printable, without secrets and without queries of addresses."""
    for form in hidden:
        text = text.replace(form, "[redacted]")
    text = _QUERY.sub("?[...]", text)
    return "".join(each if each.isprintable() else " " for each in text)[:_SHOWN].strip()
