"""Children that die where they are told to: one process loads the code once and forks a child for every order.

A fork of a small single-threaded process takes milliseconds, so a test can afford a death at every point of a story.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, Self

TESTS = Path(__file__).resolve().parent.parent


class Zygote:
    """Runs `entry` ("peers.swap_story:run") in a fresh child for each order."""

    def __init__(self, entry: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "peers.zygote", entry],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=TESTS,
            text=True,
        )

    def run(self, **order: Any) -> int:
        """0 when the child came to its end, 1 when it raised, -9 when it was killed. Bounded in time by the child."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order, default=str) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the zygote died"
        return int(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()


def die_at(point: str, passed: list[str]) -> Any:
    """A hook for `telemetry.points` that notes every point and dies, as a pulled plug would, at `point`."""

    def hook(name: str) -> None:
        passed.append(name)
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def main() -> None:
    module, _, function = sys.argv[1].partition(":")
    entry = getattr(importlib.import_module(module), function)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            code = 1
            try:
                entry(json.loads(line))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
