"""A target puts one certificate version on one server and proves that the server serves it.

`plan` reads only and tells what would be done; `apply` does it, journaled, and rolls back to a served old certificate
when anything fails. Applying the same plan id twice is once. The same code runs in server and agent.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from msgspec import Struct


class Material(Struct, frozen=True):
    """The pair to deploy. `key_path` names a file on this host; the key itself is never in a message."""

    certificate_id: str
    version_id: str
    leaf_pem: str
    chain_pem: str
    key_path: Path | None
    fingerprint_sha256: str
    common_name: str
    names: tuple[str, ...] = ()


class PlannedFile(Struct, frozen=True):
    """One file of a plan: where, how, and a hash of what; never the bytes."""

    role: str
    path: str
    mode: int
    owner: str
    group: str
    sha256: str
    changes: bool


class Plan(Struct, frozen=True):
    """What would be done, readable, without secrets."""

    plan_id: str
    files: tuple[PlannedFile, ...]
    actions: tuple[str, ...]
    endpoint: str
    sni: str
    fingerprint_sha256: str
    summary: tuple[str, ...]


class Receipt(Struct, frozen=True):
    """What was done, and what was seen to be served afterwards. Times are aware UTC.

    `seen_by` says how: `handshake`, or `files` where there is no endpoint to look at and only the bytes on disk were.
    """

    plan_id: str
    fingerprint_sha256: str
    served_before: str
    served_after: str
    skipped_as_identical: bool
    files_written: tuple[str, ...]
    actions_run: tuple[str, ...]
    applied_at: datetime
    duration_ms: int
    seen_by: str = "handshake"


class Target(Protocol):
    """What every target can do."""

    async def plan(self, material: Material, plan_id: str) -> Plan:
        """A dry run: reads, validates configuration, touches nothing."""
        ...

    async def apply(self, plan: Plan, material: Material) -> Receipt:
        """Do the plan. On any failure the old pair is back and served, then ConnectorError is raised."""
        ...


@runtime_checkable
class Recovers(Protocol):
    """A target that keeps a journal: called at start, before any new work."""

    async def recover(self) -> tuple[str, ...]:
        """Finish or roll back what a crash left half done; returns a sentence for each journal settled."""
        ...


@runtime_checkable
class Probes(Protocol):
    """A target whose served certificate can be looked at."""

    async def served(self) -> str:
        """SHA-256 fingerprint (lowercase hex) of the leaf that the server serves now; raises ConnectorError."""
        ...
