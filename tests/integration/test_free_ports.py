"""No two test processes are given the same port, even before anybody listens on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
# it holds what it was given until it is told to end: a thousand of twenty thousand twice would meet by chance some fifty times
_DRAW = "from peers.ports import free_port; print(*[free_port() for _ in range(1000)], flush=True); input()"


def test_what_one_process_was_given_no_other_is_given():
    drawing = [
        subprocess.Popen(
            [sys.executable, "-c", _DRAW], cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        first, second = (set(each.stdout.readline().split()) for each in drawing)
    finally:
        for each in drawing:
            each.communicate("\n", timeout=60)
    assert len(first) == len(second) == 1000
    assert not first & second
