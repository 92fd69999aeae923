"""CRLs as this process gives them: which one is asked of the database each time, its bytes are kept by number.

A CRL of a million entries is 40 MB: it is read once a process, and at most so many bytes are kept. Must never give one
whose next update has passed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from certctl.core.errors import Temporary
from certctl.lifecycle import publish
from certctl.lifecycle.context import Context
from certctl.protocols.pki import CrlDocument, etag_of
from certctl.store import crl
from certctl.store.authority import CrlRecord
from certctl.store.crl import CrlHead

MOST_OCTETS = 128 << 20
_MOST_CAS = 1_000
_ATTEMPTS = 3


class KeptCrls:
    """The newest CRLs that were asked for; the one that was asked for longest ago makes room."""

    def __init__(self, ctx: Context, most_octets: int = MOST_OCTETS) -> None:
        self._ctx = ctx
        self._most_octets = most_octets
        self._kept: OrderedDict[str, CrlDocument] = OrderedDict()
        # one at a time makes or reads the CRL of a CA: the others find it kept
        self._locks: dict[str, asyncio.Lock] = {}

    async def read(self, ca_certificate_id: str) -> CrlDocument:
        """The CRL of a CA generation that is to be given now. Raises Temporary."""
        head = await publish.crl_to_give(self._ctx, ca_certificate_id)
        if head is not None and (found := self._get(head)) is not None:
            return found
        if len(self._locks) >= _MOST_CAS:
            self._locks = {name: lock for name, lock in self._locks.items() if lock.locked()}
        async with self._locks.setdefault(ca_certificate_id, asyncio.Lock()):
            return await self._read(ca_certificate_id)

    async def _read(self, ca_certificate_id: str) -> CrlDocument:
        for _ in range(_ATTEMPTS):
            head = await publish.crl_to_give(self._ctx, ca_certificate_id)
            if head is None:
                made = await publish.current_crl(self._ctx, ca_certificate_id)
                return await self._keep(ca_certificate_id, made.crl_der, made)
            if (found := self._get(head)) is not None:
                return found
            async with self._ctx.database.read() as tx:
                der = await crl.crl_der(tx, self._ctx.scope, ca_certificate_id, head.number)
            if der is not None:
                return await self._keep(ca_certificate_id, der, head)
        raise Temporary("this CRL is being replaced; ask again")

    def _get(self, head: CrlHead) -> CrlDocument | None:
        found = self._kept.get(head.ca_certificate_id)
        if found is None or found.number != head.number:
            return None
        self._kept.move_to_end(head.ca_certificate_id)
        return found

    async def _keep(self, ca_certificate_id: str, der: bytes, told: CrlRecord | CrlHead) -> CrlDocument:
        etag = await asyncio.to_thread(etag_of, der)
        document = CrlDocument(der, told.this_update, told.next_update, told.number, etag)
        self._kept.pop(ca_certificate_id, None)
        self._kept[ca_certificate_id] = document
        while len(self._kept) > 1 and sum(len(one.der) for one in self._kept.values()) > self._most_octets:
            self._kept.popitem(last=False)
        return document
