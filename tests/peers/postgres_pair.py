"""A PostgreSQL primary with a synchronous streaming standby; the primary is killed, the standby promoted, the URL names both."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from peers.ports import free_port
from peers.postgres import Postgres, _binary, _wait, postgres


class Pair:
    """Looks like a `Postgres` to a play: `crash` kills the primary for good, `start_again` promotes the standby."""

    def __init__(self, primary: Postgres, standby: Postgres) -> None:
        self.primary, self.standby = primary, standby
        self.now = primary

    def new_database(self) -> str:
        """The URL of a fresh, empty database, both hosts in it: the standby first, so that it is asked and left."""
        one = self.primary.new_database()
        here, standby = f"127.0.0.1:{self.primary.port}", f"127.0.0.1:{self.standby.port}"
        return one.replace(here, f"{standby},{here}")

    def sql(self, statement: str, database: str = "postgres") -> str:
        return self.now.sql(statement, database)

    def crash(self) -> None:
        """SIGKILL to every one of its processes, as if its host had lost power."""
        pid = self.primary.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self.primary.process.kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self.primary.process.wait(30)

    def start_again(self) -> None:
        """What an operator, or a tool of theirs, does: promote the standby. The dead primary stays dead."""
        assert self.standby.sql("SELECT pg_promote(true, 60)") == "t"
        self.now = self.standby


@contextlib.contextmanager
def pair() -> Iterator[Pair]:
    """Both for the length of the block. Whatever the primary has answered, the standby has on its disk."""
    with postgres() as primary, _standby_of(primary) as standby:
        _until(primary, "state", "streaming")
        # said after the copy was made, and so by the primary alone: the standby, promoted, waits for nobody
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.sql("SELECT pg_reload_conf()")
        _until(primary, "sync_state", "sync")
        yield Pair(primary, standby)


def _until(primary: Postgres, column: str, value: str) -> None:
    deadline = time.monotonic() + 60
    while primary.sql(f"SELECT {column} FROM pg_stat_replication") != value:
        assert time.monotonic() < deadline, f"the standby never was {value}"
        time.sleep(0.05)


@contextlib.contextmanager
def followed() -> Iterator[tuple[Postgres, Postgres]]:
    """A primary and a standby that follows it whenever it can; nobody waits for it."""
    with postgres() as primary, _standby_of(primary) as standby:
        yield primary, standby


@contextlib.contextmanager
def _standby_of(primary: Postgres) -> Iterator[Postgres]:
    directory = Path(tempfile.mkdtemp(prefix="certctl-pg-standby-"))
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    if user:
        os.chown(directory, user.pw_uid, user.pw_gid)
    data, port = directory / "data", free_port()
    try:
        where = ["-h", "127.0.0.1", "-p", str(primary.port), "-U", "certctl"]
        copy = [_binary("pg_basebackup"), *where, "-D", str(data), "-R", "-X", "stream", "-c", "fast", "--no-sync"]
        subprocess.run(copy, check=True, capture_output=True, timeout=120, cwd=directory, **as_user)
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(directory),
            "max_connections": "200",
            "shared_buffers": "64MB",
            "fsync": "off",
        }

        def launch() -> subprocess.Popen[bytes]:
            with (directory / "log").open("ab") as log:
                return subprocess.Popen(
                    [_binary("postgres"), "-D", str(data), *[f"--{name}={value}" for name, value in options.items()]],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=directory,
                    **as_user,
                )

        standby = Postgres(directory, port, launch(), launch=launch)
        try:
            _wait(standby)
            yield standby
        finally:
            standby.process.send_signal(signal.SIGQUIT)
            standby.process.wait(20)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
