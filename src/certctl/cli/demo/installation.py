"""The demo's installation in one directory: server and agent as processes of their own over HTTPS, an API key, a token.

Everything it needs to go on is in that directory, so that a second run resumes.
"""

from __future__ import annotations

import os
import secrets
import signal
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType

import msgspec

from certctl.cli.demo.children import Children, bare_environ, free_ports
from certctl.client import Client
from certctl.core.secret import Secret

SITE = "shop.demo.test"


def stop_as_ctrl_c_does() -> None:
    """A demo that is told to end takes its servers with it."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


class Ports(msgspec.Struct, frozen=True):
    """Loopback ports, kept over runs: CRL and OCSP addresses stand in certificates."""

    api: int
    pki: int
    web: int


class Memory(msgspec.Struct):
    """What a later run must know; 0600, since it holds the API key."""

    ports: Ports
    api_key: str = ""
    run: int = 0
    # what the credentials of a sample fleet's hosts are drawn from
    fleet_secret: str = ""


class Installation:
    """One directory with a control plane and an agent."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._memory_path = self.directory / "demo.json"
        self.children = Children(self.directory / "logs")
        if self._memory_path.exists():
            self.memory = msgspec.json.decode(self._memory_path.read_bytes(), type=Memory)
        else:
            self.memory = Memory(Ports(*free_ports(3)))
        self.resumed = bool(self.memory.api_key)

    @property
    def url(self) -> str:
        """Where the control plane is."""
        return f"https://localhost:{self.memory.ports.api}"

    @property
    def ca_path(self) -> Path:
        """The root that clients trust."""
        return self.directory / "server" / "ca.pem"

    @property
    def agent_dir(self) -> Path:
        """State and keys of the agent."""
        return self.directory / "agent"

    def remember(self) -> None:
        """Write what a later run must know, whole or not at all."""
        temporary = self._memory_path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(self.memory))
        temporary.rename(self._memory_path)

    def settings(self) -> dict[str, str]:
        """How the control plane is configured."""
        ports = self.memory.ports
        return {
            "CERTCTL_DATA_DIR": str(self.directory / "server"),
            "CERTCTL_SERVER_PORT": str(ports.api),
            "CERTCTL_PKI_HTTP_PORT": str(ports.pki),
            "CERTCTL_CA_COMMON_NAME": "certctl demo",
            "CERTCTL_LOG_FORMAT": "text",
        }

    def start_server(self) -> None:
        """Start the control plane and wait until it says that it is ready."""
        self.remember()
        environ = bare_environ() | self.settings()
        self.children.start("server", [sys.executable, "-m", "certctl.cli.server"], environ)
        self.children.wait_until("server", self._is_ready, 30)

    def _is_ready(self) -> bool:
        if not self.ca_path.exists():
            return False
        try:
            context = ssl.create_default_context(cafile=str(self.ca_path))
            ready = f"{self.url}/ready"
            with urllib.request.urlopen(ready, timeout=2, context=context) as reply:  # noqa: S310 - our own https address
                return bool(reply.status == 200)
        except (OSError, urllib.error.URLError, ssl.SSLError):
            return False

    def client(self) -> Client:
        """A client with the demo's own API key, made by the one-shot bootstrap the first time."""
        if not self.memory.api_key:
            token = (self.directory / "server" / "bootstrap-token").read_text().strip()
            anonymous = Client(self.url, Secret(""), self.ca_path)
            made = anonymous.bootstrap(token, "demo-admin")
            self.memory.api_key = made.key_value
            self.remember()
        return Client(self.url, Secret(self.memory.api_key), self.ca_path)

    def start_agent(self, client: Client, allow_file: Path) -> str:
        """Start the agent, enrolled with a one-time token the first time; returns its id once it is online."""
        environ = bare_environ() | {
            "CERTCTL_SERVER_URL": self.url,
            "CERTCTL_SERVER_CA_BUNDLE_PATH": str(self.ca_path),
            "CERTCTL_AGENT_NAME": "demo-host",
            "CERTCTL_AGENT_STATE_DIR": str(self.agent_dir / "state"),
            "CERTCTL_KEY_DIR": str(self.agent_dir / "keys"),
            "CERTCTL_AGENT_ALLOW_FILE": str(allow_file),
            "CERTCTL_LOG_FORMAT": "text",
        }
        if not (self.agent_dir / "state" / "agent.json").exists():
            token = client.create_enrolment_token(agent_name=self._agent_name(client), expires_in_seconds=600)
            environ["CERTCTL_AGENT_ENROLMENT_TOKEN"] = token.token
            environ["CERTCTL_AGENT_NAME"] = token.agent_name
        self.children.start("agent", [sys.executable, "-m", "certctl.cli.agent", "run"], environ)
        identity = self.agent_dir / "state" / "agent.json"
        self.children.wait_until("agent", identity.exists, 20)
        found: dict[str, str] = msgspec.json.decode(identity.read_bytes())
        return found["agent_id"]

    @staticmethod
    def _agent_name(client: Client) -> str:
        """`demo-host`, unless a directory that lost its agent has used that name up."""
        taken = {agent.name for agent in client.list_agents().data}
        return "demo-host" if "demo-host" not in taken else f"demo-host-{secrets.token_hex(3)}"
