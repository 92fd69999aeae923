"""Writes `points.txt` anew from a fresh story on each database: `python tests/faults/record.py`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from faults.story import CHAPTERS, POINTS_FILE, Listed, playing
from peers.postgres import Postgres, postgres

# whether these are passed in a chapter is a matter of time
_AT_TIMES = (
    "commit.count.",
    "commit.tick.lease.",
    "commit.config.target.",
    "commit.leases.",
    "commit.lapsed.",
    "commit.observe.",
    "commit.agent.seen.",
    "commit.agent.beats.",
    "commit.heartbeat.",
    "commit.key.touch.",
    "commit.tick.end.",
    "commit.tick.lease.",
    "commit.count.fold.",
    "commit.count.write.",
)


def record(server: Postgres | None) -> list[Listed]:
    """The points of one story without any fault."""
    with tempfile.TemporaryDirectory(prefix="certctl-points-") as folder, playing(Path(folder), server) as play:
        for chapter in CHAPTERS:
            play.play(chapter)
        return play.recorded()


def main() -> None:
    with postgres() as server:
        stories = [record(None), record(server)]
    merged: dict[tuple[str, str], set[str]] = {}
    for one in (listed for story in stories for listed in story):
        merged.setdefault((one.process, one.name), set()).update(one.chapters)
    kept = [line for line in POINTS_FILE.read_text().splitlines() if line.startswith(("#", "-"))]
    lines = [
        f"{process} {name}{'?' if name.startswith(_AT_TIMES) else ''} {','.join(c for c in CHAPTERS if c in chapters)}"
        for (process, name), chapters in merged.items()
    ]
    POINTS_FILE.write_text("\n".join([*kept, *lines]) + "\n")
    print(f"{len(lines)} points")


if __name__ == "__main__":
    main()
