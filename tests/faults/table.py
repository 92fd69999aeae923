"""The committed table of deaths: every case that was ever played, with its outcome and the commit that it was played at.

A row is only ever written by a play. Each is merged into the file under a lock and the file is replaced in whole, so that a run
may be killed at any time, and several may write side by side. Rows of cases that exist no more are dropped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from faults.story import Point, read_points

FAILED = "FAILED"
_ROW = re.compile(
    r"\| (?P<chapter>\w+) \| `(?P<name>[^`]+)` \| (?P<victim>\w+) \| (?P<database>\w+) "
    r"\| (?P<outcome>.*) \| (?P<seconds>[\d.]+) \| (?P<commit>[0-9a-f]+\+?) \|"
)

HEAD = """\
# Every point of death

Written by `make faults` (`tests/faults/matrix.py`), row by row: `make faults FAULTS=--missing` plays what is not in here yet or
FAILED, `FAULTS='--sample 40'` a part. Each row is one play of the story (start, enrolment, request, renewal, revocation with
replacement, CRL and OCSP) on real processes, in which the victim is killed at the named point and started again (a replica: left
dead, the other server takes over). Judged after each: no signed certificate without its stored intent and its row, one serial one
TBS, one intent a job, the same versions, statuses, jobs, deployments, CRL and OCSP as without the death, nothing left over beside
the served files, and a prober that never saw anything but a valid pair that is recorded. Rows marked `not passed this time` depend
on timing. The last column is the commit that was played (`+`: with changes not committed); seconds are of a busy machine and
measure nothing.
"""


class Case(NamedTuple):
    """One play: this victim at this point on this database."""

    point: Point
    victim: str
    database: str


class Outcome(NamedTuple):
    """What came of a play, in how many seconds, at which commit."""

    case: Case
    outcome: str
    seconds: float
    commit: str

    @property
    def failed(self) -> bool:
        return self.outcome.startswith(FAILED)


def read_table(path: Path, whole: list[Case]) -> dict[Case, Outcome]:
    """The rows of the cases that still exist; nothing when there is no table yet."""
    if not path.exists():
        return {}
    process_of = {one.name: one.process for one in read_points()}
    known, rows = set(whole), {}
    for line in path.read_text().splitlines():
        found = _ROW.fullmatch(line)
        if found is None or found["name"] not in process_of:
            continue
        point = Point(found["chapter"], process_of[found["name"]], found["name"])
        case = Case(point, found["victim"], found["database"])
        if case in known:
            rows[case] = Outcome(case, found["outcome"], float(found["seconds"]), found["commit"])
    return rows


def put(path: Path, fresh: list[Outcome], whole: list[Case]) -> None:
    """Merge these rows into the table; a later play of a case replaces its earlier row."""
    with _locked(path):
        rows = read_table(path, whole) | {one.case: one for one in fresh}
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(_text(rows, whole))
        beside.replace(path)


def _text(rows: dict[Case, Outcome], whole: list[Case]) -> str:
    told = Counter("failed" if one.failed else one.outcome for one in rows.values())
    victims = Counter(case.victim for case in rows)
    existing = Counter(case.victim for case in whole)
    lines = [
        HEAD,
        f"Played: {len(rows)} of the {len(whole)} cases of the whole matrix. "
        + ", ".join(f"{outcome}: {count}" for outcome, count in told.most_common())
        + ".",
        "By victim: " + ", ".join(f"{one} {victims[one]} of {existing[one]}" for one in sorted(existing)) + ".",
        "",
        "| chapter | point | victim | database | outcome | seconds | played at |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in whole:
        if case in rows:
            one = rows[case]
            lines.append(
                f"| {case.point.chapter} | `{case.point.name}` | {case.victim} | {case.database} "
                f"| {one.outcome.replace('|', '/')} | {one.seconds:.1f} | {one.commit} |"
            )
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    with (Path(tempfile.gettempdir()) / f"certctl-faults-{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
