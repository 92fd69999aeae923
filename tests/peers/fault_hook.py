"""What a test's process does at the named points of death: records them, dies there, or stands still there.

RECORD_POINTS=file   one line `name` a passed point, in order.
DIE_AT=name[#n]      SIGKILL at the n-th passing.
ARM_FILE=file        looked at at every point: once it holds `kill NAME` or `hold NAME` and that point is reached, one process
                     takes it (a rename to `file.reached`) and dies, or stands still until `file.go` is there.
SIGNED_FILE=file     one line `key_ref hex(tbs)` a signature that the control plane's signer has given.
CLOCK_FILE=file      seconds by which the control plane's clock is wrong.
SLOW_CA_FILE=file    seconds that the built-in CA takes for an answer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certctl.telemetry import points

_HELD_AT_MOST_SECONDS = 60.0

_die_at, _, _nth = os.environ.get("DIE_AT", "").partition("#")
_record = os.environ.get("RECORD_POINTS", "")
_arm = os.environ.get("ARM_FILE", "")
_passed: Counter[str] = Counter()


def install() -> None:
    points.hook = _hook
    if os.environ.get("SIGNED_FILE"):
        _record_signatures(os.environ["SIGNED_FILE"])
    if os.environ.get("CLOCK_FILE"):
        _bend_clock(Path(os.environ["CLOCK_FILE"]))
    if os.environ.get("SLOW_CA_FILE"):
        _slow_the_ca(Path(os.environ["SLOW_CA_FILE"]))


def _hook(name: str) -> None:
    _passed[name] += 1
    if _record:
        _append(_record, name)
    if name == _die_at and _passed[name] == int(_nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if _arm:
        _look_at_arm(name)


def _look_at_arm(name: str) -> None:
    try:
        mode, _, wanted = Path(_arm).read_text().strip().partition(" ")
    except FileNotFoundError:
        return
    if wanted != name:
        return
    try:
        Path(_arm).rename(f"{_arm}.reached")
    except FileNotFoundError:
        return  # another process was faster
    if mode == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    deadline = time.monotonic() + _HELD_AT_MOST_SECONDS
    go = Path(f"{_arm}.go")
    while not go.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    go.unlink(missing_ok=True)


def _append(path: str, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def _record_signatures(path: str) -> None:
    from certctl.authority.keybox import DatabaseSigner

    real = DatabaseSigner.sign

    async def sign(self, key_ref, algorithm, tbs):
        signature = await real(self, key_ref, algorithm, tbs)
        _append(path, f"{key_ref} {tbs.hex()}")
        return signature

    DatabaseSigner.sign = sign


def _bend_clock(path: Path) -> None:
    from certctl.core.clock import SystemClock

    def now(self) -> datetime:
        seconds = float(path.read_text() or 0) if path.exists() else 0.0
        return datetime.now(UTC) + timedelta(seconds=seconds)

    SystemClock.now = now


def _slow_the_ca(path: Path) -> None:
    from certctl.connectors.issuers.local import LocalIssuer

    real = LocalIssuer.submit

    async def submit(self, order):
        await asyncio.sleep(float(path.read_text() or 0) if path.exists() else 0.0)
        return await real(self, order)

    LocalIssuer.submit = submit
