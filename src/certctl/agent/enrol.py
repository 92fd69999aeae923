"""Enrolment: a one-time token becomes an identity, on disk before anything else is done with it.

Retried safely: every try carries the same attempt id, kept on disk until the identity is, so that a lost answer does
not cost the token. Must never log the token or the credential.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from certctl import __version__
from certctl.agent.backoff import Backoff
from certctl.agent.durable import private_folder, read_private, remove, write_atomic
from certctl.agent.identity import IDENTITY_FILE, Identity, read_identity, write_identity
from certctl.agent.loop import CAPABILITIES, host_facts
from certctl.agent.settings import AgentSettings
from certctl.core.errors import Conflict, Malformed, Misconfigured, NotAllowed, NotAuthenticated, Temporary
from certctl.core.ids import check_id, uuid7
from certctl.core.secret import Secret
from certctl.telemetry.logging import get_logger
from certctl.wire.agent import Enrolled, Enrolment

if TYPE_CHECKING:
    from certctl.agent.server import Server

log = get_logger(__name__)

_ATTEMPT_FILE = "enrolling.json"
_PATIENCE_SECONDS = 60.0


async def enrol(settings: AgentSettings, patience_seconds: float = _PATIENCE_SECONDS) -> Identity:
    """Enrol with the token in `settings` and keep the identity. Raises CertctlError; Conflict when enrolled already."""
    from certctl.agent.server import Server

    state_dir = private_folder(settings.state_dir)
    if read_identity(state_dir) is not None:
        raise Conflict(
            f"this host is enrolled already ({state_dir / IDENTITY_FILE}); move that file away to enrol anew"
        )
    if not settings.server_url:
        raise Misconfigured("no server is named; give --server https://host:port or set CERTCTL_SERVER_URL")
    ca_bundle_pem = read_ca_bundle(settings.ca_bundle_path)
    server = Server(settings.server_url, settings.enrolment_token, write_ca_file(state_dir, ca_bundle_pem))
    try:
        enrolled = await _ask(server, settings.name, _attempt_id(state_dir), patience_seconds)
    finally:
        await server.aclose()
    identity = Identity(
        agent_id=check_id(enrolled.id, "id"),
        name=enrolled.name,
        credential=Secret(enrolled.credential),
        server_url=settings.server_url,
        ca_bundle_pem=ca_bundle_pem,
        heartbeat_seconds=max(1, enrolled.heartbeat_seconds),
        enrolled_at=datetime.now(UTC).replace(microsecond=0),
    )
    write_identity(state_dir, identity)
    remove(state_dir / _ATTEMPT_FILE, "agent.attempt")
    log.info("agent.enrolled", agent_id=identity.agent_id, name=identity.name, server_url=identity.server_url)
    return identity


def read_ca_bundle(path: str) -> str:
    """The PEM text of the CA bundle, or empty when none is named. Raises Misconfigured when it is no such thing."""
    if not path:
        return ""
    from certctl.pki.pem import read_certificates

    try:
        text = Path(path).read_text("ascii")
        read_certificates(text)
    except (OSError, UnicodeDecodeError, Malformed) as error:
        raise Misconfigured(
            f"the CA bundle {path} cannot be read as PEM certificates; name a readable file "
            "in CERTCTL_SERVER_CA_BUNDLE_PATH (-ca-bundle)",
            detail=str(error),
        ) from error
    return text


def write_ca_file(state_dir: Path, ca_bundle_pem: str) -> Path | None:
    """The agent's own copy of the CA bundle as a file, or None for the system's roots."""
    if not ca_bundle_pem:
        return None
    path = state_dir / "server-ca.pem"
    data = ca_bundle_pem.encode()
    if not path.exists() or path.read_bytes() != data:
        write_atomic(path, data, "agent.ca")
    return path


async def _ask(server: Server, name: str, attempt_id: str, patience_seconds: float) -> Enrolled:
    facts = host_facts()
    enrolment = Enrolment(
        name=name,
        hostname=facts.hostname,
        os=facts.os,
        architecture=facts.architecture,
        version=__version__,
        capabilities=CAPABILITIES,
    )
    backoff, give_up_at = Backoff(most_seconds=5.0), time.monotonic() + patience_seconds
    while True:
        try:
            return await server.enrol(enrolment, attempt_id)
        except (NotAuthenticated, NotAllowed) as error:
            raise type(error)(
                "the server refused the enrolment token: it is wrong, used or expired; ask for a new one",
                detail=str(error),
            ) from error
        except Temporary as error:
            wait = backoff.failed(error.retry_after)
            if time.monotonic() + wait > give_up_at:
                raise
            log.warning("agent.enrolment_waits", error=error, again_in_seconds=round(wait, 2))
            await asyncio.sleep(wait)


def _attempt_id(state_dir: Path) -> str:
    path = state_dir / _ATTEMPT_FILE
    try:
        return check_id(msgspec.json.decode(read_private(path), type=str))
    except (FileNotFoundError, msgspec.MsgspecError, Malformed):
        attempt_id = uuid7()
        write_atomic(path, msgspec.json.encode(attempt_id), "agent.attempt")
        return attempt_id
