"""CRLs as this process gives them: which one is asked of the database each time, its bytes are kept by number.

A CRL of a million entries is 40 MB: it is read once a process, and at most so many bytes are kept. Must never give one
whose next update has passed.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple, Protocol

from certctl.core.errors import Temporary
from certctl.lifecycle import crl_parts, publish
from certctl.lifecycle.context import Context
from certctl.lifecycle.crl_parts import Parts
from certctl.protocols.pki import CrlDocument, etag_of
from certctl.store import crl
from certctl.store import crl_parts as stored
from certctl.store.crl_parts import Part

MOST_OCTETS = 128 << 20
_MOST_LOCKS = 1_000
_ATTEMPTS = 3
# how an issuer is configured is looked up so often
_KNOWN_SECONDS = 1.0


class _Head(Protocol):
    """Which CRL stands."""

    @property
    def number(self) -> int: ...
    @property
    def this_update(self) -> datetime: ...
    @property
    def next_update(self) -> datetime: ...


class _Made(_Head, Protocol):
    """The same with its bytes."""

    @property
    def crl_der(self) -> bytes: ...


class _Way(NamedTuple):
    """How one CRL is come by: the head to give or None, one made now, the bytes of a head or None when it is gone."""

    part: Part
    head: Callable[[], Awaitable[_Head | None]]
    make: Callable[[], Awaitable[_Made]]
    load: Callable[[_Head], Awaitable[bytes | None]]


class KeptCrls:
    """The newest CRLs that were asked for; the one that was asked for longest ago makes room."""

    def __init__(
        self, ctx: Context, most_octets: int = MOST_OCTETS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._ctx = ctx
        self._most_octets = most_octets
        self._monotonic = monotonic
        self._kept: OrderedDict[Part, CrlDocument] = OrderedDict()
        # one at a time makes or reads a CRL: the others find it kept
        self._locks: dict[Part, asyncio.Lock] = {}
        self._parts: dict[str, tuple[float, Parts]] = {}

    async def read(self, ca_certificate_id: str) -> CrlDocument:
        """The full CRL of a CA generation that is to be given now. Raises Temporary."""
        ctx = self._ctx

        async def load(head: _Head) -> bytes | None:
            async with ctx.database.read() as tx:
                return await crl.crl_der(tx, ctx.scope, ca_certificate_id, head.number)

        return await self._give(
            _Way(
                Part(ca_certificate_id=ca_certificate_id, shard=0, is_delta=False),
                lambda: publish.crl_to_give(ctx, ca_certificate_id),
                lambda: publish.current_crl(ctx, ca_certificate_id),
                load,
            )
        )

    async def read_part(self, part: Part) -> CrlDocument | None:
        """A shard, or a delta, that is to be given now; None where its issuer has none. Raises Temporary."""
        ctx, parts = self._ctx, await self._parts_of(part.ca_certificate_id)
        if part.shard > (parts.shards if parts.shards > 1 else 0) or (part.is_delta and not parts.deltas):
            return None
        if part.is_delta:  # which goes on from a full one
            full = Part(ca_certificate_id=part.ca_certificate_id, shard=part.shard, is_delta=False)
            await (self.read_part(full) if part.shard else self.read(part.ca_certificate_id))

        async def load(head: _Head) -> bytes | None:
            async with ctx.database.read() as tx:
                return await stored.der(tx, ctx.scope, part, head.number)

        return await self._give(
            _Way(part, lambda: crl_parts.part_to_give(ctx, part), lambda: crl_parts.make_part(ctx, part, parts), load)
        )

    async def _parts_of(self, ca_certificate_id: str) -> Parts:
        looked_at, parts = self._parts.get(ca_certificate_id, (float("-inf"), Parts()))
        if self._monotonic() - looked_at >= _KNOWN_SECONDS:
            parts = await crl_parts.parts_of(self._ctx, ca_certificate_id)
            self._parts[ca_certificate_id] = (self._monotonic(), parts)
        return parts

    async def _give(self, way: _Way) -> CrlDocument:
        head = await way.head()
        if head is not None and (found := self._get(way.part, head)) is not None:
            return found
        if len(self._locks) >= _MOST_LOCKS:
            self._locks = {part: lock for part, lock in self._locks.items() if lock.locked()}
        async with self._locks.setdefault(way.part, asyncio.Lock()):
            return await self._read(way)

    async def _read(self, way: _Way) -> CrlDocument:
        for _ in range(_ATTEMPTS):
            head = await way.head()
            if head is None:
                made = await way.make()
                return await self._keep(way.part, made.crl_der, made)
            if (found := self._get(way.part, head)) is not None:
                return found
            der = await way.load(head)
            if der is not None:
                return await self._keep(way.part, der, head)
        raise Temporary("this CRL is being replaced; ask again")

    def _get(self, part: Part, head: _Head) -> CrlDocument | None:
        found = self._kept.get(part)
        if found is None or found.number != head.number:
            return None
        self._kept.move_to_end(part)
        return found

    async def _keep(self, part: Part, der: bytes, told: _Head) -> CrlDocument:
        etag = await asyncio.to_thread(etag_of, der)
        document = CrlDocument(der, told.this_update, told.next_update, told.number, etag)
        self._kept.pop(part, None)
        self._kept[part] = document
        while len(self._kept) > 1 and sum(len(one.der) for one in self._kept.values()) > self._most_octets:
            self._kept.popitem(last=False)
        return document
