"""The lifecycle's facts in the shape the public PKI endpoints ask for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from certctl.authority.ocsp import SerialStatus
from certctl.lifecycle import publish
from certctl.lifecycle.context import Context
from certctl.lifecycle.publish import Speaker
from certctl.protocols.pki import CrlDocument, OcspDocument
from certctl.protocols.pki.answers import LONGEST_USE, KeptStatuses
from certctl.protocols.pki.crls import KeptCrls
from certctl.store.crl_parts import Part

# who answers for a CA is looked up so often; which serials are revoked is known by the watch, or looked up each time
_KNOWN_SECONDS = 1.0


class LifecycleFacts:
    """CRLs, OCSP answers and CA certificates from the committed facts of one tenant."""

    def __init__(
        self,
        ctx: Context,
        statuses: KeptStatuses | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ctx = ctx
        self._statuses = statuses
        self._monotonic = monotonic
        self._speakers: dict[str, tuple[float, Speaker]] = {}
        self._crls = KeptCrls(ctx)

    async def crl(self, ca_or_issuer_id: str) -> CrlDocument | None:
        """The current CRL of a CA generation, or of an issuer's current one."""
        ca = await publish.find_ca(self._ctx, ca_or_issuer_id)
        return None if ca is None else await self._crls.read(ca.id)

    async def crl_part(self, ca_or_issuer_id: str, shard: int, *, is_delta: bool) -> CrlDocument | None:
        """A shard of that CRL, or the delta to one or (0) to the whole; None where there is none."""
        ca = await publish.find_ca(self._ctx, ca_or_issuer_id)
        if ca is None:
            return None
        return await self._crls.read_part(Part(ca_certificate_id=ca.id, shard=shard, is_delta=is_delta))

    async def ocsp(self, ca_or_issuer_id: str, request_der: bytes) -> OcspDocument | None:
        """A signed answer; not kept by caches outside, so that a revocation shows at once."""
        speaker = await self._speaker(ca_or_issuer_id)
        if speaker is None:
            return None
        now, patience = self._ctx.now(), self._ctx.patience

        async def statuses(serials: list[int]) -> Mapping[int, SerialStatus]:
            return await self._known(speaker, serials)

        answer_der = await publish.ocsp(self._ctx, speaker, request_der, statuses)
        ours_for = min(LONGEST_USE, patience.ocsp_validity / 4, (speaker.ends_at - now) / 4)
        return OcspDocument(answer_der, cacheable_until=None, usable_until=now + ours_for)

    async def ca_certificate(self, ca_or_issuer_id: str) -> bytes | None:
        """The CA's own certificate, DER."""
        ca = await publish.find_ca(self._ctx, ca_or_issuer_id)
        return None if ca is None else ca.certificate_der

    async def _known(self, speaker: Speaker, serials: list[int]) -> Mapping[int, SerialStatus]:
        async def read(missing: list[int]) -> Mapping[int, SerialStatus]:
            return await publish.statuses(self._ctx, speaker, missing)

        if self._statuses is None:
            return await read(serials)
        return await self._statuses.read(speaker.responder.ca.ca_certificate_id, serials, read)

    async def _speaker(self, ca_or_issuer_id: str) -> Speaker | None:
        looked_at, speaker = self._speakers.get(ca_or_issuer_id, (float("-inf"), None))
        if speaker is not None and self._monotonic() - looked_at < _KNOWN_SECONDS:
            return speaker
        ca = await publish.find_ca(self._ctx, ca_or_issuer_id)
        if ca is None:
            return None
        speaker = await publish.speaker(self._ctx, ca)
        self._speakers[ca_or_issuer_id] = (self._monotonic(), speaker)
        return speaker
