"""Merkle trees over lists of hashes: roots, inclusion and consistency proofs (RFC 9162 2.1, SHA-256).

Nothing here holds a tree. Proofs are asked for as ranges of leaves, `(start, end)`, so that whoever keeps the hashes
computes only the subtrees that a proof needs. Hashes are 32 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

Range = tuple[int, int]
EMPTY = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """The hash of one entry (RFC 9162 2.1.1)."""
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash above two subtrees (RFC 9162 2.1.1)."""
    return hashlib.sha256(b"\1" + left + right).digest()


def root(hashes: Sequence[bytes]) -> bytes:
    """The root above leaf hashes, or above the roots of equally large complete subtrees."""
    level = list(hashes)
    if not level:
        return EMPTY
    sha256 = hashlib.sha256
    while len(level) > 1:
        # `node_hash`, with no call: a walk over the audit log makes one for each of its entries
        above = [sha256(b"\1" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        # a last one without a partner moves up as it is: the same as splitting at the largest power of two
        level = above + level[len(level) & ~1 :]
    return level[0]


def complete_parts(start: int, end: int) -> list[Range]:
    """The complete subtrees of which the range is made, left to right, each as large as it can be.

    `start` must be a multiple of the largest power of two in the range, as the ranges of proofs are.
    """
    parts = []
    while start < end:
        size = 1 << ((end - start).bit_length() - 1)
        parts.append((start, start + size))
        start += size
    return parts


def join(parts: Sequence[bytes]) -> bytes:
    """The hash above the complete subtrees of one range, in the order of `complete_parts`."""
    if not parts:
        return EMPTY
    joined = parts[-1]
    for part in reversed(parts[:-1]):
        joined = node_hash(part, joined)
    return joined


def _split(size: int) -> int:
    """The largest power of two below `size` (> 1)."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion(index: int, size: int) -> list[Range]:
    """The subtrees whose hashes prove that leaf `index` is in the tree of `size`, from the leaf upwards (2.1.3.1)."""
    if not 0 <= index < size:
        raise ValueError("no such leaf in a tree of this size")
    path: list[Range] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start = middle
    return path[::-1]


def proves_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], wanted_root: bytes) -> bool:
    """Whether the path leads from the leaf's hash to the root (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf
    for hashed in path:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(hashed, found)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, hashed)
        place, last = place >> 1, last >> 1
    return last == 0 and found == wanted_root


def consistency(first: int, second: int) -> list[Range]:
    """The subtrees whose hashes prove that the tree of `second` leaves begins with that of `first` (2.1.4.1)."""
    if not 0 < first <= second:
        raise ValueError("the first tree must not be empty, nor larger than the second")
    proof: list[Range] = []
    start, end, at_edge = 0, second, True
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            proof.append((middle, end))
            end = middle
        else:
            proof.append((start, middle))
            start, at_edge = middle, False
    if not at_edge:
        proof.append((start, end))
    return proof[::-1]


def proves_consistency(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the larger tree begins with the smaller (RFC 9162 2.1.4.2)."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not proof and first_root == second_root
    path = list(proof)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    if not path:
        return False
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    older = newer = path[0]
    for hashed in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            older, newer = node_hash(hashed, older), node_hash(hashed, newer)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            newer = node_hash(newer, hashed)
        place, last = place >> 1, last >> 1
    return last == 0 and older == first_root and newer == second_root


def outside(start: int, end: int, size: int) -> list[Range]:
    """The subtrees beside the leaves `start` to `end` of a tree of `size`, left to right: with their hashes and those
    leaves the root can be computed.
    """
    return [part for part, inside in _walk(start, end, 0, size) if not inside]


def root_around(leaves: Sequence[bytes], start: int, size: int, beside: Sequence[bytes]) -> bytes:
    """The root of a tree of `size` from its leaves at `start` on and the hashes of `outside`. Raises ValueError when
    there are too few or too many.
    """
    given = iter(beside)
    found = _combine(start, start + len(leaves), 0, size, lambda at: leaves[at - start], given)
    if next(given, None) is not None:
        raise ValueError("more hashes than the tree has room for")
    return found


def _walk(start: int, end: int, low: int, high: int) -> Iterator[tuple[Range, bool]]:
    if low >= high:
        return
    if high <= start or low >= end or start >= end:
        yield (low, high), False
    elif high - low == 1:
        yield (low, high), True
    else:
        middle = low + _split(high - low)
        yield from _walk(start, end, low, middle)
        yield from _walk(start, end, middle, high)


def _combine(start: int, end: int, low: int, high: int, leaf: Callable[[int], bytes], given: Iterator[bytes]) -> bytes:
    if low >= high:
        return EMPTY
    if high <= start or low >= end or start >= end:
        hashed = next(given, None)
        if hashed is None:
            raise ValueError("a hash of what lies beside is missing")
        return hashed
    if high - low == 1:
        return leaf(low)
    middle = low + _split(high - low)
    left = _combine(start, end, low, middle, leaf, given)
    return node_hash(left, _combine(start, end, middle, high, leaf, given))


class Growing:
    """The roots of the complete subtrees of a growing tree, largest first (RFC 9162 2.1.2)."""

    def __init__(self) -> None:
        self.size = 0
        self.roots: list[bytes] = []

    def append(self, hashed: bytes) -> None:
        """One more leaf hash."""
        size, self.size = self.size, self.size + 1
        while size & 1:
            hashed = node_hash(self.roots.pop(), hashed)
            size >>= 1
        self.roots.append(hashed)

    def root(self) -> bytes:
        """Of the leaves so far."""
        return join(self.roots)
