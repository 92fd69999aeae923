"""A town of real processes for chaos: one PostgreSQL, two servers, agents, each with a target that serves TLS, lines between them.

Everything is started, killed and found again here; nobody is judged. Servers speak to the database, agents to the servers, over
lines that can be cut. Targets are NGINX or small TLS endpoints that read plain files and reload by an action of the host.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from chaos.lines import Line, Lines
from peers.nginx import Nginx, fingerprint, make_pair
from peers.nursery import AGENT, HERE, SERVER, Child, Nursery
from peers.ports import free_port
from peers.postgres import Postgres

BOOTSTRAP = "bootstrap-for-tests-only"
ENDPOINTS = Path(__file__).with_name("endpoints.py")
_HOTEL = 12  # so many small endpoints live in one process and die together
_NO_CONNECTION = 2  # how psql ends when the database takes no connection
LEASE = "3s"
LIFE_SECONDS = 900  # renewal falls due by itself within a run of twenty minutes


def environ(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}
    return kept | {"PYTHONPATH": str(HERE.parent), "CERTCTL_LOG_FORMAT": "text"} | more


class Replica:
    """One server with a data directory of its own; its way to the database is a line."""

    def __init__(self, town: Town, number: int) -> None:
        self.name = f"server-{number}"
        self.dir = town.dir / self.name
        self.port, self.pki_port = free_port(), free_port()
        self.line = town.lines.lay(town.postgres.port)
        self.process: Child | None = None
        self._town = town

    def start(self) -> None:
        url = self._town.database_url.replace(f":{self._town.postgres.port}/", f":{self.line.port}/")
        told = environ(
            CERTCTL_DATA_DIR=str(self.dir),
            CERTCTL_SERVER_PORT=str(self.port),
            CERTCTL_PKI_HTTP_PORT=str(self.pki_port),
            CERTCTL_PKI_BASE_URL=f"http://127.0.0.1:{self._town.pki_line.port}",
            CERTCTL_DATABASE_URL=url,
            CERTCTL_CONFIG_ENCRYPTION_KEY="a key for tests only, of enough length",
            CERTCTL_BOOTSTRAP_TOKEN=BOOTSTRAP,
            CERTCTL_STEP_LEASE=LEASE,
            CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL=self._town.renewal_check,
            CERTCTL_CRL_GENERATION_INTERVAL="30s",
            CERTCTL_LOG_LEVEL="warn",
            SIGNED_FILE=str(self._town.signed_file),
            SLOW_CA_FILE=str(self._town.slow_ca_file),
        )
        self.process = self._town.nursery.spawn(SERVER, [], told, self._town.dir / f"{self.name}.log")


class Host:
    """An agent, its target, and its certificate."""

    def __init__(self, town: Town, number: int, kind: str) -> None:
        self.name = f"host-{number:02}"
        self.dir = town.dir / self.name
        self.kind = kind
        self.site = f"{self.name}.town.example"
        self.certificate_id = f"cert-{self.name}"
        self.agent_id = self.target_id = ""
        self.line: Line = town.lines.lay()
        self.agent: Child | None = None
        self.nginx: Nginx | None = None
        self.down: list[tuple[float, float]] = []  # when its target was killed and not yet up again (monotonic)
        self._town = town
        if kind == "NGINX":
            self.nginx = Nginx(self.dir / "nginx", self.site)
            self.port, tls = self.nginx.port, self.nginx.tls_dir
            self.config: dict[str, str] = self.nginx.target_config
            self.allow_file = self.nginx.allow_file
        else:
            self.port, tls = free_port(), self.dir / "tls"
            tls.mkdir(parents=True)
            pair = make_pair(self.site)
            (tls / "cert.pem").write_text(pair[0])
            (tls / "key.pem").write_bytes(pair[1])
            self.allow_file = self.dir / "allow.toml"
            self.allow_file.write_text(
                f'[[folder]]\npath = "{tls}"\n[action."files.reload"]\n'
                f'command = ["/usr/bin/touch", "{self.reload_file}"]\ntimeout = "10s"\n'
            )
            self.allow_file.chmod(0o644)
            self.config = {
                "cert_path": str(tls / "cert.pem"),
                "key_path": str(tls / "key.pem"),
                "endpoint": f"127.0.0.1:{self.port}",
                "sni": self.site,
                "reload_action": "files.reload",
            }
        self.tls_dir = tls
        self.placeholder = fingerprint((tls / "cert.pem").read_text())

    @property
    def reload_file(self) -> Path:
        return self.dir / "reload"

    def start_agent(self, token: str = "") -> None:
        told = environ(
            CERTCTL_SERVER_URL=f"https://localhost:{self.line.port}",
            CERTCTL_SERVER_CA_BUNDLE_PATH=str(self._town.ca_path),
            CERTCTL_AGENT_NAME=self.name,
            CERTCTL_AGENT_STATE_DIR=str(self.dir / "agent" / "state"),
            CERTCTL_KEY_DIR=str(self.dir / "agent" / "keys"),
            CERTCTL_AGENT_ALLOW_FILE=str(self.allow_file),
            **({"CERTCTL_AGENT_ENROLMENT_TOKEN": token} if token else {}),
        )
        self.agent = self._town.nursery.spawn(AGENT, ["run"], told, self.dir / "agent.log")

    def was_down(self, since: float, until: float) -> bool:
        """Whether its target was known to be dead at any moment of this span."""
        return any(begun - 0.1 <= until and since <= ended + 0.1 for begun, ended in self.down)


class Hotel:
    """One process of small endpoints."""

    def __init__(self, town: Town, number: int, hosts: list[Host]) -> None:
        self.name, self.hosts = f"endpoints-{number}", hosts
        self._list = town.dir / f"{self.name}.json"
        self._list.write_text(
            json.dumps([[h.port, h.config["cert_path"], h.config["key_path"], str(h.reload_file)] for h in hosts])
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ENDPOINTS), str(self._list)], stdin=subprocess.DEVNULL, env=environ()
        )


class Town:
    """Build it, then `open` it; `close` ends every process by its own handle."""

    def __init__(
        self, folder: Path, postgres: Postgres, nursery: Nursery, lines: Lines, agents: int, nginx: int
    ) -> None:
        self.dir, self.postgres, self.nursery, self.lines = folder, postgres, nursery, lines
        self.database_url = postgres.new_database()
        self.database = self.database_url.rpartition("/")[2]
        self.renewal_check = "1s"
        self.signed_file, self.slow_ca_file = folder / "signed", folder / "slow-ca"
        self.pki_line = lines.lay()
        self.replicas = [Replica(self, number) for number in (1, 2)]
        self.pki_line.ends = [one.pki_port for one in self.replicas]
        self.hosts = [Host(self, number, "NGINX" if number < nginx else "Files") for number in range(agents)]
        for host in self.hosts:
            host.line.ends = [one.port for one in self.replicas]
        plain = [host for host in self.hosts if host.kind == "Files"]
        self.hotels = [
            Hotel(self, begin // _HOTEL, plain[begin : begin + _HOTEL]) for begin in range(0, len(plain), _HOTEL)
        ]
        self.key = ""
        self._client: httpx.Client | None = None
        self._asking = threading.Lock()

    @property
    def ca_path(self) -> Path:
        return self.replicas[0].dir / "ca.pem"

    def open(self) -> None:
        """Everything up, every agent enrolled, every certificate asked for."""
        for hotel in self.hotels:
            hotel.start()
        for host in self.hosts:
            if host.nginx is not None:
                host.nginx.start()
        for replica in self.replicas:
            replica.start()
            self.wait(lambda one=replica: self._is_ready(one), f"{replica.name} is ready", 120)
        self.key = self.ask("POST", "/api/v1/auth/bootstrap", {"token": BOOTSTRAP, "actor_name": "tester"})["key_value"]
        for host in self.hosts:
            token = self.ask("POST", "/api/v1/agents/enrolment-tokens", {"agent_name": host.name})["token"]
            host.start_agent(token)
        for host in self.hosts:
            identity = host.dir / "agent" / "state" / "agent.json"
            self.wait(identity.exists, f"{host.name} is enrolled", 180)
            host.agent_id = json.loads(identity.read_text())["agent_id"]
            body = {"name": host.name, "type": host.kind, "agent_id": host.agent_id, "config": host.config}
            host.target_id = self.ask("POST", "/api/v1/targets", body)["id"]
            wanted = {
                "id": host.certificate_id,
                "common_name": host.site,
                "target_ids": [host.target_id],
                "validity_seconds": LIFE_SECONDS,
            }
            self.ask("POST", "/api/v1/certificates", wanted)

    def _is_ready(self, replica: Replica) -> bool:
        assert replica.process is not None
        if replica.process.poll() is not None:
            raise AssertionError(f"{replica.name} ended: {self.log(replica.name)}")
        with contextlib.suppress(OSError, httpx.HTTPError):
            return self.call("GET", "/ready", ports=[replica.port]).status_code == 200
        return False

    def stop_renewing(self) -> None:
        """Restart both servers, gently, so that no renewal falls due while the town is judged: lives are short here."""
        self.renewal_check = "24h"
        for replica in self.replicas:
            # one that the fire killed last may have begun a moment ago: before it is up, there is nothing to stop gently
            self.wait(lambda one=replica: self._is_ready(one), f"{replica.name} is ready", 120)
            assert replica.process is not None
            replica.process.terminate()
            ended = replica.process.wait(60)
            assert ended == 0, f"{replica.name} did not drain, it ended with {ended}: {self.log(replica.name)}"
            replica.start()
            self.wait(lambda one=replica: self._is_ready(one), f"{replica.name} is ready", 120)

    # -- asking --------------------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Any = None, ports: list[int] | None = None) -> httpx.Response:
        """Ask the servers in turn until one answers. Raises httpx.HTTPError when none does: the answer is lost."""
        failure: httpx.HTTPError | None = None
        chosen = ports or [one.port for one in random.sample(self.replicas, len(self.replicas))]
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        for number, port in enumerate(chosen):
            try:
                return self._http().request(method, f"https://localhost:{port}{path}", json=body, headers=headers)
            except httpx.ConnectError as error:
                failure = error
            except httpx.HTTPError as error:
                failure = error
                if method != "GET" or number + 1 == len(chosen):
                    raise  # it may have been done: whoever asks again must know that
        assert failure is not None
        raise failure

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        reply = self.call(method, path, body)
        assert reply.status_code < 300, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json()

    def _http(self) -> httpx.Client:
        with self._asking:
            if self._client is None:
                context = ssl.create_default_context(cadata=self.ca_path.read_text())
                limits = httpx.Limits(max_keepalive_connections=0)
                self._client = httpx.Client(verify=context, timeout=10, limits=limits)
            return self._client

    def rows(self, sql: str) -> list[tuple[str, ...]]:
        """What the database says, once it answers: of a backend that was killed it recovers by itself."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return [tuple(line.split("|")) for line in self.postgres.sql(sql, self.database).splitlines()]
            except subprocess.CalledProcessError as error:
                if error.returncode != _NO_CONNECTION or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def wait(self, ready: Any, what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(0.1)

    def log(self, name: str) -> str:
        path = self.dir / f"{name}.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def close(self) -> None:
        for child in [*(host.agent for host in self.hosts), *(one.process for one in self.replicas)]:
            if child is not None and child.poll() is None:
                child.send_signal(signal.SIGCONT)
                child.terminate()
        deadline = time.monotonic() + 30
        for child in [*(host.agent for host in self.hosts), *(one.process for one in self.replicas)]:
            if child is not None and child.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(max(0.0, deadline - time.monotonic()))
        for hotel in self.hotels:
            if hotel.process is not None:
                hotel.process.kill()
                hotel.process.wait(10)
        for host in self.hosts:
            if host.nginx is not None:
                host.nginx.stop()
        if self._client is not None:
            self._client.close()
