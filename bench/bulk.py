"""`make bench BENCH=bulk`: a bulk renewal of 10,000 certificates by three replicas on PostgreSQL, one of them killed
in the middle.

It is judged before it is measured: every certificate has exactly the one job that its item names, and the totals are
the items'. Memory is the most that each server ever had. Usage: bench/run.py bulk [--certificates N] [--keep]
"""

from __future__ import annotations

import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from kit import arguments, load, tell

from integration.test_batch_kill import Replicas, done, judge
from peers.postgres import postgres

_LONGEST_SECONDS = 3 * 3600


def measure(count: int) -> dict[str, Any]:
    """The figures of one bulk renewal, its judgement passed."""
    with tempfile.TemporaryDirectory(prefix="certctl-bulk-") as folder, postgres() as server:
        replicas = Replicas(Path(folder), server)
        try:
            return _play(replicas, count)
        finally:
            replicas.close()


def _play(replicas: Replicas, count: int) -> dict[str, Any]:
    victim, *others = [replicas.start() for _ in range(3)]
    replicas.seed(count)
    before = [_memory(one.server.pid) for one in others]
    asked = time.perf_counter()
    answer = others[0].post("/api/v1/certificates/bulk-renew", {"environment": "bulk", "max_failures": 0})
    answered = time.perf_counter() - asked
    path = f"/api/v1/batches/{answer['batch_id']}"
    others[0].wait(lambda: done(replicas) >= count // 3, "a third is done", _LONGEST_SECONDS)
    victim.server.kill()
    if victim.server.wait(10) != -signal.SIGKILL:
        raise RuntimeError("the replica was not killed")
    killed_at = done(replicas)
    others[1].wait(lambda: done(replicas) == count, "the batch ends", _LONGEST_SECONDS)
    took = time.perf_counter() - asked
    others[0].wait(lambda: others[0].get(path)["status"] != "running", "the batch says so", 60)
    judge(replicas, others[0].get(path), count)
    return {
        "certificates": count,
        "replicas": 3,
        "killed_at_item": killed_at,
        "each_item_exactly_once": True,
        "answered_seconds": round(answered, 2),
        "seconds": round(took, 1),
        "items_per_second": round(count / took, 1),
        "server_memory_mb_before": before,
        "server_memory_mb_most": [_memory(one.server.pid, most=True) for one in others],
    }


def _memory(pid: int, *, most: bool = False) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"{'VmHWM' if most else 'VmRSS'}:\s+(\d+) kB", status)
    return round(int(found[1]) / 1024, 1) if found else 0.0


def main(given: list[str] | None = None) -> int:
    """Play, judge, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--certificates", type=int, default=10_000)
    asked = parser.parse_args(given)
    before = load()
    tell("bulk", {"load_before": before, "bulk_renew": measure(asked.certificates)}, keep=asked.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
