"""`make faults`: every point of death, chapter by chapter, for every victim and both databases; writes the table of outcomes.

    python tests/faults/matrix.py [--only WORD] [--chapter C] [--victim V] [--database D] [--sample N] [--jobs N] [--table FILE]

Victims: server and agent (kill -9 at their own points, then started again), replica (kill -9 to one of two servers on one
PostgreSQL; the other takes over), nginx (killed and started again while the agent stands still at the point) and postgres (SIGQUIT
and started again while the server stands still there). A fleet plays on after each judged death; a failed one is thrown away.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from faults.story import CHAPTERS, Listed, Play, Point, places
from peers.postgres import Postgres, postgres

TABLE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "faults.md"
SHARED = ("renew", "revoke", "look")
# What runs all the time is struck in one chapter only: it is the same commit at any moment.
_UNTIL = "FAULTS_UNTIL"
_BACKGROUND = ("commit.tick.", "commit.lapsed.", "commit.observe.", "commit.heartbeat.", "commit.key.touch.")


class Case(NamedTuple):
    """One play: this victim at this point on this database."""

    point: Point
    victim: str
    database: str


class Outcome(NamedTuple):
    case: Case
    outcome: str
    seconds: float


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
    """Cases that may share a fleet: later chapters by database and victim; the others have a fresh one each."""
    shared: dict[tuple[str, bool], list[Case]] = {}
    single = []
    for case in chosen:
        if case.point.chapter in SHARED:
            shared.setdefault((case.database, case.victim == "replica"), []).append(case)
        else:
            single.append([case])
    groups = [group[start : start + 40] for group in shared.values() for start in range(0, len(group), 40)]
    return sorted([*groups, *single], key=len, reverse=True)


class Stage:
    """The fleet in use, made when first needed and again after a failure."""

    def __init__(self, folder: Path, server: Postgres | None) -> None:
        self._folder, self._server, self._made = folder, server, 0
        self.play: Play | None = None

    def ready(self, case: Case) -> Play:
        if self.play is not None and not self.play.broken:
            return self.play
        self.close()
        self._made += 1
        self.play = Play(self._folder / f"f{self._made}", self._server if case.database == "postgresql" else None)
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
        told = f"FAILED: {str(error).splitlines()[0][:160] if str(error) else type(error).__name__}"
        if stage.play is not None:
            print(f"--- {case}\n{error!r}"[:3000], file=sys.stderr, flush=True)
    return Outcome(case, told, time.monotonic() - began)


def _time_is_up() -> bool:
    return time.time() > float(os.environ.get(_UNTIL, "inf"))


def work(batch: list[Case]) -> list[Outcome]:
    """One process's share: a fleet, and a PostgreSQL of its own where it is needed."""
    if _time_is_up():
        return []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(postgres()) if batch[0].database == "postgresql" else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="certctl-faults-")))
        stage = Stage(folder, server)
        stack.callback(stage.close)
        done: list[Outcome] = []
        for case in batch:
            if _time_is_up():
                break
            done.append(strike(stage, case))
            print(
                f"{done[-1].outcome:26} {case.victim:8} {case.database:10} {case.point.chapter:8} {case.point.name}",
                flush=True,
            )
        return done


def _chosen(options: argparse.Namespace) -> list[Case]:
    chosen = [
        case
        for case in cases()
        if re.search(options.only, case.point.name)
        and options.chapter in {"", case.point.chapter}
        and options.victim in {"", case.victim}
        and options.database in {"", case.database}
    ]
    return chosen[:: max(1, round(len(chosen) / options.sample))] if options.sample else chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    outcomes: list[Outcome] = []
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        for done in pool.imap_unordered(work, batches(chosen)):
            outcomes += done
    write_table(options.table, outcomes, len(cases()))
    failed = [one for one in outcomes if one.outcome.startswith("FAILED")]
    print(f"{len(outcomes)} of {len(chosen)} chosen cases played, {len(failed)} failed; table in {options.table}")
    return 1 if failed else 0


def write_table(path: Path, outcomes: list[Outcome], whole: int) -> None:
    order = {case: number for number, case in enumerate(cases())}
    outcomes = sorted(outcomes, key=lambda one: order[one.case])
    told = Counter(one.outcome if not one.outcome.startswith("FAILED") else "failed" for one in outcomes)
    lines = [
        "# Every point of death",
        "",
        "Written by `make faults` (`tests/faults/matrix.py`; `make faults FAULTS='--sample 40'` plays a part). Each row is one play of",
        "the story (start, enrolment, request, renewal, revocation with replacement, CRL and OCSP) on real processes, in which the",
        "victim is killed at the named point and started again (a replica: left dead, the other server takes over). Judged after each:",
        "no signed certificate without its stored intent and its row, one serial one TBS, one intent a job, the same versions, statuses,",
        "jobs, deployments, CRL and OCSP as without the death, nothing left over beside the served files, and a prober that never saw",
        "anything but a valid pair that is recorded. Rows marked `not passed this time` depend on timing.",
        "",
        f"Played: {len(outcomes)} of the {whole} cases of the whole matrix. "
        + ", ".join(f"{outcome}: {count}" for outcome, count in told.most_common())
        + ".",
        "",
        "| chapter | point | victim | database | outcome | seconds |",
        "|---|---|---|---|---|---|",
        *(
            f"| {one.case.point.chapter} | `{one.case.point.name}` | {one.case.victim} | {one.case.database} "
            f"| {one.outcome.replace('|', '/')} | {one.seconds:.1f} |"
            for one in outcomes
        ),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
