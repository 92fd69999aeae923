"""Probes, version and counts."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class Health(Struct, frozen=True, kw_only=True):
    """The process answers."""

    status: str


class Readiness(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether the process can do its work. `failed` names the check that fails: database, schema, leases, signer or
    stopping. `read_standby` says how a standby stands that is to be read from (used, behind, unreachable, wrong_schema,
    no_standby, or unknown yet): what it does not answer the primary does.
    """

    status: str
    db: str
    error: str = ""
    failed: str = ""
    read_standby: str = ""


class VersionInfo(Struct, frozen=True, kw_only=True):
    """What runs here, and its time.

    Empty build facts are not known; `go_version` is there for the reference product's clients.
    """

    version: str
    commit: str = ""
    modified: bool = False
    build_time: str = ""
    go_version: str = ""
    agent_protocol: int = 0
    server_time: datetime | None = None


class StatusCount(Struct, frozen=True, kw_only=True):
    """How many certificates read so."""

    status: str
    count: int
