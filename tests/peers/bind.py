"""A real BIND of the test's own on a loopback port: one zone, changed by dynamic updates (RFC 2136) with a TSIG key."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import dns.tsigkeyring
import dns.update

from peers.ports import free_port

ZONE = "acme.test"
_CONF = """
options {{
  directory "{folder}"; pid-file "{folder}/pid"; session-keyfile "{folder}/session.key"; lock-file none;
  listen-on port {port} {{ {address}; }}; listen-on-v6 {{ none; }};
  recursion no; dnssec-validation no; notify no; empty-zones-enable no; allow-query {{ any; }};
}};
controls {{ }};
key "up" {{ algorithm hmac-sha256; secret "{secret}"; }};
zone "{zone}" {{ type primary; file "{folder}/zone"; allow-update {{ key "up"; }}; }};
zone "test" {{ type primary; file "{folder}/top"; }};
zone "broken.test" {{ type primary; file "{folder}/not-there"; }};
"""
_TOP = """$TTL 1
@ IN SOA ns.{zone}. root.{zone}. 1 3600 600 86400 1
@ IN NS ns.{zone}.
acme IN NS ns.{zone}.
ns.acme IN A {address}
"""
_ZONE = """$TTL 1
@ IN SOA ns.{zone}. root.{zone}. 1 3600 600 86400 1
@ IN NS ns.{zone}.
ns IN A {address}
*.web IN A {address}
web IN A {address}
"""


@dataclass
class Bind:
    """One running name server."""

    folder: Path
    address: str
    port: int
    secret: str
    process: subprocess.Popen[bytes]

    @property
    def resolver(self) -> str:
        return f"{self.address}:{self.port}"

    def set(self, name: str, kind: str, *values: str) -> None:
        """Replace the records of one name (absolute or beneath the zone) and kind; none: delete them."""
        ring = dns.tsigkeyring.from_text({"up": self.secret})
        update = dns.update.UpdateMessage(ZONE, keyring=ring, keyalgorithm="hmac-sha256")
        update.delete(name, kind)
        for value in values:
            update.add(name, 1, kind, value)
        answer = dns.query.tcp(update, self.address, timeout=30, port=self.port)
        assert answer.rcode() == dns.rcode.NOERROR, answer


def _binary() -> str:
    found = shutil.which("named") or "/usr/sbin/named"
    if not Path(found).exists():
        raise RuntimeError("named is not installed: run make test, or apt-get install bind9")
    return found


@contextlib.contextmanager
def bind(
    address: str = "127.0.0.1",
    port: int = 0,
    inside: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Iterator[Bind]:
    """Run a name server for the length of the block; `inside` is where (a network namespace)."""
    folder = Path(tempfile.mkdtemp(prefix="certctl-bind-"))
    port, secret = port or free_port(), b64encode(secrets.token_bytes(32)).decode()
    (folder / "conf").write_text(_CONF.format(folder=folder, port=port, address=address, secret=secret, zone=ZONE))
    (folder / "zone").write_text(_ZONE.format(zone=ZONE, address=address))
    (folder / "top").write_text(_TOP.format(zone=ZONE, address=address))
    try:
        with (folder / "log").open("wb") as log, inside():
            process = subprocess.Popen([_binary(), "-g", "-n", "1", "-c", str(folder / "conf")], stdout=log, stderr=log)
        server = Bind(folder, address, port, secret, process)
        try:
            with inside():
                _wait(server)
                yield server
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: Bind) -> None:
    deadline, asked = time.monotonic() + 60, dns.message.make_query(ZONE, "SOA")
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"BIND did not start: {(server.folder / 'log').read_text()[-2000:]}")
        try:
            answer = dns.query.tcp(asked, server.address, timeout=1, port=server.port)
        except (OSError, dns.exception.DNSException):
            time.sleep(0.05)
            continue
        if answer.answer:
            return
    raise RuntimeError("BIND did not answer within 60 s")
