"""Results that wait to be sent: each is on disk before it is sent, and goes only when the server has answered for good.

`<state>/outbox/<sequence>-<step_id>.json`, in order within a job. A server that is down for days loses nothing: no new
work is fetched while the outbox is full, so it is bounded without dropping anything. Must never hold a private key.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from certctl.agent.durable import private_folder, read_private, remove, remove_leftovers, set_aside, write_atomic
from certctl.core.errors import Malformed, Misconfigured
from certctl.core.ids import check_id
from certctl.wire.agent import CsrReport, LeaseRef, StatusReport, VerifyReport

MOST_ENTRIES = 1000

Report = CsrReport | StatusReport | VerifyReport
_KINDS: dict[type[Report], Literal["csr", "status", "verify"]] = {
    CsrReport: "csr",
    StatusReport: "status",
    VerifyReport: "verify",
}


class Entry(Struct, frozen=True, kw_only=True):
    """One result of one step. `body` is the report as it goes over the wire."""

    sequence: int
    kind: Literal["csr", "status", "verify"]
    job_id: str
    step_id: str
    fence: int
    body: dict[str, Any]
    created_at: datetime
    # what its sending is told to be part of (W3C Trace Context)
    traceparent: str = ""


class Outbox:
    """The results of this agent that its server has not taken yet. One process, one event loop."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = private_folder(state_dir / "outbox")
        remove_leftovers(self._folder)
        self._entries: dict[int, Entry] = {}
        for path in sorted(self._folder.glob("*.json")):
            entry = _load(path)
            if entry is not None:
                self._entries[entry.sequence] = entry
        self._next = max(self._entries, default=0) + 1

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def full(self) -> bool:
        """True while no new work should be fetched."""
        return len(self._entries) >= MOST_ENTRIES

    def add(self, job_id: str, step_id: str, report: Report, traceparent: str = "") -> Entry:
        """Keep one result: flushed to disk when this returns."""
        entry = Entry(
            sequence=self._next,
            kind=_KINDS[type(report)],
            job_id=check_id(job_id, "job_id"),
            step_id=check_id(step_id, "step_id"),
            fence=report.fence,
            body=msgspec.to_builtins(report),
            created_at=datetime.now(UTC),
            traceparent=traceparent,
        )
        write_atomic(self._path(entry), msgspec.json.encode(entry), "agent.outbox")
        self._next += 1
        self._entries[entry.sequence] = entry
        return entry

    def remove(self, entry: Entry) -> None:
        """The server has answered for good: the result goes."""
        remove(self._path(entry), "agent.outbox")
        self._entries.pop(entry.sequence, None)

    def jobs(self) -> tuple[str, ...]:
        """The jobs with results that wait, the one that waits longest first."""
        return tuple(dict.fromkeys(self._entries[sequence].job_id for sequence in sorted(self._entries)))

    def first_of(self, job_id: str) -> Entry | None:
        """The result of this job that must be sent next, or None."""
        waiting = [entry for entry in self._entries.values() if entry.job_id == job_id]
        return min(waiting, key=lambda entry: entry.sequence, default=None)

    def leases(self) -> list[LeaseRef]:
        """The leases whose results wait here: heartbeats keep them alive, so that the work is not done twice."""
        return [LeaseRef(entry.step_id, entry.fence) for entry in self._entries.values()]

    def holds(self, step_id: str, fence: int) -> bool:
        """True when the result of this very lease is waiting here: the step need not be worked again."""
        return any(entry.step_id == step_id and entry.fence == fence for entry in self._entries.values())

    def _path(self, entry: Entry) -> Path:
        return self._folder / _file_name(entry)


def read_entries(state_dir: Path) -> tuple[Entry, ...]:
    """What waits, for people to look at: reads only, passes over what cannot be read."""
    entries = []
    for path in sorted((state_dir / "outbox").glob("*.json")):
        with contextlib.suppress(OSError, msgspec.MsgspecError, Misconfigured):
            entries.append(msgspec.json.decode(path.read_bytes(), type=Entry))
    return tuple(entries)


def _load(path: Path) -> Entry | None:
    try:
        entry = msgspec.json.decode(read_private(path), type=Entry)
        check_id(entry.job_id, "job_id")
        check_id(entry.step_id, "step_id")
    except (ValueError, msgspec.MsgspecError, Malformed, Misconfigured) as error:
        set_aside(path, str(error))
        return None
    if path.name != _file_name(entry):
        set_aside(path, "the file's name and its content differ")
        return None
    return entry


def _file_name(entry: Entry) -> str:
    return f"{entry.sequence:012d}-{entry.step_id}.json"
