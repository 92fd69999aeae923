"""A private NGINX for tests: its own folder, configuration, pid and loopback port; nothing of the system's NGINX."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from peers.ports import free_port
from peers.tls import any_certificate, served_der

NGINX = "/usr/sbin/nginx"

_CONF = """\
daemon off;
worker_processes 2;
pid {dir}/nginx.pid;
error_log {dir}/error.log notice;
events {{ worker_connections 128; }}
http {{
  access_log off;
  client_body_temp_path {dir}/tmp-body;
  proxy_temp_path {dir}/tmp-proxy;
  fastcgi_temp_path {dir}/tmp-fastcgi;
  uwsgi_temp_path {dir}/tmp-uwsgi;
  scgi_temp_path {dir}/tmp-scgi;
  server {{
    listen {address}:{port} ssl;
    server_name {name};
    ssl_certificate {cert};
    ssl_certificate_key {key};
    location / {{ return 200 "served\\n"; }}
  }}
}}
"""


def make_pair(
    common_name: str = "shop.example",
    *,
    not_before: datetime | None = None,
    validity: timedelta = timedelta(days=7),
) -> tuple[str, bytes]:
    """A self-signed certificate and its key (P-256), both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    start = not_before or datetime.now(UTC) - timedelta(minutes=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + validity)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), key_pem


def fingerprint(certificate_pem: str) -> str:
    """SHA-256 of the first certificate, lowercase hex."""
    return x509.load_pem_x509_certificate(certificate_pem.encode()).fingerprint(hashes.SHA256()).hex()


class Nginx:
    """One NGINX with one TLS server. `allow_file` allows its folder and the three actions on it."""

    def __init__(
        self,
        dir: Path,  # noqa: A002 - the word the callers use
        name: str = "shop.example",
        address: str = "127.0.0.1",
    ) -> None:
        self.dir = dir
        self.name = name
        self.address = address
        self.port = free_port()
        self.tls_dir = dir / "tls"
        self.cert_path = self.tls_dir / "cert.pem"
        self.key_path = self.tls_dir / "key.pem"
        self.conf = dir / "nginx.conf"
        self.allow_file = dir / "allow.toml"
        self.user: int | None = None  # the user it runs as, if not ours
        self._process: subprocess.Popen[bytes] | None = None
        self.tls_dir.mkdir(parents=True, exist_ok=True)
        certificate_pem, key_pem = make_pair(name)
        self.cert_path.write_text(certificate_pem)
        self.key_path.write_bytes(key_pem)
        self.key_path.chmod(0o600)
        self.conf.write_text(
            _CONF.format(dir=dir, address=address, port=self.port, name=name, cert=self.cert_path, key=self.key_path)
        )
        self.write_allow_file()

    @property
    def pid(self) -> int:
        """The master's process id; it must be running."""
        assert self._process is not None, "nginx is not started"
        return self._process.pid

    @property
    def endpoint(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def target_config(self) -> dict[str, str]:
        """A configuration for the NGINX target that fits this server."""
        return {
            "cert_path": str(self.cert_path),
            "key_path": str(self.key_path),
            "endpoint": self.endpoint,
            "sni": self.name,
        }

    def write_allow_file(self, *, without: tuple[str, ...] = (), folder: Path | None = None, **commands: str) -> None:
        """(Re)write the allow-file; `without` names actions to leave out, `reload='/bin/false'` replaces one."""
        live = [NGINX, "-p", str(self.dir), "-c", str(self.conf), "-e", str(self.dir / "error.log")]
        actions = {
            "nginx.validate": [NGINX, "-p", str(self.dir), "-t", "-q", "-e", "stderr", "-c", "{staged_config}"],
            "nginx.test": [*live, "-t", "-q", "-e", "stderr"],
            "nginx.reload": [*live, "-s", "reload"],
        }
        for action, program in commands.items():
            actions[f"nginx.{action}"] = [program]
        lines = [f'[[folder]]\npath = "{folder or self.tls_dir}"']
        for name, command in actions.items():
            if name not in without:
                quoted = ", ".join(f'"{argument}"' for argument in command)
                lines.append(f'[action."{name}"]\ncommand = [{quoted}]\ntimeout = "60s"')
        self.allow_file.write_text("\n".join(lines) + "\n")
        self.allow_file.chmod(0o644)

    def start(self) -> None:
        """Start it and wait until it serves. Raises AssertionError with its log when it does not."""
        self._process = subprocess.Popen(
            [NGINX, "-p", str(self.dir), "-c", str(self.conf), "-e", str(self.dir / "error.log")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.served()
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    log = self.dir / "error.log"
                    raise AssertionError(log.read_text() if log.exists() else "no log") from error
                time.sleep(0.01)
            else:
                return

    def kill(self) -> None:
        """SIGKILL to the master and its workers: with the master alone gone, the workers would go on serving."""
        assert self._process is not None, "nginx is not started"
        # a master that is about to reload makes workers: it stands still before they are counted
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        workers = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for pid in (self.pid, *map(int, workers)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(30)
        self._process = None

    def stop(self) -> None:
        """Stop it, and its workers with it."""
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                os.kill(self._process.pid, number)
            try:
                self._process.wait(timeout=30)
                break
            except subprocess.TimeoutExpired:
                continue
        self._process = None

    def served(self) -> str:
        """SHA-256 fingerprint of the certificate that it serves now (a plain handshake, no certctl code)."""
        der = served_der(self.address, self.port, self.name, any_certificate())
        return x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()).hex()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
