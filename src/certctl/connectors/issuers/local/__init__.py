"""The built-in CA as an issuer: draft (serial and whole TBS, stored as the intent), then sign exactly those bytes.

Signing the same intent again after a crash gives the same certificate, byte for byte. Must never sign without a stored
intent, and never under another CA generation than the intent names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Literal

import msgspec

from certctl.authority.sign import LeafTemplate, approve_tbs, draft_leaf, sign_tbs
from certctl.authority.signer import IssuingCA, PkiAddresses, Signer
from certctl.connectors.base.issuer import Intent, Issued, Order, Pending, Revocation
from certctl.core.errors import Malformed, Misconfigured, Rejected, TrustError, Unsupported
from certctl.pki.certs import read_certificate
from certctl.pki.csr import read_csr


class LocalConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may choose: the intermediate's name, the default lifetime of leaves in days, how many shards of
    the CRL certificates from now on are spread over (never fewer than before), and whether there are delta CRLs.
    """

    ca_common_name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = "certctl Issuing CA"
    validity_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 90
    crl_shards: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    crl_deltas: bool = False


_AS_EVER = LocalConfig()


class LocalIssuer:
    """`cas(None)` is the current CA generation, `cas(id)` a named one; `root_of` gives the root (DER) above one."""

    revokes_here: Literal[True] = True

    def __init__(
        self,
        cas: Callable[[str | None], Awaitable[IssuingCA]],
        root_of: Callable[[IssuingCA], Awaitable[bytes]],
        signer: Signer,
        addresses: PkiAddresses,
        config: LocalConfig = _AS_EVER,
    ) -> None:
        self._cas = cas
        self._root_of = root_of
        self._signer = signer
        self._addresses = addresses
        self.crl_shards = config.crl_shards
        self.crl_deltas = config.crl_deltas

    async def draft(self, order: Order) -> Intent:
        """Choose the serial and write the whole TBS under the current generation; sign nothing."""
        return self._draft(await self._cas(None), order)

    async def draft_all(self, orders: Sequence[Order]) -> list[Intent | Exception]:
        """`draft` for each under one generation, in order."""
        ca = await self._cas(None)
        drafts: list[Intent | Exception] = []
        for order in orders:
            try:
                drafts.append(self._draft(ca, order))
            except Exception as error:  # told in its place: it must not take the others along
                drafts.append(error)
            await asyncio.sleep(0)  # others are served meanwhile
        return drafts

    def _draft(self, ca: IssuingCA, order: Order) -> Intent:
        draft = draft_leaf(ca, _template(order), self._addresses, self.crl_shards)
        return Intent(
            serial_number=draft.serial_number,
            tbs_der=draft.tbs_der,
            ca_certificate_id=ca.ca_certificate_id,
            not_before=draft.not_before,
            not_after=draft.not_after,
        )

    async def submit(self, order: Order) -> Issued | Pending:
        """Sign the stored TBS. Raises Misconfigured without an intent, TrustError when it is not what was approved."""
        intent = order.intent
        if intent is None:
            raise Misconfigured(f"order {order.order_id} has no stored intent; the local CA signs nothing without one")
        ca = await self._cas(intent.ca_certificate_id)
        if ca.ca_certificate_id != intent.ca_certificate_id:
            raise TrustError(f"order {order.order_id} names another CA generation than the one found")
        leaf_der = await sign_tbs(approve_tbs(intent.tbs_der, ca, _template(order).rules), ca, self._signer)
        leaf = read_certificate(leaf_der)
        if (leaf.serial_number, leaf.not_before, leaf.not_after) != (
            intent.serial_number,
            intent.not_before,
            intent.not_after,
        ):
            raise TrustError(f"the intent of order {order.order_id} does not tell the serial or times of its own TBS")
        root_der = await self._root_of(ca)
        chain_der = tuple(der for der in (ca.certificate_der, *ca.chain_der) if der != root_der)
        return Issued(leaf_der=leaf_der, chain_der=chain_der, root_der=root_der)

    async def collect(self, reference: str, order: Order) -> Issued | Pending:  # noqa: ARG002 - the interface
        """There is nothing to collect: the local CA answers at once."""
        raise Unsupported("the local CA answers at once; there is nothing to collect")

    async def revoke(self, revocation: Revocation) -> None:
        """Nothing to ask: the revocation stored in our own database is what CRL and OCSP speak from."""

    async def inspect(self) -> str:
        """Open the current generation's key and match it with its certificate; nothing is signed."""
        ca = await self._cas(None)
        facts = read_certificate(ca.certificate_der)
        if await self._signer.public_key(ca.key_ref) != facts.spki_der:
            raise TrustError(f"the key of CA {facts.common_name!r} does not belong to its certificate")
        return f"CA {facts.common_name!r} ({facts.key}) is valid until {facts.not_after.isoformat()}; its key opens"


def _template(order: Order) -> LeafTemplate:
    try:
        csr = read_csr(order.csr_der)
    except Malformed as error:
        raise Rejected(f"the CSR of order {order.order_id} is refused: {error.message}") from error
    return LeafTemplate(
        common_name=order.common_name,
        names=order.names,
        spki_der=csr.spki_der,
        validity=order.validity,
        ekus=order.rules.ekus,
        must_staple=order.rules.must_staple,
        now=order.now,
    )
