"""A whole small fleet of real processes for tests: control plane, agent, private NGINX, and a prober that never looks away."""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from peers.nginx import Nginx
from peers.nursery import AGENT, HERE, SERVER, Nursery
from peers.ports import free_port
from peers.tls import any_certificate, served_der

SITE = "shop.example"


class Prober(threading.Thread):
    """Handshakes with the target again and again. Completing a handshake proves that certificate and key are a pair."""

    def __init__(self, port: int, pause_seconds: float = 0.005, address: str = "127.0.0.1") -> None:
        super().__init__(daemon=True)
        self._port, self._pause, self._address = port, pause_seconds, address
        self._stop_asked = threading.Event()
        self.seen: list[str] = []
        self.faults: list[str] = []

    def run(self) -> None:
        context = any_certificate()
        while not self._stop_asked.wait(self._pause):
            try:
                fingerprint = hashlib.sha256(served_der(self._address, self._port, SITE, context)).hexdigest()
            except OSError as error:
                self.faults.append(f"{type(error).__name__}: {error}")
            else:
                if not self.seen or self.seen[-1] != fingerprint:
                    self.seen.append(fingerprint)

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(10)


class Fleet:
    """Everything in one directory; `start_*` may be told to die at a named point."""

    def __init__(
        self, directory: Path, database_url: str | None = None, nursery: Nursery | None = None, **environ: str
    ) -> None:
        self.directory = directory
        self.nursery = nursery
        self._trust: tuple[bytes, ssl.SSLContext] | None = None
        self.api_port, self.pki_port = free_port(), free_port()
        self.nginx = Nginx(directory / "nginx", SITE)
        self.server_dir, self.agent_dir = directory / "server", directory / "agent"
        self._extra = environ
        if database_url is not None:
            self._extra = {
                "CERTCTL_DATABASE_URL": database_url,
                "CERTCTL_CONFIG_ENCRYPTION_KEY": "a key for tests only, of enough length",
                "CERTCTL_BOOTSTRAP_TOKEN": "bootstrap-for-tests-only",
            } | environ
        self.server: subprocess.Popen[bytes] | None = None
        self.agent: subprocess.Popen[bytes] | None = None
        self.key = ""
        self.agent_id = ""
        self.target_id = ""
        self._token = ""

    @property
    def url(self) -> str:
        return f"https://localhost:{self.api_port}"

    @property
    def ca_path(self) -> Path:
        return self.server_dir / "ca.pem"

    def _environ(self, die_at: str, who: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}
        return inherited | {
            "DIE_AT": die_at,
            "PYTHONPATH": str(HERE.parent),
            "ARM_FILE": str(self.arm_file(who)),
            "RECORD_POINTS": str(self.points_file(who)),
            "SIGNED_FILE": str(self.signed_file),
            "CLOCK_FILE": str(self.clock_file),
        }

    def arm_file(self, who: str) -> Path:
        """What a running `server` or `agent` looks at at every point, see `fault_hook`."""
        return self.directory / f"arm-{who}"

    def points_file(self, who: str) -> Path:
        return self.directory / f"points-{who}"

    @property
    def signed_file(self) -> Path:
        return self.directory / "signed"

    @property
    def clock_file(self) -> Path:
        return self.directory / "clock"

    def _spawn(self, name: str, script: Path, arguments: list[str], environ: dict[str, str]) -> Any:
        path = self.directory / f"{name}.log"
        if self.nursery is not None:
            return self.nursery.spawn(script, arguments, environ, path)
        command = [sys.executable, str(script), *arguments]
        with path.open("ab") as log:
            return subprocess.Popen(
                command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def start_server(self, die_at: str = "") -> None:
        self.spawn_server(die_at)
        self.wait(self._ready, "the server is ready")

    def spawn_server(self, die_at: str = "", **more: str) -> subprocess.Popen[bytes]:
        """Start it without waiting: it may be meant to die on its way."""
        environ = self._environ(die_at, "server") | {
            "CERTCTL_DATA_DIR": str(self.server_dir),
            "CERTCTL_SERVER_PORT": str(self.api_port),
            "CERTCTL_PKI_HTTP_PORT": str(self.pki_port),
            "CERTCTL_STEP_LEASE": "1s",
            # a first look begins somewhere in its interval: nothing here waits for that, or may meet it by chance
            "CERTCTL_HEALTH_CHECK_AUTO_CREATE": "false",
            "CERTCTL_LOG_FORMAT": "text",
            "CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL": "500ms",
            **self._extra,
            **more,
        }
        self.server = self._spawn("server", SERVER, [], environ)
        return self.server

    def _ready(self) -> bool:
        assert self.server is not None
        if self.server.poll() is not None:
            raise AssertionError(f"the server ended with {self.server.returncode}: {self.log('server')}")
        with contextlib.suppress(OSError, httpx.HTTPError):
            return self.call("GET", "/ready").status_code == 200
        return False

    def start_agent(self, die_at: str = "") -> None:
        self.spawn_agent(die_at)
        self.wait((self.agent_dir / "state" / "agent.json").exists, "the agent is enrolled")

    def spawn_agent(self, die_at: str = "") -> subprocess.Popen[bytes]:
        """Start it without waiting for its enrolment."""
        environ = self._environ(die_at, "agent") | {
            "CERTCTL_SERVER_URL": self.url,
            "CERTCTL_SERVER_CA_BUNDLE_PATH": str(self.ca_path),
            "CERTCTL_AGENT_NAME": "web-1",
            "CERTCTL_AGENT_STATE_DIR": str(self.agent_dir / "state"),
            "CERTCTL_KEY_DIR": str(self.agent_dir / "keys"),
            "CERTCTL_AGENT_ALLOW_FILE": str(self.nginx.allow_file),
            "CERTCTL_LOG_FORMAT": "text",
        }
        identity = self.agent_dir / "state" / "agent.json"
        if not identity.exists():
            if not self._token:
                self._token = self.post("/api/v1/agents/enrolment-tokens", {"agent_name": "web-1"})["token"]
            environ["CERTCTL_AGENT_ENROLMENT_TOKEN"] = self._token
        self.agent = self._spawn("agent", AGENT, ["run"], environ)
        return self.agent

    def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> httpx.Response:
        context = self._context()
        token = self.key if key is None else key
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(base_url=self.url, verify=context, timeout=20, headers=headers) as client:
            return client.request(method, path, json=body)

    def _context(self) -> ssl.SSLContext:
        """Trust in the server's CA; kept while its file stays as it is, for making one takes 30 ms."""
        pem = self.ca_path.read_bytes()
        if self._trust is None or self._trust[0] != pem:
            self._trust = (pem, ssl.create_default_context(cadata=pem.decode()))
        return self._trust[1]

    def get(self, path: str) -> Any:
        reply = self.call("GET", path)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def post(self, path: str, body: Any = None) -> Any:
        reply = self.call("POST", path, {} if body is None else body)
        assert reply.status_code < 300, reply.text
        return reply.json()

    def bootstrap(self) -> None:
        token = self._extra.get("CERTCTL_BOOTSTRAP_TOKEN") or (self.server_dir / "bootstrap-token").read_text().strip()
        self.key = self.post("/api/v1/auth/bootstrap", {"token": token, "actor_name": "tester"})["key_value"]

    def furnish(self, *, server_dies: str = "", agent_dies: str = "") -> None:
        """Everything up to, not including, the first request. What is to die is started last, with its point set."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.nginx.start()
        self.start_server()
        self.bootstrap()
        self.start_agent()
        identity = (self.agent_dir / "state" / "agent.json").read_text()
        import json

        self.agent_id = json.loads(identity)["agent_id"]
        made = self.post(
            "/api/v1/targets",
            {"name": "nginx", "type": "NGINX", "agent_id": self.agent_id, "config": self.nginx.target_config},
        )
        self.target_id = made["id"]
        if agent_dies:
            self.stop_agent()
            self.start_agent(agent_dies)
        if server_dies:
            self.stop_server()
            self.start_server(server_dies)

    def request(self, **more: Any) -> str:
        """Ask for a certificate; an answer lost with a dying server is found again by its id."""
        body = {"id": "cert-shop", "common_name": SITE, "target_ids": [self.target_id], **more}
        with contextlib.suppress(httpx.HTTPError):
            self.call("POST", "/api/v1/certificates", body)
        return "cert-shop"

    def wait(self, ready: Any, what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if ready():
                return
            time.sleep(0.02)
        raise AssertionError(
            f"not within {seconds} s: {what}\n--- agent\n{self.log('agent')}\n--- server\n{self.log('server')}"
        )

    def verified(self, certificate_id: str, versions: int = 1) -> bool:
        """Whether so many versions exist and the newest is verified on the target."""
        with contextlib.suppress(OSError, httpx.HTTPError):
            reply = self.call("GET", f"/api/v1/certificates/{certificate_id}/versions")
            if reply.status_code != 200 or reply.json()["total"] < versions:
                return False
            current = [one for one in reply.json()["data"] if one["status"] == "current"]
            (target,) = self.get(f"/api/v1/certificates/{certificate_id}/deployments")["data"]
            state = target.get("deployment") or {}
            return bool(current) and state.get("status") == "verified" and state.get("version_id") == current[0]["id"]
        return False

    def log(self, name: str) -> str:
        path = self.directory / f"{name}.log"
        if not path.exists():
            return ""
        # every look of a waiting test is a request that went well: they would push out what matters
        lines = [one for one in path.read_text(errors="replace").splitlines(keepends=True) if "status=200" not in one]
        return "".join(lines)[-3000:]

    def stop_server(self) -> None:
        _stop(self.server)

    def stop_agent(self) -> None:
        _stop(self.agent)

    def stop(self) -> None:
        _stop(self.agent)
        _stop(self.server)
        with contextlib.suppress(AssertionError):
            self.nginx.stop()


def _stop(process: subprocess.Popen[bytes] | None) -> None:
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


@contextlib.contextmanager
def fleet(directory: Path, database_url: str | None = None, **environ: str) -> Iterator[Fleet]:
    """A fleet for the length of the block; every process is stopped by its own pid."""
    made = Fleet(directory, database_url, **environ)
    try:
        yield made
    finally:
        made.stop()
