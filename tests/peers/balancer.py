"""A real HAProxy in front of several servers: one port for what they serve in plain HTTP, one for their TLS, passed through."""

from __future__ import annotations

import contextlib
import csv
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from peers.ports import free_port

HAPROXY = "/usr/sbin/haproxy"
# each try goes to another server: one that is down costs a second
_CONF = """
global
  nbthread 1
  stats socket {folder}/stats mode 600
defaults
  timeout connect 5s
  timeout client 90s
  timeout server 90s
  retries 3
  option redispatch 1
listen plain
  mode http
  bind 127.0.0.1:{http_port}
  balance roundrobin
{plain}
listen tls
  mode tcp
  bind 127.0.0.1:{tls_port}
  balance roundrobin
{tls}
"""


@dataclass
class Balancer:
    """One running HAProxy."""

    folder: Path
    http_port: int
    tls_port: int

    def answered(self) -> dict[str, int]:
        """By server, how many of the plain requests it answered well."""
        with socket.socket(socket.AF_UNIX) as asks:
            asks.settimeout(30)
            asks.connect(str(self.folder / "stats"))
            asks.sendall(b"show stat\n")
            told = b"".join(iter(lambda: asks.recv(65_536), b"")).decode()
        rows = csv.DictReader(told.removeprefix("# ").splitlines())
        return {
            row["svname"]: int(row["hrsp_2xx"] or 0)
            for row in rows
            if row["pxname"] == "plain" and row["svname"] not in {"FRONTEND", "BACKEND"}
        }


@contextlib.contextmanager
def balancer(plain: Sequence[int], tls: Sequence[int]) -> Iterator[Balancer]:
    """Run it for the length of the block, over these loopback ports."""
    folder = Path(tempfile.mkdtemp(prefix="certctl-balancer-"))
    made = Balancer(folder, free_port(), free_port())
    lines = ["\n".join(f"  server s{n} 127.0.0.1:{port}" for n, port in enumerate(ports)) for ports in (plain, tls)]
    told = {"folder": folder, "http_port": made.http_port, "tls_port": made.tls_port}
    (folder / "conf").write_text(_CONF.format(**told, plain=lines[0], tls=lines[1]))
    try:
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([HAPROXY, "-db", "-f", str(folder / "conf")], stdout=log, stderr=log)
        try:
            _wait(made, process)
            yield made
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(made: Balancer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"HAProxy did not start: {(made.folder / 'log').read_text()[-2000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", made.tls_port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("HAProxy did not answer within 60 s")
