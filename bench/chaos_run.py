"""`make bench BENCH='chaos --minutes 20'`: everything under random fire while certificates are renewed.

    bench/run.py chaos [--minutes M] [--agents N] [--nginx N] [--seed S] [--keep] [--folder DIR]

Agents, servers, NGINX and the database are real processes (see tests/chaos). Ends with 0 when nothing was lost,
doubled, falsely green, or served as anything but a valid pair; writes the result (JSON) and what was observed (text),
with --keep under bench/results.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from chaos.run import Log, Wish, as_json, run


def main(arguments: list[str] | None = None) -> int:
    """Run, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--nginx", type=int, default=6, help="so many of the targets are NGINX")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="write result and log under bench/results")
    parser.add_argument("--folder", type=Path, help="keep every process's log here")
    asked = parser.parse_args(arguments)
    told = subprocess.run(["git", "rev-parse", "--short=9", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    stem = f"{datetime.now(UTC):%Y%m%d}-{told.stdout.strip() or 'none'}-chaos"
    results = ROOT / "bench" / "results" if asked.keep else Path(tempfile.mkdtemp(prefix="certctl-chaos-result-"))
    results.mkdir(exist_ok=True)
    log = Log(results / f"{stem}.log", loud=True)
    wish = Wish(seconds=asked.minutes * 60, agents=asked.agents, nginx=min(asked.nginx, asked.agents), seed=asked.seed)
    result = {"commit": told.stdout.strip(), **run(wish, log.say, asked.folder)}
    sys.stdout.write(as_json(result) + "\n")
    (results / f"{stem}.json").write_text(as_json(result) + "\n")
    sys.stdout.write(f"result and log: {results}/{stem}.*\n")
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
