"""How the control plane starts, and how it refuses to: one sentence that says what to do, and nothing half-started."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from peers.ports import free_port
from peers.tls import any_certificate, served_der

KEY = "a key for tests only, of enough length"


class Server:
    """A real certctl-server on a directory."""

    def __init__(self, directory: Path, *, ca: Path | None = None, **environ: str) -> None:
        self.directory = directory
        self.ca_path = ca or directory / "ca.pem"
        self.port = free_port()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}
        self.environ = inherited | {
            "CERTCTL_DATA_DIR": str(directory),
            "CERTCTL_SERVER_PORT": str(self.port),
            "CERTCTL_PKI_HTTP_PORT": str(free_port()),
            "CERTCTL_LOG_FORMAT": "text",
            **environ,
        }
        self.process: subprocess.Popen[str] | None = None

    def refused(self, *before: str, code: int = 4) -> str:
        """Run until it ends by itself; what it says. It must not have started."""
        ended = subprocess.run(
            [*before, sys.executable, "-m", "certctl.cli.server"],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == code, ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stderr.strip().splitlines()[-1]

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "certctl.cli.server"], env=self.environ, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(self.process.stderr.read())
            try:
                if self.get("/ready").status_code == 200:
                    return self
            except (OSError, httpx.HTTPError):
                time.sleep(0.05)
        raise AssertionError("not ready within 60 s")

    def get(self, path: str) -> httpx.Response:
        context = ssl.create_default_context(cafile=str(self.ca_path))
        with httpx.Client(verify=context, timeout=60) as client:
            return client.get(f"https://localhost:{self.port}{path}")

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process.stderr.close()


def served(port: int) -> bytes:
    return served_der("127.0.0.1", port, "localhost", any_certificate())


def test_an_empty_directory_becomes_a_control_plane_and_stays_one(tmp_path):
    with Server(tmp_path / "data") as first:
        root = (tmp_path / "data" / "ca.pem").read_text()
        certificate = served(first.port)
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "data").iterdir()}
    assert modes["config-encryption.key"] == modes["bootstrap-token"] == 0o600
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    with Server(tmp_path / "data") as again:
        assert (tmp_path / "data" / "ca.pem").read_text() == root, "the CA must survive a restart"
        assert served(again.port) == certificate


def test_sigterm_ends_it_cleanly_though_a_client_idles(tmp_path):
    with Server(tmp_path / "data") as server:
        context = ssl.create_default_context(cafile=str(tmp_path / "data" / "ca.pem"))
        with httpx.Client(verify=context, timeout=60) as idle:
            assert idle.get(f"https://localhost:{server.port}/health").status_code == 200
            server.process.send_signal(signal.SIGTERM)
            # the drain's own limit is 20 s: an idle connection must not use it up
            assert server.process.wait(15) == 0


def test_sighup_loads_the_certificate_anew_and_drops_nobody(tmp_path):
    with Server(tmp_path / "first") as made:
        pair = {name: (tmp_path / "first" / "tls" / name).read_bytes() for name in ("server.pem", "server.key")}
        root = (tmp_path / "first" / "ca.pem").read_bytes()
        del made
    with Server(tmp_path / "other"):
        other = {name: (tmp_path / "other" / "tls" / name).read_bytes() for name in ("server.pem", "server.key")}
    for name, data in pair.items():
        (tmp_path / name).write_bytes(data)
    own = {
        "CERTCTL_SERVER_TLS_CERT_PATH": str(tmp_path / "server.pem"),
        "CERTCTL_SERVER_TLS_KEY_PATH": str(tmp_path / "server.key"),
    }
    with Server(tmp_path / "data", ca=tmp_path / "first" / "ca.pem", **own) as server:
        context = ssl.create_default_context(cadata=root.decode())
        with httpx.Client(verify=context, timeout=60) as kept:
            url = f"https://localhost:{server.port}/health"
            assert kept.get(url).status_code == 200
            before = served(server.port)
            for name, data in other.items():
                (tmp_path / name).write_bytes(data)
            server.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 60
            while served(server.port) == before and time.monotonic() < deadline:
                time.sleep(0.02)
            assert served(server.port) != before
            assert kept.get(url).status_code == 200, "the open connection goes on under the old certificate"
            (tmp_path / "server.pem").write_text("no certificate")
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.3)
            assert served(server.port) != before, "a pair that does not load leaves the last good one"


def test_a_mounted_certificate_that_is_renewed_is_served_without_a_signal(tmp_path):
    pairs = {}
    for name in ("first", "other"):
        with Server(tmp_path / name):
            pairs[name] = {file: (tmp_path / name / "tls" / file).read_bytes() for file in ("server.pem", "server.key")}
    for file, data in pairs["first"].items():
        (tmp_path / file).write_bytes(data)
    own = {
        "CERTCTL_SERVER_TLS_CERT_PATH": str(tmp_path / "server.pem"),
        "CERTCTL_SERVER_TLS_KEY_PATH": str(tmp_path / "server.key"),
        "CERTCTL_SERVER_TLS_RELOAD_INTERVAL": "200ms",
    }
    with Server(tmp_path / "data", ca=tmp_path / "first" / "ca.pem", **own) as server:
        before = served(server.port)
        for file, data in pairs["other"].items():  # in two steps, as a kubelet never does: the half pair is not taken
            (tmp_path / file).write_bytes(data)
        deadline = time.monotonic() + 60
        while served(server.port) == before and time.monotonic() < deadline:
            time.sleep(0.05)
        leaf = x509.load_pem_x509_certificates(pairs["other"]["server.pem"])[0]
        assert served(server.port) == leaf.public_bytes(serialization.Encoding.DER)


def test_a_wrong_encryption_key_is_refused(tmp_path):
    data = tmp_path / "data"
    with Server(data, CERTCTL_CONFIG_ENCRYPTION_KEY=KEY):
        pass
    said = Server(data, CERTCTL_CONFIG_ENCRYPTION_KEY=KEY[::-1]).refused()
    assert "CERTCTL_CONFIG_ENCRYPTION_KEY" in said
    with Server(data, CERTCTL_CONFIG_ENCRYPTION_KEY=KEY) as right:
        assert right.get("/health").status_code == 200  # and ready it was, or it had not come so far


def test_a_short_encryption_key_is_refused(tmp_path):
    assert "fewer than 32" in Server(tmp_path, CERTCTL_CONFIG_ENCRYPTION_KEY="short").refused()


def test_agents_enrol_themselves_with_the_shared_token(tmp_path):
    token = "shared by every agent of one chart, long enough"
    with Server(tmp_path / "data", CERTCTL_AGENT_BOOTSTRAP_TOKEN=token) as server:

        def enrol(name: str, given: str) -> subprocess.CompletedProcess[str]:
            own = server.environ | {
                "CERTCTL_SERVER_URL": f"https://localhost:{server.port}",
                "CERTCTL_SERVER_CA_BUNDLE_PATH": str(tmp_path / "data" / "ca.pem"),
                "CERTCTL_AGENT_ENROLMENT_TOKEN": given,
                "CERTCTL_AGENT_STATE_DIR": str(tmp_path / name),
                "CERTCTL_AGENT_NAME": name,
            }
            command = [sys.executable, "-m", "certctl.cli.agent", "enrol"]
            return subprocess.run(command, env=own, capture_output=True, text=True, timeout=90, check=False)

        for name in ("node-1", "node-2"):
            ended = enrol(name, token)
            assert ended.returncode == 0, ended.stderr
            assert token not in ended.stdout + ended.stderr
        assert "wrong, used or expired" in enrol("node-3", token + ".").stderr
    assert "fewer than 32" in Server(tmp_path / "data", CERTCTL_AGENT_BOOTSTRAP_TOKEN="short").refused()


@pytest.mark.parametrize("variable", ["CERTCTL_SERVER_PORT", "CERTCTL_PKI_HTTP_PORT"])
def test_a_taken_port_is_named(tmp_path, variable):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = Server(tmp_path / "data", **{variable: str(taken.getsockname()[1])}).refused()
    assert variable in said
    assert not (tmp_path / "data" / "certctl.db").exists(), "nothing is made before the ports are ours"


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path):
    # root writes everywhere unless the capability to do so is dropped
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o555)
    powers = "-dac_override,-dac_read_search"
    plain = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"] if os.geteuid() == 0 else []
    said = Server(data).refused(*plain)
    assert str(data) in said
    assert "CERTCTL_DATA_DIR" in said
    assert list(data.iterdir()) == []


def test_a_data_path_that_is_a_file_is_named(tmp_path):
    (tmp_path / "data").write_text("in the way")
    assert "CERTCTL_DATA_DIR" in Server(tmp_path / "data").refused()


def test_a_second_server_on_sqlite_is_refused(tmp_path):
    with Server(tmp_path / "data"):
        assert "another certctl-server is running" in Server(tmp_path / "data").refused()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("CERTCTL_SERVER_PORT", "https", "CERTCTL_SERVER_PORT"),
        ("CERTCTL_STEP_LEASE", "soon", "CERTCTL_STEP_LEASE"),
        ("CERTCTL_LOG_LEVEL", "loud", "CERTCTL_LOG_LEVEL"),
        ("CERTCTL_DATABASE_URL", "mysql://root@host/db", "CERTCTL_DATABASE_URL"),
        ("CERTCTL_SERVER_PROCESSES", "3", "PostgreSQL"),
        ("CERTCTL_SERVER_TLS_CERT_PATH", "/nowhere.pem", "CERTCTL_SERVER_TLS_KEY_PATH"),
    ],
)
def test_a_malformed_setting_is_named(tmp_path, name, value, says):
    assert says in Server(tmp_path / "data", **{name: value}).refused()


def test_migrate_only_opens_no_listener_and_ends(tmp_path):
    server = Server(tmp_path / "data")
    ended = subprocess.run(
        [sys.executable, "-m", "certctl.cli.server", "--migrate-only"],
        env=server.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    with sqlite3.connect(tmp_path / "data" / "certctl.db") as database:
        assert database.execute("SELECT count(*) FROM issuers").fetchone() == (1,)
    database.close()


def test_postgresql_needs_a_given_key(tmp_path, postgres_server):
    said = Server(tmp_path / "data", CERTCTL_DATABASE_URL=postgres_server.new_database()).refused()
    assert "CERTCTL_CONFIG_ENCRYPTION_KEY is not set" in said


def test_an_unreachable_database_is_said(tmp_path):
    url = f"postgres://nobody@127.0.0.1:{free_port()}/none"
    said = Server(tmp_path / "data", CERTCTL_DATABASE_URL=url, CERTCTL_CONFIG_ENCRYPTION_KEY=KEY).refused(code=5)
    assert "database" in said
