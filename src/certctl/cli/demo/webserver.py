"""The web server that the demo deploys to: a private NGINX when it is installed, else a small TLS endpoint of ours.

Both start with a self-signed placeholder, so that the change is seen; both are reached only through the host's
allow-file.
"""

from __future__ import annotations

import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import Struct

from certctl.cli.demo.children import Children, bare_environ, is_listening

_CONF = """\
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log notice;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    server_name {name};
    ssl_certificate {cert};
    ssl_certificate_key {key};
    location / {{ default_type text/plain; return 200 "served with a certificate that certctl deployed\\n"; }}
  }}
}}
"""


class WebServer(Struct, frozen=True):
    """A web server of the demo: where it is, what it is called, which files it reads."""

    directory: Path
    port: int
    name: str
    nginx: str

    @property
    def kind(self) -> str:
        """What people see."""
        return "NGINX" if self.nginx else "built-in TLS endpoint"

    @property
    def cert_path(self) -> Path:
        """Leaf and chain."""
        return self.directory / "tls" / "site.pem"

    @property
    def key_path(self) -> Path:
        """The private key."""
        return self.directory / "tls" / "site.key"

    @property
    def allow_file(self) -> Path:
        """What the server may do on this host through the agent."""
        return self.directory / "allow.toml"


def prepare(directory: Path, port: int, name: str, *, use_nginx: bool = True) -> WebServer:
    """Write configuration, allow-file and, the first time, a placeholder pair."""
    directory.mkdir(parents=True, exist_ok=True)
    nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin") or ""
    server = WebServer(directory.resolve(), port, name, nginx if use_nginx else "")
    server.cert_path.parent.mkdir(mode=0o755, exist_ok=True)
    if not server.cert_path.exists() or not server.key_path.exists():
        _write_placeholder(server)
    conf = _CONF.format(dir=server.directory, port=port, name=name, cert=server.cert_path, key=server.key_path)
    (server.directory / "nginx.conf").write_text(conf)
    server.allow_file.write_text(_allow_file(server))
    server.allow_file.chmod(0o644)
    return server


def start(server: WebServer, children: Children) -> None:
    """Start it and wait until it serves."""
    children.start("webserver", _command(server), bare_environ())
    children.wait_until("webserver", lambda: is_listening(server.port), 10)


def _command(server: WebServer) -> list[str]:
    if server.nginx:
        return [*_nginx(server), "-c", str(server.directory / "nginx.conf")]
    files = [str(server.cert_path), str(server.key_path), str(server.directory / "endpoint.pid")]
    return [*_endpoint("serve"), str(server.port), *files]


def _nginx(server: WebServer) -> list[str]:
    return [server.nginx, "-p", str(server.directory), "-e", str(server.directory / "error.log")]


def _endpoint(verb: str) -> list[str]:
    return [sys.executable, "-m", "certctl.cli.demo.endpoint", verb]


def _allow_file(server: WebServer) -> str:
    if server.nginx:
        live = ["-c", str(server.directory / "nginx.conf")]
        actions = {
            "nginx.validate": [*_nginx(server), "-t", "-q", "-c", "{staged_config}"],
            "nginx.test": [*_nginx(server), "-t", "-q", *live],
            "nginx.reload": [*_nginx(server), "-s", "reload", *live],
        }
    else:
        actions = {
            "nginx.validate": [*_endpoint("check"), "{staged_config}"],
            "nginx.reload": [*_endpoint("reload"), str(server.directory / "endpoint.pid")],
        }
    lines = [
        "# What certctl may do on this host: nothing else is ever run or written.",
        "[[folder]]",
        f'path = "{server.cert_path.parent}"',
    ]
    for name, command in actions.items():
        quoted = ", ".join(f'"{argument}"' for argument in command)
        lines += ["", f'[action."{name}"]', f"command = [{quoted}]", 'timeout = "10s"']
    return "\n".join(lines) + "\n"


def _write_placeholder(server: WebServer) -> None:
    """A self-signed pair such as a distribution ships: something to replace."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "placeholder.invalid")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server.key_path.touch(mode=0o600)
    server.key_path.write_bytes(encoded)
    server.cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
