"""Does whoever asks control the name? The challenges of RFC 8555 8, RFC 8737 and RFC 8738, and CAA (RFC 8659, 8657).

Every name is resolved here, once a step, and the socket goes to an address that was judged: names that change their
mind, redirects to the inside and private networks that nobody allowed lead nowhere. A failure is an AcmeRefusal of the
type that tells it; nothing of what an answer held is shown.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

from msgspec import Struct

from certctl.connectors.dial import DialPolicy
from certctl.connectors.validation import caa, http01, tlsalpn01
from certctl.connectors.validation.resolving import Resolver
from certctl.core.acme import DNS_01, HTTP_01, AcmeRules
from certctl.core.names import Name, NameKind
from certctl.wire import jws
from certctl.wire.acme import key_authorization
from certctl.wire.problem import AcmeRefusal, ProblemType

ALLOWED_NETWORKS = "CERTCTL_ACME_SERVER_ALLOWED_NETWORKS"
_TIMEOUT = timedelta(seconds=10)


class Proof(Struct, frozen=True, kw_only=True):
    """What is to be proven: by which challenge, for which name (without `*.`), with whose key."""

    kind: str
    name: Name
    wildcard: bool
    token: str
    thumbprint: str
    account_id: str
    profile_id: str

    @property
    def key_authorization(self) -> str:
        """RFC 8555 8.1."""
        return key_authorization(self.token, self.thumbprint)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the key authorization."""
        return hashlib.sha256(self.key_authorization.encode()).digest()


class Prover:
    """Validates challenges for one process."""

    def __init__(self, rules: AcmeRules) -> None:
        self._rules = rules
        self._resolver = Resolver(rules.resolver)
        self._policy = DialPolicy(purpose="ACME validation", allow=rules.allowed_networks, setting=ALLOWED_NETWORKS)

    async def prove(self, proof: Proof) -> None:
        """Return when it is proven and CAA allows it. Raises AcmeRefusal otherwise."""
        if proof.kind == DNS_01:
            await self._look_up(proof)
        elif proof.kind == HTTP_01:
            way = http01.Way(self._policy, self._resolver, self._rules.http_port, self._rules.tls_port, _TIMEOUT)
            await http01.fetch(way, proof.name, proof.token, proof.key_authorization)
        else:
            where = tlsalpn01.Way(self._policy, self._resolver, self._rules.tls_port, _TIMEOUT)
            await tlsalpn01.shake_hands(where, proof.name, proof.digest)
        await self.check_caa(proof)

    async def check_caa(self, proof: Proof) -> None:
        """Keep to CAA records, if we have names that they could mean. Raises AcmeRefusal."""
        if not self._rules.caa_identities or proof.name.kind is not NameKind.DNS:
            return
        asked = caa.Asked(
            identities=self._rules.caa_identities,
            wildcard=proof.wildcard,
            method=proof.kind,
            root=self._rules.external_url,
            account_paths=(
                f"/acme/account/{proof.account_id}",
                f"/acme/profile/{proof.profile_id}/account/{proof.account_id}",
            ),
        )
        await caa.check(self._resolver, proof.name.value, asked)

    async def _look_up(self, proof: Proof) -> None:
        """The TXT record of dns-01 (RFC 8555 8.4)."""
        where, wanted = f"_acme-challenge.{proof.name.value}", jws.encode(proof.digest)
        found = await self._resolver.texts(where)
        if not found:
            raise AcmeRefusal(ProblemType.DNS, f"there is no TXT record at {where}")
        if wanted.encode() not in found:
            detail = f"none of the {len(found)} TXT records at {where} is the one asked for"
            raise AcmeRefusal(ProblemType.INCORRECT_RESPONSE, detail)
