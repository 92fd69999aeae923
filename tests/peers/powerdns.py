"""A real PowerDNS of the test's own on loopback ports: one zone in SQLite, changed over its HTTP API with a key."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from peers.ports import free_port

ZONE = "power.test"
_SCHEMA = Path("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")
_CONF = """
launch=gsqlite3
gsqlite3-database={folder}/zones.db
local-address=127.0.0.1
local-port={port}
socket-dir={folder}
api=yes
api-key={key}
webserver=yes
webserver-address=127.0.0.1
webserver-port={api_port}
webserver-allow-from=127.0.0.0/8
daemon=no
guardian=no
setuid=
setgid=
chroot=
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
zone-cache-refresh-interval=0
receiver-threads=1
distributor-threads=1
security-poll-suffix=
"""


@dataclass
class PowerDns:
    """One running name server. `process` may be stopped and told to go on: it hangs meanwhile."""

    folder: Path
    port: int
    api_port: int
    key: str
    process: subprocess.Popen[bytes]

    @property
    def resolver(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    def call(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Its API, with the key."""
        with httpx.Client(timeout=20, trust_env=False, headers={"X-API-Key": self.key}) as client:
            return client.request(method, f"{self.api}/api/v1/servers/localhost{path}", json=body)

    def config(self, **more: object) -> dict[str, object]:
        """The part of an issuer's configuration that proves names by it."""
        return {
            "challenge_type": "dns-01",
            "dns_provider": "powerdns",
            "dns_provider_options": {"pdns_server": self.api, "ttl": "60"},
            "dns_provider_secrets": f"auth_token={self.key}",
            "dns_resolver": self.resolver,
            "propagation_servers": [self.resolver],
        } | more

    def texts(self, name: str) -> list[str]:
        """The TXT records that are there at a name."""
        found = self.call("GET", f"/zones/{ZONE}.").json()["rrsets"]
        return [
            record["content"]
            for rrset in found
            if rrset["type"] == "TXT" and rrset["name"] == f"{name}."
            for record in rrset["records"]
        ]


@contextlib.contextmanager
def powerdns() -> Iterator[PowerDns]:
    """Run one for the length of the block."""
    binary = shutil.which("pdns_server") or "/usr/sbin/pdns_server"
    if not Path(binary).exists() or not _SCHEMA.exists():
        raise RuntimeError("PowerDNS is not installed: run make test, or apt-get install pdns-server")
    folder = Path(tempfile.mkdtemp(prefix="certctl-pdns-"))
    try:
        with contextlib.closing(sqlite3.connect(folder / "zones.db")) as database:
            database.executescript(_SCHEMA.read_text())
        port, api_port, key = free_port(), free_port(), secrets.token_urlsafe(24)
        (folder / "pdns.conf").write_text(_CONF.format(folder=folder, port=port, api_port=api_port, key=key))
        with (folder / "log").open("wb") as log:
            command = [binary, f"--config-dir={folder}"]
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        server = PowerDns(folder, port, api_port, key, process)
        try:
            _wait(server)
            for name in (ZONE, "test"):
                nameservers = [f"ns.{ZONE}."]
                body = {"name": f"{name}.", "kind": "Native", "nameservers": nameservers}
                answer = server.call("POST", "/zones", body)
                assert answer.status_code == 201, answer.text
            yield server
        finally:
            process.kill()
            process.wait(10)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: PowerDns) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"PowerDNS did not start: {(server.folder / 'log').read_text()[-2000:]}")
        with contextlib.suppress(httpx.HTTPError):
            if server.call("GET", "").status_code == 200:
                return
        time.sleep(0.05)
    raise RuntimeError(f"PowerDNS did not answer within 60 s: {(server.folder / 'log').read_text()[-2000:]}")
