"""Before a public CA is asked: whether CAA records and addresses let it issue at all. Only what is known forbids.

A lookup that fails forbids nothing here: the CA looks itself. CAs that name no identities for CAA (private ones) are
not judged: they see other names than this resolver.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from certctl.connectors.base.issuer import Prospect
from certctl.connectors.validation import caa
from certctl.connectors.validation.caa import Asked
from certctl.connectors.validation.resolving import Resolver
from certctl.core.errors import Rejected
from certctl.core.names import Name, NameKind
from certctl.wire.problem import AcmeRefusal, ProblemType

_BY_ADDRESS = frozenset({"http-01", "tls-alpn-01"})


class DnsPrecheck:
    """`address` is the resolver's, `address:port`; empty for this host's own."""

    def __init__(self, address: str = "") -> None:
        self._resolver = Resolver(address)

    async def judge(self, names: Sequence[Name], prospect: Prospect) -> None:
        """Return when nothing is known that forbids. Raises Rejected, naming the record or what is missing."""
        if not prospect.caa_identities:
            return
        for name in names:
            if name.kind is NameKind.DNS:
                await self._caa(name, prospect)
                # a wildcard is never proven so; the CA's challenges say that
                if prospect.method in _BY_ADDRESS and not name.value.startswith("*."):
                    await self._address(name, prospect)

    async def _caa(self, name: Name, prospect: Prospect) -> None:
        account = urlsplit(prospect.account_url)
        asked = Asked(
            identities=prospect.caa_identities,
            wildcard=name.value.startswith("*."),
            method=prospect.method,
            root=f"{account.scheme}://{account.netloc}",
            account_paths=(account.path,),
        )
        try:
            await caa.check(self._resolver, name.value.removeprefix("*."), asked)
        except AcmeRefusal as refusal:
            if refusal.kind is ProblemType.CAA:
                raise Rejected(
                    f"{refusal.message}, so the CA was not asked: add one that names "
                    f"{' or '.join(list(prospect.caa_identities)[:3])} (with this account and {prospect.method}, where "
                    "it says for whom and how), or use another issuer"
                ) from refusal

    async def _address(self, name: Name, prospect: Prospect) -> None:
        try:
            found = await self._resolver.addresses(name.value)
        except AcmeRefusal:
            return
        if not found:
            raise Rejected(
                f"{name.value} has no address in DNS, so the CA was not asked: {prospect.method} needs one; add it, or "
                "prove the name by dns-01"
            )
