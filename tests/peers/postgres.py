"""A real PostgreSQL of the test run's own: private cluster, private socket directory, loopback port, stopped by its pid."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from peers.ports import free_port


def _binary(name: str) -> str:
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / name).exists():
            return str(folder / name)
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed: run make test, or apt-get install postgresql")
    return found


@dataclass
class Postgres:
    """One running cluster."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes]
    made: int = 0
    launch: Callable[[], subprocess.Popen[bytes]] | None = None
    address: str = "127.0.0.1"

    def crash(self) -> None:
        """End every one of its processes at once (SIGQUIT: immediate, without a checkpoint)."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    def start_again(self) -> None:
        """Start it after a crash; it recovers from its log and answers when this returns."""
        assert self.launch is not None
        self.process = self.launch()
        _wait(self)

    def sql(self, statement: str, database: str = "postgres") -> str:
        return subprocess.run(
            [
                _binary("psql"),
                "-h",
                str(self.directory),
                "-p",
                str(self.port),
                "-U",
                "certctl",
                "-d",
                database,
                "-Atqc",
                statement,
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout.strip()

    def new_database(self) -> str:
        """The URL of a fresh, empty database."""
        self.made += 1
        name = f"t{os.getpid()}_{self.made}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgres://certctl@{self.address}:{self.port}/{name}"


@contextlib.contextmanager
def postgres(
    address: str = "127.0.0.1", inside: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
) -> Iterator[Postgres]:
    """Start a cluster for the length of the block. As root it runs as the `postgres` user, as PostgreSQL demands.

    `inside` is where it is started (a network namespace), `address` where it listens there.
    """
    directory = Path(tempfile.mkdtemp(prefix="certctl-pg-"))
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    if user:
        os.chown(directory, user.pw_uid, user.pw_gid)
    data, port = directory / "data", free_port()
    try:
        subprocess.run(
            [
                _binary("initdb"),
                "-D",
                str(data),
                "-U",
                "certctl",
                "-A",
                "trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
            ],
            check=True,
            capture_output=True,
            timeout=120,
            cwd=directory,
            **as_user,
        )
        options = {
            "listen_addresses": address,
            "port": str(port),
            "unix_socket_directories": str(directory),
            "max_connections": "200",
            "shared_buffers": "64MB",
            "fsync": "off",
        }

        if address != "127.0.0.1":
            with (data / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {address}/24 trust\n")

        def launch() -> subprocess.Popen[bytes]:
            with (directory / "log").open("ab") as log, inside():
                return subprocess.Popen(
                    [_binary("postgres"), "-D", str(data), *[f"--{name}={value}" for name, value in options.items()]],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=directory,
                    **as_user,
                )

        server = Postgres(directory, port, launch(), launch=launch, address=address)
        try:
            _wait(server)
            yield server
        finally:
            # nobody will read it again: at once, without a checkpoint over hundreds of databases
            server.process.send_signal(signal.SIGQUIT)
            try:
                server.process.wait(20)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait(10)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _wait(server: Postgres) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"PostgreSQL did not start: {(server.directory / 'log').read_text()[-2000:]}")
        try:
            server.sql("SELECT 1")
        except subprocess.CalledProcessError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("PostgreSQL did not answer within 60 s")
