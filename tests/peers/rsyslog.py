"""A real rsyslog of the test's own: TCP with octet counting on a loopback port, messages written to a file as they came."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from peers.ports import free_port

_CONF = """
global(workDirectory="{folder}" maxMessageSize="64k")
module(load="imtcp")
template(name="as-it-came" type="string" string="%msg%\\n")
input(type="imtcp" address="127.0.0.1" port="{port}")
action(type="omfile" file="{folder}/audit.log" template="as-it-came")
"""


@dataclass
class Rsyslog:
    """One rsyslog, stopped and started again at will; what it was told is in `file`."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def file(self) -> Path:
        return self.folder / "audit.log"

    def start(self) -> None:
        """It listens when this returns."""
        command = [_binary(), "-n", "-f", str(self.folder / "conf"), "-i", str(self.folder / "pid")]
        with (self.folder / "said").open("ab") as said:
            self.process = subprocess.Popen(command, stdout=said, stderr=said)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError(f"rsyslog ended: {(self.folder / 'said').read_text()}") from None
                time.sleep(0.05)
            else:
                return
        raise RuntimeError("rsyslog does not listen")

    def stop(self) -> None:
        """It has written what it read when this returns."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(30)
            self.process = None


def rsyslog(folder: Path) -> Rsyslog:
    """Not started yet."""
    folder.mkdir()
    made = Rsyslog(folder, free_port())
    (folder / "conf").write_text(_CONF.format(folder=folder, port=made.port))
    return made


def _binary() -> str:
    found = shutil.which("rsyslogd") or shutil.which("rsyslogd", path="/usr/sbin:/sbin")
    if found is None:
        raise RuntimeError("rsyslog is not installed: run make peers, or apt-get install rsyslog")
    return found
