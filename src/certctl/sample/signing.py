"""Has the sample's certificates signed: by the issuer's own connector, as any order is. Drafted, linted, signed, read.

Must never sign by itself: only `connectors.issuers.local` may.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import msgspec

from certctl.authority.signer import IssuingCA
from certctl.connectors import registry
from certctl.connectors.base.issuer import DraftsIntent, Issued, LeafRules, Order
from certctl.core.catalogue import Profile
from certctl.core.certificate import RequestBody
from certctl.core.errors import TrustError
from certctl.core.names import parse_names
from certctl.lifecycle import facts
from certctl.lifecycle.context import Context
from certctl.pki.certs import read_certificate
from certctl.pki.csr import csr_pem
from certctl.pki.fingerprints import serial_hex
from certctl.pki.pem import chain_pem
from certctl.policy.issuance import choose_key_algorithm
from certctl.sample import estate
from certctl.sample.keys import Keys
from certctl.sample.plan import Cycle, Life, sample_id
from certctl.sample.rows import ISSUER, Signed
from certctl.store import authority


class Signing:
    """Orders from the CA generation that `use_newest` found last."""

    def __init__(self, ctx: Context, seed: int, profiles: Mapping[str, Profile]) -> None:
        self._ctx, self._profiles, self._keys = ctx, profiles, Keys(seed)
        self._ca: IssuingCA | None = None
        self._root = b""
        services = {"cas": self._cas, "root_of": self._root_of, "signer": ctx.signer, "addresses": ctx.addresses}
        self._issuer = registry.open_issuer("local", {}, services)

    async def use_newest(self) -> None:
        """From now on whatever generation issues now is asked."""
        record = await estate.issuing(self._ctx)
        async with self._ctx.database.read() as tx:
            self._ca = await authority.issuing_ca(tx, self._ctx.scope, record.id)
            root = await authority.ca_certificate(tx, self._ctx.scope, record.parent_id)
        self._root = root.certificate_der if root is not None else b""

    def body(self, life: Life, *, replaces_id: str, reason: str = "") -> RequestBody:
        """What is asked for, decided as the request's stage does."""
        profile = self._profiles[life.kind.profile_id]
        body = RequestBody(
            common_name=life.name,
            names=[f"{name.kind}:{name.value}" for name in parse_names(list(life.sans))],
            validity_seconds=profile.max_ttl_seconds,
            ekus=profile.allowed_ekus,
            must_staple=profile.must_staple,
            key_algorithm=str(choose_key_algorithm(facts.profile_facts(profile))),
            profile_id=profile.id,
            profile_version=profile.version,
            issuer_id=ISSUER,
            replaces_id=replaces_id,
            reason=reason,
        )
        return msgspec.structs.replace(body, decision_hash=facts.hash_of(body, profile_version=profile.version))

    async def sign(self, cycle: Cycle) -> tuple[RequestBody, Signed]:
        """One certificate, with a key of its own that nobody keeps."""
        body = self.body(cycle.life, replaces_id=cycle.replaces_id)
        names = parse_names(body.names)
        csr_der = self._keys.csr(body.key_algorithm, body.common_name, names)
        body = msgspec.structs.replace(body, csr_pem=csr_pem(csr_der))
        order = Order(
            order_id=sample_id("order", cycle.begins, "order", cycle.version_id),
            common_name=body.common_name,
            names=names,
            csr_der=csr_der,
            validity=cycle.life.kind.life,
            rules=LeafRules(ekus=tuple(body.ekus), must_staple=body.must_staple),
            now=cycle.begins,
        )
        intent = await cast("DraftsIntent", self._issuer).draft(order)
        answer = await self._issuer.submit(msgspec.structs.replace(order, intent=intent))
        if not isinstance(answer, Issued):
            raise TrustError("the built-in CA did not answer at once")
        leaf = read_certificate(answer.leaf_der)
        return body, Signed(
            order_id=order.order_id,
            ca_certificate_id=intent.ca_certificate_id,
            serial_number=serial_hex(leaf.serial_number),
            tbs_der=intent.tbs_der,
            leaf_der=answer.leaf_der,
            chain_pem=chain_pem(answer.chain_der),
            csr_der=csr_der,
            spki_sha256=leaf.spki_sha256,
            key_algorithm=leaf.key.kind,
            key_size=leaf.key.size_bits,
            not_before=leaf.not_before,
            not_after=leaf.not_after,
        )

    async def _cas(self, wanted: str | None) -> IssuingCA:
        if self._ca is None or wanted not in {None, self._ca.ca_certificate_id}:
            raise TrustError("the sample asks for one generation at a time")
        return self._ca

    async def _root_of(self, _ca: IssuingCA) -> bytes:
        return self._root
