"""The lifecycle's facts in the shape the public PKI endpoints ask for."""

from __future__ import annotations

from certctl.lifecycle import publish
from certctl.lifecycle.context import Context
from certctl.protocols.pki import CrlDocument, OcspDocument


class LifecycleFacts:
    """CRLs, OCSP answers and CA certificates from the committed facts of one tenant."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def crl(self, ca_or_issuer_id: str) -> CrlDocument | None:
        """The current CRL of a CA generation, or of an issuer's current one."""
        ca = await publish.find_ca(self._ctx, ca_or_issuer_id)
        if ca is None:
            return None
        record = await publish.current_crl(self._ctx, ca.id)
        return CrlDocument(record.crl_der, record.this_update, record.next_update, record.number)

    async def ocsp(self, ca_or_issuer_id: str, request_der: bytes) -> OcspDocument | None:
        """A signed answer; not kept by caches, so that a revocation shows at once."""
        ca = await publish.find_ca(self._ctx, ca_or_issuer_id)
        if ca is None:
            return None
        return OcspDocument(await publish.ocsp(self._ctx, ca, request_der), None)

    async def ca_certificate(self, ca_or_issuer_id: str) -> bytes | None:
        """The CA's own certificate, DER."""
        ca = await publish.find_ca(self._ctx, ca_or_issuer_id)
        return None if ca is None else ca.certificate_der
