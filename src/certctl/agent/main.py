"""The agent's composition: settings and identity in, one run of the loop out. The only module that knows all others."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from msgspec import Struct

from certctl import __version__
from certctl.agent.durable import FolderLock, private_folder, remove_leftovers
from certctl.agent.identity import IDENTITY_FILE, Identity, read_identity
from certctl.agent.settings import AgentSettings
from certctl.core.errors import Misconfigured, NotFound
from certctl.core.ids import check_id
from certctl.telemetry.logging import get_logger
from certctl.telemetry.traced import traced

log = get_logger(__name__)


class AgentStatus(Struct, frozen=True, kw_only=True):
    """What lies on this host, as `certctl-agent status` shows it; no secrets."""

    state_dir: str
    key_dir: str
    enrolled: bool
    agent_id: str = ""
    name: str = ""
    server_url: str = ""
    enrolled_at: datetime | None = None
    running: bool = False
    results_waiting: int = 0
    oldest_result_at: datetime | None = None
    deployments_open: list[str] = []
    corrupt_files: list[str] = []


def run_agent(settings: AgentSettings) -> int:
    """Run until told to stop; the exit code. Raises CertctlError when the agent cannot start."""
    state_dir = private_folder(settings.state_dir)
    with FolderLock(state_dir), traced("certctl-agent", __version__, wanted=settings.otel_enabled):
        remove_leftovers(state_dir)
        for sentence in settings.ignored:
            log.warning("agent.setting_ignored", reason=sentence)
        return asyncio.run(_run(settings))


def enrol_agent(settings: AgentSettings) -> Identity:
    """Enrol this host. Raises CertctlError."""
    from certctl.agent.enrol import enrol

    with FolderLock(private_folder(settings.state_dir)):
        return asyncio.run(enrol(settings))


def read_status(settings: AgentSettings) -> AgentStatus:
    """Look at this host without changing anything. Raises Misconfigured when the identity cannot be read."""
    from certctl.agent.outbox import read_entries

    state_dir = settings.state_dir
    try:
        if not state_dir.is_dir():
            return AgentStatus(state_dir=str(state_dir), key_dir=str(settings.key_dir), enrolled=False)
        identity = read_identity(state_dir)
        entries = read_entries(state_dir)
        return AgentStatus(
            state_dir=str(state_dir),
            key_dir=str(settings.key_dir),
            enrolled=identity is not None,
            agent_id=identity.agent_id if identity else "",
            name=identity.name if identity else "",
            server_url=identity.server_url if identity else "",
            enrolled_at=identity.enrolled_at if identity else None,
            running=FolderLock.is_held(state_dir),
            results_waiting=len(entries),
            oldest_result_at=min((entry.created_at for entry in entries), default=None),
            deployments_open=sorted(path.stem for path in state_dir.glob("deploys/*.json")),
            corrupt_files=sorted(str(p) for f in (state_dir, settings.key_dir) for p in f.rglob("*.corrupt-*")),
        )
    except PermissionError as error:
        raise Misconfigured(f"{error.filename} cannot be read; run this as the agent's user (or with sudo)") from error


async def _run(settings: AgentSettings) -> int:
    from certctl.agent.enrol import read_ca_bundle, write_ca_file
    from certctl.agent.intents import Intents
    from certctl.agent.keystore import KeyStore
    from certctl.agent.loop import Loop, Pace
    from certctl.agent.outbox import Outbox
    from certctl.agent.server import Server
    from certctl.agent.steps import Steps

    identity = await _identity(settings)
    ca_bundle_pem = read_ca_bundle(settings.ca_bundle_path) or identity.ca_bundle_pem
    steps = Steps(
        KeyStore(settings.key_dir), Intents(settings.state_dir), settings.state_dir, allow_file=settings.allow_file
    )
    ca_file = write_ca_file(settings.state_dir, ca_bundle_pem)
    server = Server(settings.server_url or identity.server_url, identity.credential, ca_file, identity.agent_id)
    try:
        pace = Pace(heartbeat_seconds=float(identity.heartbeat_seconds))
        return await Loop(server, steps, Outbox(settings.state_dir), pace).run()
    finally:
        await server.aclose()


async def _identity(settings: AgentSettings) -> Identity:
    """First an id and an API key as given (the reference product's way), then the file, then the token."""
    if settings.agent_id and settings.api_key:
        if not settings.server_url:
            raise Misconfigured("no server is named; give -server https://host:port or set CERTCTL_SERVER_URL")
        return Identity(
            agent_id=check_id(settings.agent_id, "CERTCTL_AGENT_ID"),
            name=settings.name,
            credential=settings.api_key,
            server_url=settings.server_url,
            enrolled_at=datetime.now(UTC),
        )
    identity = read_identity(settings.state_dir)
    if identity is not None:
        return identity
    if settings.enrolment_token:
        from certctl.agent.enrol import enrol

        return await enrol(settings)
    raise NotFound(
        f"this host is not enrolled ({settings.state_dir / IDENTITY_FILE} is not there); make an enrolment token on "
        "the server and run: certctl-agent enrol --server URL --token TOKEN --ca-bundle FILE --name NAME"
    )
