"""Private servers for tests, one of every kind a target knows: own folder, own configuration, loopback, own pid.

Nothing of the system's servers is started or touched. What a server serves is looked at with no code of ours.
"""

from __future__ import annotations

import contextlib
import imaplib
import json
import os
import shutil
import signal
import smtplib
import ssl
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from certctl.connectors.base.target import Target
from certctl.connectors.host.allow import load_allow_file
from certctl.connectors.registry import open_target
from peers.nginx import NGINX, fingerprint, make_pair
from peers.nginx_story import POLICY
from peers.ports import free_port
from peers.tls import any_certificate, served_der

NAME = "shop.example"
APACHE_MODULES = "/usr/lib/apache2/modules"


class Peer(ABC):
    """One server with one certificate. `commands` are its host's actions, rewritten into the allow-file at will."""

    kind: ClassVar[str]
    program: ClassVar[str]
    needs_root: ClassVar[bool] = False
    # Whether the server's own checker compares key and certificate; where it does not, our pair check alone does.
    checker_compares: ClassVar[bool] = True
    one_file: ClassVar[bool] = False

    def __init__(self) -> None:
        # Some servers read as users of their own, to whom pytest's folders are closed.
        self.dir = Path(tempfile.mkdtemp(prefix="certctl-peer-", dir="/tmp"))
        self.dir.chmod(0o755)
        self.port = free_port()
        self.tls_dir = self.dir / "tls"
        self.tls_dir.mkdir()
        self.conf = self.dir / "server.conf"
        self.allow_file = self.dir / "allow.toml"
        self._process: subprocess.Popen[bytes] | None = None
        certificate_pem, key_pem = make_pair(NAME)
        if self.one_file:
            self.cert_path = self.key_path = self.tls_dir / "all.pem"
            self.cert_path.write_bytes(key_pem + certificate_pem.encode())
        else:
            self.cert_path, self.key_path = self.tls_dir / "cert.pem", self.tls_dir / "key.pem"
            self.cert_path.write_text(certificate_pem)
            self.key_path.write_bytes(key_pem)
        self.key_path.chmod(0o600)
        self.configure()
        self.write_allow_file()

    @abstractmethod
    def configure(self) -> None:
        """Write the server's configuration."""

    @abstractmethod
    def commands(self) -> dict[str, list[str]]:
        """The host's actions, without the kind before their names."""

    @abstractmethod
    def start_command(self) -> list[str]:
        """What runs it in the foreground."""

    @property
    def sockets(self) -> tuple[Path, ...]:
        return ()

    @property
    def config(self) -> dict[str, Any]:
        """The target's configuration that fits this server."""
        paths = (
            {"pem_path": str(self.cert_path)}
            if self.one_file
            else {"cert_path": str(self.cert_path), "key_path": str(self.key_path)}
        )
        return {**paths, "endpoint": f"127.0.0.1:{self.port}", "sni": NAME}

    def open(self, **config: Any) -> Target:
        return open_target(
            self.kind,
            {**self.config, "probe_timeout": "60s", **config},  # a busy machine reloads slowly
            allow=load_allow_file(self.allow_file),
            state_dir=self.dir / "state",
            dial_policy=POLICY,
        )

    def order(self, **more: Any) -> dict[str, Any]:
        """For a child that deploys and may die."""
        paths = {"allow": str(self.allow_file), "state": str(self.dir / "state")}
        return {"kind": self.kind, "config": self.config, **paths, "passed": str(self.dir / "passed.json"), **more}

    def write_allow_file(self, *, without: tuple[str, ...] = (), **programs: str) -> None:
        """(Re)write the allow-file; `without` names actions (or sockets) to leave out, `reload='/bin/false'` replaces."""
        lines = [f'[[folder]]\npath = "{self.tls_dir}"']
        lines += [f'[[socket]]\npath = "{path}"' for path in self.sockets if str(path) not in without]
        for action, command in self.commands().items():
            name = f"{self.kind.lower()}.{action}"
            if name not in without:
                words = json.dumps([programs[action]] if action in programs else command)
                lines.append(f'[action."{name}"]\ncommand = {words}\ntimeout = "60s"')
        self.allow_file.write_text("\n".join(lines) + "\n")
        self.allow_file.chmod(0o644)

    def sabotage(self, program: str) -> dict[str, Any]:
        """Make the next reload fail or do nothing; returns what to change in the target's configuration."""
        self.write_allow_file(reload=program)
        return {}

    def break_live(self) -> None:
        """Spoil the configuration in place; the running server does not know yet."""
        self.conf.write_text(self.conf.read_text() + "\nnonsense nonsense;\n")

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.tls_dir.iterdir()}

    def leftovers(self) -> set[str]:
        own = {self.cert_path.name, self.key_path.name}
        state = self.dir / "state/swap"
        journals = {path.name for path in state.iterdir()} if state.exists() else set()
        return {path.name for path in self.tls_dir.iterdir()} - own | {
            name for name in journals if not name.startswith("trial-")
        }

    def on_disk(self) -> str:
        return fingerprint(self.cert_path.read_text()[self.cert_path.read_text().index("-----BEGIN CERT") :])

    def served(self) -> str:
        """SHA-256 fingerprint of what is served now."""
        der = self._handshake()
        return x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()).hex()

    def _handshake(self) -> bytes:
        return served_der("127.0.0.1", self.port, NAME, any_certificate(), 30)

    def start(self) -> None:
        """Start it and wait until it serves. Raises AssertionError with its log when it does not."""
        log = self.dir / "start.log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                self.start_command(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.dir)},
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.served()
            except (OSError, smtplib.SMTPException, imaplib.IMAP4.error) as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    logs = "".join(path.read_text() for path in self.dir.glob("*.log"))
                    self.stop()
                    raise AssertionError(f"{self.kind} did not start: {error}\n{logs}") from error
                time.sleep(0.02)
            else:
                break
        self.write_allow_file()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def stop(self) -> None:
        """Stop it, and the session of processes it leads."""
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                continue
        self._process = None

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


class NginxPeer(Peer):
    kind = "NGINX"
    program = NGINX

    def configure(self) -> None:
        temps = "".join(f"{name}_temp_path {self.dir}/{name};" for name in ("proxy", "fastcgi", "uwsgi", "scgi"))
        self.conf.write_text(
            f"daemon off; worker_processes 2; pid {self.dir}/pid; error_log {self.dir}/error.log; events {{}}\n"
            f"http {{ access_log off; client_body_temp_path {self.dir}/body; {temps}\n"
            f"server {{ listen 127.0.0.1:{self.port} ssl; server_name {NAME};\n"
            f"ssl_certificate {self.cert_path}; ssl_certificate_key {self.key_path}; }} }}\n"
        )

    def start_command(self) -> list[str]:
        return [NGINX, "-p", str(self.dir), "-c", str(self.conf), "-e", str(self.dir / "error.log")]

    def commands(self) -> dict[str, list[str]]:
        quiet = [NGINX, "-p", str(self.dir), "-t", "-q", "-e", "stderr", "-c"]
        return {
            "validate": [*quiet, "{staged_config}"],
            "test": [*quiet, str(self.conf)],
            "reload": [*self.start_command(), "-s", "reload"],
        }


class FilesPeer(NginxPeer):
    """A program that target Files knows nothing of: an NGINX, reloaded by an action called `files.reload`."""

    kind = "Files"
    checker_compares = False

    @property
    def config(self) -> dict[str, Any]:
        return {**super().config, "reload_action": "files.reload", "test_action": "files.test"}


class ApachePeer(Peer):
    kind = "Apache"
    program = "/usr/sbin/apache2"
    checker_compares = False
    _modules: ClassVar[tuple[str, str]] = (
        f"LoadModule mpm_event_module {APACHE_MODULES}/mod_mpm_event.so",
        f"LoadModule ssl_module {APACHE_MODULES}/mod_ssl.so",
    )

    def configure(self) -> None:
        modules = "\n".join(self._modules)
        user = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""
        self.conf.write_text(
            f'{modules}\nServerRoot "{self.dir}"\nDefaultRuntimeDir "{self.dir}"\nPidFile "{self.dir}/pid"\n{user}'
            f'ErrorLog "{self.dir}/error.log"\nServerName {NAME}\nStartServers 2\nListen 127.0.0.1:{self.port}\n'
            f"<VirtualHost 127.0.0.1:{self.port}>\nServerName {NAME}\nSSLEngine on\n"
            f'SSLCertificateFile "{self.cert_path}"\nSSLCertificateKeyFile "{self.key_path}"\n</VirtualHost>\n'
        )

    def start_command(self) -> list[str]:
        return [self.program, "-DFOREGROUND", "-f", str(self.conf)]

    def commands(self) -> dict[str, list[str]]:
        loaded = [word for module in self._modules for word in ("-C", module)]
        return {
            "validate": [self.program, "-t", *loaded, "-f", "{staged_config}"],
            "test": [self.program, "-t", "-f", str(self.conf)],
            "reload": [self.program, "-f", str(self.conf), "-k", "graceful"],
        }


class ApachePemPeer(ApachePeer):
    """The same with everything in one file, named twice."""

    one_file = True


class HaproxyPeer(Peer):
    kind = "HAProxy"
    program = "/usr/sbin/haproxy"
    one_file = True

    @property
    def socket_path(self) -> Path:
        return self.dir / "admin.sock"

    def configure(self) -> None:
        self.conf.write_text(
            f"global\n  nbthread 2\n  stats socket {self.socket_path} level admin mode 600 expose-fd listeners\n"
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n"
            f"frontend tls\n  bind 127.0.0.1:{self.port} ssl crt {self.cert_path}\n"
        )

    def start_command(self) -> list[str]:
        return [self.program, "-W", "-f", str(self.conf)]

    def commands(self) -> dict[str, list[str]]:
        return {
            "validate": [self.program, "-c", "-f", "{staged_config}"],
            "test": [self.program, "-c", "-f", str(self.conf)],
            "reload": ["/bin/kill", "-USR2", str(self.pid)],
        }


class HaproxyRuntimePeer(HaproxyPeer):
    """HAProxy whose certificate is exchanged over its socket; it is never reloaded."""

    @property
    def sockets(self) -> tuple[Path, ...]:
        return (self.socket_path,)

    @property
    def config(self) -> dict[str, Any]:
        return {**super().config, "runtime_socket": str(self.socket_path)}

    def sabotage(self, program: str) -> dict[str, Any]:
        """A socket that takes no orders, or one where nobody is."""
        if program == "/bin/true":
            return {"runtime_socket": str(self._add_socket("nobody.sock"))}
        self.stop()
        self.conf.write_text(self.conf.read_text().replace("level admin", "level user"))
        self.start()
        return {}

    def _add_socket(self, name: str) -> Path:
        path = self.dir / name
        self.allow_file.write_text(self.allow_file.read_text() + f'[[socket]]\npath = "{path}"\n')
        return path


class PostfixPeer(Peer):
    """A master with one smtpd process at a time, its own queue; the certificate in one file.

    A second process would read the files as they lie when it starts, whatever was reloaded.
    """

    kind = "Postfix"
    program = "/usr/sbin/postfix"
    needs_root = True
    checker_compares = False
    one_file = True

    def configure(self) -> None:
        self.conf = self.dir / "main.cf"
        self._make_queue()
        pair = (
            f"smtpd_tls_chain_files = {self.cert_path}"
            if self.one_file
            else f"smtpd_tls_cert_file = {self.cert_path}\nsmtpd_tls_key_file = {self.key_path}"
        )
        self.conf.write_text(
            "compatibility_level = 3.6\nmail_owner = postfix\nsetgid_group = postdrop\ncommand_directory = /usr/sbin\n"
            f"daemon_directory = /usr/lib/postfix/sbin\nqueue_directory = {self.dir}/queue\n"
            f"data_directory = {self.dir}/data\nmyhostname = {NAME}\nmydestination =\ninet_interfaces = 127.0.0.1\n"
            f"inet_protocols = ipv4\nsmtpd_tls_security_level = may\n{pair}\n"
            f"alias_maps =\nmaillog_file = {self.dir}/postfix.log\nmaillog_file_prefixes = {self.dir}\n"
        )
        (self.dir / "master.cf").write_text(
            f"127.0.0.1:{self.port} inet n - n - 1 smtpd\n"
            "tlsmgr unix - - n 1000? 1 tlsmgr\nanvil unix - - n - 1 anvil\nrewrite unix - - n - - trivial-rewrite\n"
            "proxymap unix - - n - - proxymap\npostlog unix-dgram n - n - 1 postlogd\n"
        )
        self._make_old()

    def break_live(self) -> None:
        super().break_live()
        self._make_old()

    def _make_old(self) -> None:
        """Postfix waits until a file was not touched for a second or two, to be sure that it reads it whole."""
        for path in (self.conf, self.dir / "master.cf"):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 60))

    def _make_queue(self) -> None:
        """What `postfix check` would make, in a hundredth of its time."""
        queue = self.dir / "queue"
        folders = {queue: ("root", "root", 0o755), self.dir / "data": ("postfix", "root", 0o755)}
        folders |= {queue / "pid": ("root", "root", 0o755), queue / "private": ("postfix", "root", 0o700)}
        folders |= {queue / "public": ("postfix", "postdrop", 0o710)}
        for folder, (user, group, mode) in folders.items():
            folder.mkdir(mode=mode)
            shutil.chown(folder, user, group)

    def start_command(self) -> list[str]:
        return ["/usr/lib/postfix/sbin/master", "-c", str(self.dir), "-d"]

    def commands(self) -> dict[str, list[str]]:
        return {
            "test": [self.program, "-c", str(self.dir), "check"],
            "reload": [self.program, "-c", str(self.dir), "reload"],
        }

    def _handshake(self) -> bytes:
        with smtplib.SMTP("127.0.0.1", self.port, local_hostname="localhost", timeout=30) as client:
            client.starttls(context=any_certificate())
            assert isinstance(client.sock, ssl.SSLSocket)
            return client.sock.getpeercert(binary_form=True) or b""


class PostfixPairPeer(PostfixPeer):
    """The same with key and certificate in two files."""

    one_file = False


class DovecotPeer(Peer):
    kind = "Dovecot"
    program = "/usr/sbin/dovecot"
    needs_root = True
    checker_compares = False

    def configure(self) -> None:
        self.conf.write_text(
            f"base_dir = {self.dir}/run\nstate_dir = {self.dir}/dovecot-state\nlog_path = {self.dir}/dovecot.log\n"
            f"protocols = imap\nlisten = 127.0.0.1\nssl = yes\nssl_cert = <{self.cert_path}\nssl_key = <{self.key_path}\n"
            "passdb {\n  driver = static\n  args = nopassword=y\n}\n"
            "userdb {\n  driver = static\n  args = uid=65534 gid=65534 home=/nonexistent\n}\n"
            f"service imap-login {{\n  inet_listener imap {{\n    port = {self.port}\n  }}\n"
            "  inet_listener imaps {\n    port = 0\n  }\n}\n"
        )

    def start_command(self) -> list[str]:
        return [self.program, "-F", "-c", str(self.conf)]

    def commands(self) -> dict[str, list[str]]:
        return {
            "validate": ["/usr/bin/doveconf", "-n", "-c", "{staged_config}"],
            "test": ["/usr/bin/doveconf", "-n", "-c", str(self.conf)],
            "reload": ["/usr/bin/doveadm", "-c", str(self.conf), "reload"],
        }

    def _handshake(self) -> bytes:
        client = imaplib.IMAP4("127.0.0.1", self.port, timeout=30)
        try:
            client.starttls(any_certificate())
            assert isinstance(client.sock, ssl.SSLSocket)
            return client.sock.getpeercert(binary_form=True) or b""
        finally:
            client.shutdown()


class CaddyPeer(Peer):
    kind = "Caddy"
    program = "/usr/bin/caddy"

    def configure(self) -> None:
        load = [{"certificate": str(self.cert_path), "key": str(self.key_path)}]
        server: Mapping[str, Any] = {
            "listen": [f"127.0.0.1:{self.port}"],
            "tls_connection_policies": [{}],
            "automatic_https": {"disable": True},
        }
        self.conf.write_text(
            json.dumps(
                {
                    "admin": {"listen": f"127.0.0.1:{free_port()}", "config": {"persist": False}},
                    "storage": {"module": "file_system", "root": str(self.dir / "storage")},
                    "apps": {"http": {"servers": {"s": server}}, "tls": {"certificates": {"load_files": load}}},
                }
            )
        )

    def start_command(self) -> list[str]:
        return [self.program, "run", "--config", str(self.conf)]

    def commands(self) -> dict[str, list[str]]:
        return {
            "validate": [self.program, "validate", "--config", "{staged_config}"],
            "test": [self.program, "validate", "--config", str(self.conf)],
            "reload": [self.program, "reload", "--force", "--config", str(self.conf)],
        }


PEERS: dict[str, type[Peer]] = {
    "NGINX": NginxPeer,
    "Apache": ApachePeer,
    "Apache-pem": ApachePemPeer,
    "HAProxy": HaproxyPeer,
    "HAProxy-runtime-API": HaproxyRuntimePeer,
    "Postfix": PostfixPeer,
    "Postfix-pair": PostfixPairPeer,
    "Dovecot": DovecotPeer,
    "Caddy": CaddyPeer,
    "Files": FilesPeer,
}
