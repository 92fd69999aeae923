"""The audit log and its seal, with the reference product's fields and more."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct


class AuditEventView(Struct, frozen=True, kw_only=True):
    """What somebody did to something. `event_category` is cert_lifecycle, auth or config."""

    id: str
    timestamp: datetime
    actor: str
    actor_type: str
    action: str
    resource_type: str
    resource_id: str
    details: dict[str, Any]
    event_category: str
    request_id: str
    address: str


class SealedEventView(AuditEventView, frozen=True, kw_only=True):
    """One line of a sealed export: the event, its place in the tree and the hash that was sealed there (hex)."""

    leaf_index: int
    leaf_hash: str


class SealProof(Struct, frozen=True, kw_only=True):
    """What the last line of a sealed export proves its lines with: they are the leaves from `start` to `end`.

    `checkpoint` is the signed head of the tree, `beside` the hashes (hex) of what lies before and behind them.
    """

    checkpoint: str
    verifier_key: str
    start: int
    end: int
    beside: list[str]


class SealTrailer(Struct, frozen=True, kw_only=True):
    """The last line of a sealed export."""

    seal: SealProof


class SealView(Struct, frozen=True, kw_only=True):
    """How the seal stands. `size` events are sealed under `checkpoint`, `unsealed` wait for it (a second or two).

    `broken_at` is the first entry that was found not to be what was sealed; `broken` says what is wrong with it. The
    first `pruned_size` events were dropped by the policy that keeps them for `retention` (empty: for ever).
    """

    origin: str
    size: int
    unsealed: int
    checkpoint: str
    verifier_key: str
    verified_size: int
    verified_at: datetime | None = None
    walked_at: datetime | None = None
    broken_at: int | None = None
    broken: str = ""
    pruned_size: int = 0
    retention: str = ""


class InclusionView(Struct, frozen=True, kw_only=True):
    """The proof that an event is under the seal (RFC 9162 2.1.3): hashes in hex, from the leaf upwards."""

    event_id: str
    leaf_index: int
    leaf_hash: str
    tree_size: int
    path: list[str]
    checkpoint: str


class ConsistencyView(Struct, frozen=True, kw_only=True):
    """The proof that the log of `second` events begins with that of `first` (RFC 9162 2.1.4): hashes in hex."""

    first: int
    second: int
    proof: list[str]
    first_root: str
    second_root: str


class SealVerification(Struct, frozen=True, kw_only=True):
    """What verifying the whole log came to."""

    looked_at: int
    size: int
    intact: bool
    broken_at: int | None = None
    broken: str = ""
    # so many of `size` were dropped by the retention; of these the hashes hold
    pruned: int = 0


class AuditReceiverView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One receiver of the log off the box. `behind` events wait; `failures` in a row since it last took any."""

    name: str
    address: str
    behind: int
    sent: int
    failures: int
    error: str = ""
    sent_at: datetime | None = None
    next_try_at: datetime | None = None


class AuditPushView(Struct, frozen=True, kw_only=True):
    """Every receiver that is configured."""

    receivers: list[AuditReceiverView]
