"""Runs the real control plane in a process of its own. DIE_AT=<point>[#n] kills it with SIGKILL at that named point."""

from __future__ import annotations

import os
import signal
from collections import Counter

from certctl.telemetry import points

_die_at, _, _nth = os.environ.get("DIE_AT", "").partition("#")
_passed: Counter[str] = Counter()


def _hook(name: str) -> None:
    _passed[name] += 1
    if name == _die_at and _passed[name] == int(_nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    points.hook = _hook
    from certctl.cli.server import main

    main()
