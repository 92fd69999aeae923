"""Who this agent is: `<state>/agent.json`, written once at enrolment, 0600, before anything else is done.

The credential in it works for this agent alone. Must never be logged, and never be replaced silently: a file that
cannot be read stops the agent and a person decides.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from certctl.agent.durable import read_private, write_atomic
from certctl.agent.settings import check_server_url
from certctl.core.errors import Malformed, Misconfigured
from certctl.core.ids import check_id
from certctl.core.secret import Secret

IDENTITY_FILE = "agent.json"


class Identity(Struct, frozen=True, kw_only=True):
    """The agent's name at the server and what it proves itself with. `ca_bundle_pem` empty means the system's roots."""

    agent_id: str
    name: str
    credential: Secret
    server_url: str
    ca_bundle_pem: str = ""
    heartbeat_seconds: int = 30
    enrolled_at: datetime


_FORMAT = 1


class _Stored(Struct, kw_only=True):
    agent_id: str
    name: str
    credential: Annotated[str, Meta(min_length=1)]
    server_url: str
    ca_bundle_pem: str = ""
    heartbeat_seconds: int = 30
    enrolled_at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    format: Annotated[int, Meta(ge=_FORMAT, le=_FORMAT)] = _FORMAT


def write_identity(state_dir: Path, identity: Identity) -> None:
    """Keep `identity` for good: flushed to disk when this returns."""
    stored = _Stored(
        agent_id=identity.agent_id,
        name=identity.name,
        credential=identity.credential.reveal(),
        server_url=identity.server_url,
        ca_bundle_pem=identity.ca_bundle_pem,
        heartbeat_seconds=identity.heartbeat_seconds,
        enrolled_at=identity.enrolled_at,
    )
    data = msgspec.json.format(msgspec.json.encode(stored), indent=2)
    write_atomic(state_dir / IDENTITY_FILE, data, "agent.identity")


def read_identity(state_dir: Path) -> Identity | None:
    """The identity kept in `state_dir`, or None before enrolment. Raises Misconfigured when it cannot be read."""
    path = state_dir / IDENTITY_FILE
    try:
        stored = msgspec.json.decode(read_private(path), type=_Stored)
        return Identity(
            agent_id=check_id(stored.agent_id, "agent_id"),
            name=stored.name,
            credential=Secret(stored.credential),
            server_url=check_server_url(stored.server_url),
            ca_bundle_pem=stored.ca_bundle_pem,
            heartbeat_seconds=max(1, stored.heartbeat_seconds),
            enrolled_at=stored.enrolled_at,
        )
    except FileNotFoundError:
        return None
    except (ValueError, msgspec.MsgspecError, Malformed, OSError) as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> Misconfigured:
    return Misconfigured(
        f"the identity file {path} cannot be read; restore it from a backup, "
        "or move it away and enrol again with a new token (certctl-agent enrol)"
    )
