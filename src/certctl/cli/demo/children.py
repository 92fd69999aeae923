"""The demo's own processes: each with a log file, waited for until it is ready, stopped by its own pid."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from certctl.core.errors import Misconfigured, Temporary

_STOP_SECONDS = 15.0
_TAIL_CHARACTERS = 1500


class Children:
    """Starts processes and stops every one of them, last first."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        log_dir.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start one; what it prints goes to its log."""
        with (self._log_dir / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                list(command), env=dict(environ), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self._running.append((name, child))
        return child

    def wait_until(self, name: str, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready` says so; Misconfigured with the end of the log when the process died, Temporary in
        time-out.
        """
        child = next(child for known, child in reversed(self._running) if known == name)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if child.poll() is not None:
                raise Misconfigured(f"{name} ended with code {child.returncode}: {self.tail(name)}")
            if ready():
                return
            time.sleep(0.02)
        raise Temporary(f"{name} was not ready within {seconds:.0f} s: {self.tail(name)}")

    def tail(self, name: str) -> str:
        """The end of a log."""
        path = self._log_dir / f"{name}.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return text[-_TAIL_CHARACTERS:].strip() or "(its log is empty)"

    def died(self) -> str:
        """The name of the first process that ended by itself, or empty."""
        return next((name for name, child in self._running if child.poll() is not None), "")

    def stop(self) -> None:
        """Ask each to end, then insist."""
        for _, child in reversed(self._running):
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
            try:
                child.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(_STOP_SECONDS)
        self._running.clear()


def bare_environ() -> dict[str, str]:
    """What children inherit: where programs and homes are, nothing of certctl's own variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}


def free_ports(count: int) -> list[int]:
    """Loopback ports that are free this moment and below the range from which outgoing connections take theirs: a
    later run wants them again.
    """
    found: list[int] = []
    while len(found) < count:
        port = 12_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return list(dict.fromkeys(found)) if len(set(found)) == count else free_ports(count)


def is_listening(port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
