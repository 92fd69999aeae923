"""Loopback ports for tests, each given to one test process of this machine and to no other until that process ends.

A port that was free a moment ago may be taken by another worker before it is used, or while the server that it was taken for is
down; our servers listen with SO_REUSEPORT, so that two of them would even share it. The kernel keeps the claims: a lock on one
byte of a file a port, gone with the process that holds it, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

# below the range from which outgoing connections take theirs
_FIRST, _LAST = 12_000, 31_999
_claims = (
    -1
)  # the file's descriptor: POSIX locks are gone when the process closes any descriptor of it, so it is opened once
_given: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody listens on and that no other test process was given; never the same twice."""
    chance = random.SystemRandom()
    for _ in range(1000):
        port = chance.randint(_FIRST, _LAST)
        if port not in _given and _claimed(port) and _is_free(port):
            _given.add(port)
            return port
    raise RuntimeError("no free port found")


def _claimed(port: int) -> bool:
    """Whether it is this process's now; whoever was given it before holds it as long as it lives."""
    global _claims  # noqa: PLW0603 - one file a process
    if _claims < 0:
        path = Path(tempfile.gettempdir()) / f"certctl-test-ports-{os.getuid()}"
        _claims = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(_claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except BlockingIOError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
