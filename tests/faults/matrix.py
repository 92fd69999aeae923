"""`make faults`: every point of death, chapter by chapter, for every victim and both databases; writes the table of outcomes.

    python tests/faults/matrix.py [--missing] [--only WORD] [--chapter C] [--victim V] [--database D] [--sample N] [--jobs N]

Each row is put into the table when its play ends, beside the rows of earlier runs: a run may be killed and taken up again.

Victims: server and agent (kill -9 at their own points, then started again), replica (kill -9 to one of two servers on one
PostgreSQL; the other takes over), nginx (killed and started again while the agent stands still at the point) and postgres (SIGQUIT
and started again while the server stands still there). A fleet plays on after each judged death; a failed one is thrown away.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from faults.story import CHAPTERS, Listed, Play, places
from faults.table import FAILED, Case, Outcome, put, read_table
from peers.nursery import Nursery
from peers.postgres import Postgres, postgres

TABLE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "faults.md"
SHARED = ("renew", "revoke", "look")
# What runs all the time is struck in one chapter only: it is the same commit at any moment.
_UNTIL, _TABLE, _COMMIT = "FAULTS_UNTIL", "FAULTS_TABLE", "FAULTS_COMMIT"
_MOST_A_BATCH = 20
_BACKGROUND = (
    "commit.tick.",
    "commit.audit.",
    "commit.batch.purge.",
    "commit.count.",
    "commit.lapsed.",
    "commit.observe.",
    "commit.heartbeat.",
    "commit.agent.beats.",
    "commit.key.touch.",
)


def chapters_of(one: Listed) -> tuple[str, ...]:
    if one.name.startswith(_BACKGROUND):
        return (next(chapter for chapter in reversed(CHAPTERS) if chapter in one.chapters),)
    return one.chapters


def cases() -> list[Case]:
    """The whole matrix, in the order of the story."""
    whole = []
    for point in places(chapters_of):
        for database in ("sqlite", "postgresql"):
            embedded_only = point.name.startswith(("secret.", "commit.release."))
            if embedded_only and database == "postgresql":
                continue
            whole.append(Case(point, point.process, database))
            if point.process == "agent" and point.chapter in {"request", *SHARED}:
                whole.append(Case(point, "nginx", database))
            if point.process == "server" and database == "postgresql":
                whole.append(Case(point, "postgres", database))
                if point.chapter in SHARED:
                    whole.append(Case(point, "replica", database))
    return whole


def batches(chosen: list[Case]) -> list[list[Case]]:
    """Cases that one process plays: those of later chapters share a fleet, the others a PostgreSQL. Mixed, so that a part of
    a run has met a bit of everything."""
    shared: dict[tuple[str, bool, bool], list[Case]] = {}
    mixed = random.Random(7).sample(chosen, len(chosen))
    for case in mixed:
        shared.setdefault((case.database, case.victim == "replica", case.point.chapter in SHARED), []).append(case)
    groups = [
        group[start : start + _MOST_A_BATCH]
        for group in shared.values()
        for start in range(0, len(group), _MOST_A_BATCH)
    ]
    return random.Random(7).sample(groups, len(groups))


class Stage:
    """The fleet in use, made when first needed and again after a failure."""

    def __init__(self, folder: Path, server: Postgres | None, nursery: Nursery) -> None:
        self._folder, self._server, self._nursery, self._made = folder, server, nursery, 0
        self.play: Play | None = None

    def ready(self, case: Case) -> Play:
        if self.play is not None and not self.play.broken:
            return self.play
        self.close()
        self._made += 1
        self.play = Play(
            self._folder / f"f{self._made}",
            self._server if case.database == "postgresql" else None,
            nursery=self._nursery,
            patience=4,
            CERTCTL_STEP_LEASE="3s",
        )
        for chapter in CHAPTERS[: min(CHAPTERS.index(case.point.chapter), CHAPTERS.index("renew"))]:
            self.play.play(chapter)
        return self.play

    def close(self) -> None:
        if self.play is not None:
            self.play.stop()
            self.play = None


def strike(stage: Stage, case: Case) -> Outcome:
    began = time.monotonic()
    try:
        play = stage.ready(case)
        play.broken = True
        began = time.monotonic()
        if case.victim == "replica" and play.second is None:
            play.add_replica()
        passed = play.strike(case.point, "" if case.victim == case.point.process else case.victim)
        rest = CHAPTERS[CHAPTERS.index(case.point.chapter) + 1 :] if case.point.chapter not in SHARED else ()
        for chapter in rest:
            play.play(chapter)
        play.judge()
        play.broken = case.point.chapter not in SHARED
        told = "the story ends the same" if passed else "not passed this time"
    except Exception as error:
        told = f"{FAILED}: {str(error).splitlines()[0][:160] if str(error) else type(error).__name__}"
        if stage.play is not None:
            print(f"--- {case}\n{error}"[:6500], file=sys.stderr, flush=True)
    return Outcome(case, told, time.monotonic() - began, os.environ.get(_COMMIT, "0"))


def _time_is_up() -> bool:
    return time.time() > float(os.environ.get(_UNTIL, "inf"))


def work(batch: list[Case]) -> list[Outcome]:
    """One process's share: a fleet, and a PostgreSQL of its own where it is needed."""
    if _time_is_up():
        return []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(postgres()) if batch[0].database == "postgresql" else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="certctl-faults-")))
        stage = Stage(folder, server, stack.enter_context(Nursery()))
        stack.callback(stage.close)
        done: list[Outcome] = []
        whole = cases()
        for case in batch:
            if _time_is_up():
                break
            done.append(strike(stage, case))
            put(Path(os.environ[_TABLE]), done[-1:], whole)
            print(
                f"{done[-1].outcome:26} {case.victim:8} {case.database:10} {case.point.chapter:8} {case.point.name}",
                flush=True,
            )
        return done


def commit() -> str:
    """The commit that is played, with a `+` when the tree holds more than it."""
    here = Path(__file__).parent
    told = subprocess.run(
        ["git", "rev-parse", "--short=9", "HEAD"], cwd=here, check=True, capture_output=True, text=True
    )
    ours = ["git", "status", "--porcelain", "--", ":/src", ":/tests"]
    changed = subprocess.run(ours, cwd=here, check=True, capture_output=True, text=True)
    return told.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _chosen(options: argparse.Namespace) -> list[Case]:
    whole = cases()
    kept = (
        {case for case, row in read_table(options.table, whole).items() if not row.failed} if options.missing else set()
    )
    chosen = [
        case
        for case in whole
        if case not in kept
        and re.search(options.only, case.point.name)
        and options.chapter in {"", case.point.chapter}
        and options.victim in {"", case.victim}
        and options.database in {"", case.database}
    ]
    return chosen[:: max(1, round(len(chosen) / options.sample))] if options.sample else chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--missing", action="store_true", help="only what is not in the table yet, or FAILED")
    parser.add_argument("--only", default="", help="a regular expression on the point's name")
    parser.add_argument("--chapter", default="", choices=("", *CHAPTERS))
    parser.add_argument("--victim", default="", choices=("", "server", "agent", "replica", "nginx", "postgres"))
    parser.add_argument("--database", default="", choices=("", "sqlite", "postgresql"))
    parser.add_argument("--sample", type=int, default=0, help="about so many cases, evenly spread")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=0, help="begin no further play after so many minutes")
    parser.add_argument("--table", type=Path, default=TABLE)
    options = parser.parse_args()
    chosen = _chosen(options)
    if options.minutes:
        os.environ[_UNTIL] = str(time.time() + options.minutes * 60)
    os.environ[_TABLE], os.environ[_COMMIT] = str(options.table.resolve()), commit()
    outcomes: list[Outcome] = []
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        for done in pool.imap_unordered(work, batches(chosen)):
            outcomes += done
    failed = [one for one in outcomes if one.failed]
    print(f"{len(outcomes)} of {len(chosen)} chosen cases played, {len(failed)} failed; table in {options.table}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
