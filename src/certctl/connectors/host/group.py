"""The files of one swap, all together: staged, kept, put in place, put back, cleared away. The blocking half of `swap`.

Every step passes a named point of death. Each method may run again after a crash in its middle. Must never leave a
folder without either the old or the new bytes of a file on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Self

from msgspec import Struct

from certctl.connectors.host.allow import AllowFile
from certctl.connectors.host.journal import JournalFile
from certctl.connectors.host.paths import Place
from certctl.core.errors import Misconfigured
from certctl.telemetry.points import reach

_PREFIX = ".certctl-"


class NewFile(Struct, frozen=True):
    """One file to put in place. An owner or group of -1 stays as the present file has it."""

    path: Path
    data: bytes
    mode: int
    uid: int = -1
    gid: int = -1

    def __repr__(self) -> str:  # the data may be a private key
        return f"NewFile(path={self.path!s}, mode={self.mode:04o}, uid={self.uid}, gid={self.gid})"


class Standing(StrEnum):
    """How one file of a broken-off swap is found."""

    PLACED = "placed"  # the new bytes are live
    WAITING = "waiting"  # the old bytes are live and the new ones are staged whole
    OLD = "old"  # the old bytes are live and the new ones are lost
    FOREIGN = "foreign"  # somebody else wrote it


class Group:
    """The opened places of one group of files. Close it, or use it in `with`."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = tuple(places)

    @classmethod
    def open(cls, paths: Iterable[str | Path], allow: AllowFile) -> Self:
        """Open every folder. Raises Misconfigured for one that is not allowed, and for a path named twice."""
        places: list[Place] = []
        try:
            for path in paths:
                places.append(Place.open(path, allow))  # noqa: PERF401 - those opened so far must be closed on failure
            _check_distinct(places)
        except BaseException:
            for place in places:
                place.close()
            raise
        return cls(places)

    def describe(self, plan_id: str, files: Sequence[NewFile]) -> tuple[JournalFile, ...]:
        """What the journal says of each file, from what is there now."""
        return tuple(
            JournalFile(
                path=str(place.path),
                staged=f"{_PREFIX}{plan_id}-{number}.new",
                backup=f"{_PREFIX}{plan_id}-{number}.old",
                old_sha256=sha256_of(place.read()),
                new_sha256=sha256_of(file.data),
            )
            for number, (place, file) in enumerate(zip(self.places, files, strict=True))
        )

    def stage(self, entries: Sequence[JournalFile], files: Sequence[NewFile]) -> dict[str, str]:
        """Write the new files beside the old, keep the old under second names; returns path -> staged path."""
        staged: dict[str, str] = {}
        for number, (place, entry, file) in enumerate(zip(self.places, entries, files, strict=True)):
            place.remove(entry.staged)
            place.remove(entry.backup)
            facts = place.facts()
            uid = file.uid if file.uid >= 0 or facts is None else facts.uid
            gid = file.gid if file.gid >= 0 or facts is None else facts.gid
            place.create(entry.staged, file.data, file.mode, uid, gid)
            reach(f"swap.staged:{number}")
            if entry.old_sha256:
                place.keep_as(entry.backup)
                reach(f"swap.kept:{number}")
            staged[entry.path] = str(place.beside(entry.staged))
        self.sync()
        reach("swap.staged")
        return staged

    def put_in_place(self, entries: Sequence[JournalFile]) -> None:
        """Rename every staged file that still waits into its place, and flush."""
        for number, (place, entry) in enumerate(zip(self.places, entries, strict=True)):
            if place.facts(entry.staged) is not None:
                place.rename(entry.staged)
            reach(f"swap.renamed:{number}")
        self.sync()
        reach("swap.synced")

    def put_back(self, entries: Sequence[JournalFile]) -> None:
        """The old files back in their places (or none, where there was none), and flush.

        Raises Misconfigured, with nothing touched, when one was changed by somebody else or its old bytes are gone.
        """
        for place, entry in zip(self.places, entries, strict=True):
            _check_can_go_back(place, entry)
        for number, (place, entry) in enumerate(zip(self.places, entries, strict=True)):
            live = sha256_of(place.read())
            if not entry.old_sha256:
                if live == entry.new_sha256:
                    place.remove()
            elif live != entry.old_sha256:
                place.rename(entry.backup)
            reach(f"swap.back:{number}")
        self.sync()
        reach("swap.put_back")

    def clear(self, entries: Sequence[JournalFile]) -> None:
        """Remove what was staged and kept, and flush."""
        for number, (place, entry) in enumerate(zip(self.places, entries, strict=True)):
            place.remove(entry.staged)
            place.remove(entry.backup)
            reach(f"swap.cleared:{number}")
        self.sync()

    def clear_leftovers(self, plan_id: str) -> None:
        """Remove everything that bears the plan's name: for a journal that cannot say what there is."""
        for place in self.places:
            for name in place.names():
                if name.startswith(f"{_PREFIX}{plan_id}-") and name.endswith((".new", ".old")):
                    place.remove(name)
        self.sync()

    def standing(self, entries: Sequence[JournalFile]) -> tuple[Standing, ...]:
        """How each file is found, judged by its bytes."""
        return tuple(_standing(place, entry) for place, entry in zip(self.places, entries, strict=True))

    def live(self) -> dict[str, bytes | None]:
        """The bytes of each file as they are now, None where there is none."""
        return {str(place.path): place.read() for place in self.places}

    def sync(self) -> None:
        """Flush every folder once."""
        for place in self.folders():
            place.sync()

    def folders(self) -> tuple[Place, ...]:
        """One place a folder, in an order that all processes share."""
        by_folder = {place.folder_key: place for place in reversed(self.places)}
        return tuple(by_folder[key] for key in sorted(by_folder))

    def close(self) -> None:
        """Close the folders."""
        for place in self.places:
            place.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sha256_of(data: bytes | None) -> str:
    """SHA-256 in lowercase hex; empty for a file that is not there."""
    return "" if data is None else hashlib.sha256(data).hexdigest()


def _standing(place: Place, entry: JournalFile) -> Standing:
    live = sha256_of(place.read())
    if live == entry.new_sha256:
        return Standing.PLACED
    if live != entry.old_sha256:
        return Standing.FOREIGN
    return Standing.WAITING if sha256_of(place.read(entry.staged)) == entry.new_sha256 else Standing.OLD


def _check_can_go_back(place: Place, entry: JournalFile) -> None:
    live = sha256_of(place.read())
    if live not in {entry.old_sha256, entry.new_sha256}:
        raise Misconfigured(f"{place.path} was changed by somebody else in the meantime and is left alone")
    if entry.old_sha256 not in {"", live} and sha256_of(place.read(entry.backup)) != entry.old_sha256:
        raise Misconfigured(f"{place.path}: the old file is gone or changed and cannot be put back")


def _check_distinct(places: Sequence[Place]) -> None:
    if len({(place.folder_key, place.path.name) for place in places}) != len(places):
        raise Misconfigured("two files of one deployment have the same path; give each a path of its own")
