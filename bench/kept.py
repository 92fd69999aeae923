"""A PostgreSQL that outlives the bench which filled it: a cluster in a directory of its own, started for a block.

`peers.postgres` throws its cluster away; a million certificates take minutes to write and are written once. Buffers
are those of a small real server, in place of the 64 MB of the tests. Must never be pointed at a database that is
somebody's: it only opens what `create` made, which a file in the directory says.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from peers.ports import free_port
from peers.postgres import Postgres, _binary, _wait

FACTS = "seed.json"
DATABASE = "seed"
OPTIONS = {
    "max_connections": "200",
    "shared_buffers": "1GB",
    "effective_cache_size": "4GB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "8GB",
    # what is measured is CPU and memory; a crash may cost a seed
    "fsync": "off",
    "random_page_cost": "1.1",
}


def _as_postgres() -> dict[str, Any]:
    """PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def create(directory: Path) -> None:
    """An empty cluster in `directory`, which may not be there yet or must be empty."""
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise SystemExit(f"{directory} is not empty: name another one, or remove it")
    whole = directory / "pg"
    whole.mkdir()
    owner = _as_postgres()
    if owner:
        os.chown(whole, owner["user"], owner["group"])
    command = [_binary("initdb"), "-D", str(whole / "data"), "-U", "certctl", "-A", "trust", "--no-sync", "-E", "UTF8"]
    subprocess.run([*command, "--locale=C"], check=True, capture_output=True, timeout=120, cwd=whole, **owner)


@contextlib.contextmanager
def started(directory: Path) -> Iterator[Postgres]:
    """The cluster in `directory`, running for the length of the block and stopped cleanly after it."""
    whole = directory / "pg"
    port = free_port()
    options = OPTIONS | {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": str(whole),
    }
    settings = [f"--{name}={value}" for name, value in options.items()]
    with (whole / "log").open("ab") as log:
        process = subprocess.Popen(
            [_binary("postgres"), "-D", str(whole / "data"), *settings],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=whole,
            **_as_postgres(),
        )
    server = Postgres(whole, port, process)
    try:
        _wait(server)
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def url_of(server: Postgres, database: str = DATABASE) -> str:
    """Where one of its databases is."""
    return f"postgres://certctl@{server.address}:{server.port}/{database}"


def remember(directory: Path, facts: dict[str, Any]) -> None:
    """What a bench has to know of a seed."""
    (directory / FACTS).write_text(json.dumps(facts, indent=2) + "\n")


def facts_of(directory: Path) -> dict[str, Any]:
    """The same, read again."""
    path = directory / FACTS
    if not path.exists():
        raise SystemExit(f"there is no seed in {directory}: make one with `bench/run.py seed --into {directory}`")
    return dict(json.loads(path.read_text()))
