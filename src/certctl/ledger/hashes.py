"""Hashes of any part of the sealed tree, from stored leaves and subtrees: a proof reads a few hundred, of a million."""

from __future__ import annotations

from certctl.core.errors import TrustError
from certctl.core.scope import Scope
from certctl.pki import merkle
from certctl.store import audit_pruning, audit_tree
from certctl.store.audit_tree import FANOUT
from certctl.store.tx import Tx

_STEP = FANOUT.bit_length() - 1


class Hashes:
    """Reads whole blocks of a level, and each once."""

    def __init__(self, tx: Tx, scope: Scope) -> None:
        self._tx, self._scope = tx, scope
        self._blocks: dict[tuple[int, int], list[bytes]] = {}

    async def range(self, start: int, end: int) -> bytes:
        """The hash above the leaves from `start` to `end`, a range as proofs name them."""
        return merkle.join([await self._complete(low, high) for low, high in merkle.complete_parts(start, end)])

    async def ranges(self, wanted: list[merkle.Range]) -> list[bytes]:
        """The hashes of a proof."""
        return [await self.range(start, end) for start, end in wanted]

    async def _complete(self, start: int, end: int) -> bytes:
        level = ((end - start).bit_length() - 1) // _STEP
        low, high = start >> (level * _STEP), end >> (level * _STEP)
        block = await self._block(level, low // FANOUT)
        part = block[low % FANOUT : low % FANOUT + high - low]
        if len(part) < high - low:
            raise TrustError(f"hashes of the audit tree are gone: level {level}, from {low}")
        return merkle.root(part)

    async def _block(self, level: int, number: int) -> list[bytes]:
        key = (level, number)
        if key not in self._blocks:
            start = number * FANOUT
            found = await audit_tree.hashes(self._tx, self._scope, level, start, start + FANOUT)
            if level == 0 and not found:
                found = await audit_pruning.blocks(self._tx, self._scope, start, start + FANOUT) or []
            self._blocks[key] = found
        return self._blocks[key]
