"""Runs the real agent in a process of its own: `python agent_process.py [arguments of certctl-agent]`.

DIE_AT=<point>[#n] kills it with SIGKILL when it passes that named point for the n-th time. The FILE target is known to it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from certctl.telemetry import points

_die_at, _, _nth = os.environ.get("DIE_AT", "").partition("#")
_passed: Counter[str] = Counter()


def _hook(name: str) -> None:
    _passed[name] += 1
    if name == _die_at and _passed[name] == int(_nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    points.hook = _hook
    if os.environ.get("FILE_TARGET"):
        from certctl.connectors import registry

        registry.TARGETS = (*registry.TARGETS, registry.Entry("FILE", "peers.file_target", "FileTarget", "FileConfig"))
    from certctl.cli.agent import main

    main()
