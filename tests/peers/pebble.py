"""A real pebble, the test CA of Let's Encrypt, on loopback ports of the test's own; strict, forgetful, and killable."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from certctl.wire.jws import encode
from peers.ports import free_port

BINARY = Path(__file__).resolve().parents[2] / ".peers" / "pebble"
EAB_KID, EAB_KEY = "kid-1", b"k" * 32


@dataclass
class Pebble:
    """One CA: `kill` and `start` again give it a new memory and new keys, as its makers want it."""

    folder: Path
    port: int
    management_port: int
    http_port: int
    resolver: str
    environ: dict[str, str]
    profiles: dict[str, Any]
    eab: bool = False
    tls_port: int = 0
    process: subprocess.Popen[bytes] | None = None
    trust_pem: str = field(default="")

    @property
    def directory_url(self) -> str:
        return f"https://127.0.0.1:{self.port}/dir"

    def start(self) -> None:
        command = [str(BINARY), "-config", str(self.folder / "config.json"), "-strict", "-dnsserver", self.resolver]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=os.environ | self.environ, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"pebble did not start: {self.log()}")
            with contextlib.suppress(httpx.HTTPError):
                self.ask("/roots/0")
                return
            time.sleep(0.05)
        raise RuntimeError("pebble did not answer within 60 s")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def ask(self, path: str, method: str = "GET", body: Any = None) -> httpx.Response:
        """The management side."""
        context = ssl.create_default_context(cadata=self.trust_pem)
        with httpx.Client(verify=context, timeout=20, trust_env=False) as client:
            return client.request(method, f"https://127.0.0.1:{self.management_port}{path}", json=body)

    def serial_status(self, serial_number: str) -> str:
        """Valid or Revoked, as it says itself."""
        return str(self.ask(f"/cert-status-by-serial/{serial_number}").json()["Status"])

    def count(self, words: str) -> int:
        """How often a line of its log has these words."""
        return (self.folder / "log").read_text(errors="replace").count(words)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def config(self, **more: Any) -> dict[str, Any]:
        """An issuer's configuration for it."""
        return {
            "directory_url": self.directory_url,
            "ca_certificates_pem": self.trust_pem,
            "terms_of_service_agreed": True,
            "email": "ops@acme.test",
            # it names itself for CAA: what DNS says is looked at before it is asked
            "dns_resolver": self.resolver,
        } | more


@contextlib.contextmanager
def pebble(
    resolver: str,
    *,
    http_port: int = 0,
    tls_port: int = 0,
    eab: bool = False,
    profiles: dict[str, Any] | None = None,
    **environ: str,
) -> Iterator[Pebble]:
    """Run it for the length of the block: bad nonces on, no authorization used twice, names really validated."""
    if not BINARY.exists():
        raise RuntimeError("pebble is not built: run scripts/build-go-peers (needs go)")
    with tempfile.TemporaryDirectory(prefix="certctl-pebble-") as name:
        told = {"PEBBLE_WFE_NONCEREJECT": "15", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_VA_NOSLEEP": "1"} | environ
        chosen = profiles or {"default": {"description": "as it comes", "validityPeriod": 7_000_000}}
        http_port = http_port or free_port()
        made = Pebble(Path(name), free_port(), free_port(), http_port, resolver, told, chosen, eab, tls_port)
        _prepare(made)
        made.start()
        try:
            yield made
        finally:
            made.kill()


def _prepare(made: Pebble) -> None:
    made.trust_pem = _certificate(made.folder)
    config: dict[str, Any] = {
        "listenAddress": f"127.0.0.1:{made.port}",
        "managementListenAddress": f"127.0.0.1:{made.management_port}",
        "certificate": str(made.folder / "cert.pem"),
        "privateKey": str(made.folder / "key.pem"),
        "httpPort": made.http_port,
        "tlsPort": made.tls_port or free_port(),
        "ocspResponderURL": "",
        "externalAccountBindingRequired": made.eab,
        "domainBlocklist": ["blocked.acme.test"],
        "retryAfter": {"authz": 1, "order": 1},
        "keyAlgorithm": "ecdsa",
        "profiles": made.profiles,
    }
    if made.eab:
        config["externalAccountMACKeys"] = {EAB_KID: encode(EAB_KEY)}
    (made.folder / "config.json").write_text(json.dumps({"pebble": config}))


def _certificate(folder: Path) -> str:
    """A TLS certificate that signs itself, and its key, for pebble's two ports."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(Encoding.PEM).decode()
    (folder / "cert.pem").write_text(pem)
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pem
