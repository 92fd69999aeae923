"""The journal of one group swap: what was meant, how far it came, and by hashes which bytes are which.

One file a plan, replaced in whole (temporary name, fsync, rename, fsync of the folder) and headed by its own SHA-256,
so that a torn write is seen and never believed. It names files and hashes; it must never hold a key or a certificate.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from certctl.connectors.host.paths import file_error
from certctl.core.errors import Malformed, Misconfigured
from certctl.core.ids import check_id
from certctl.telemetry.points import reach

State = Literal["staged", "swapping", "swapped", "rolling_back", "confirmed"]
_SUFFIX = ".swap"


class JournalFile(Struct, frozen=True):
    """One file of the group. An empty `old_sha256` means there was none before."""

    path: str
    staged: str
    backup: str
    old_sha256: str
    new_sha256: str


class Journal(Struct, frozen=True, kw_only=True):
    """One swap. `expect_new` and `expect_old` are fingerprints to be seen served, see `swap.Swap`.

    staged: nothing is in place yet. swapping: some may be. swapped: all are. rolling_back: the old ones are on their
    way back. confirmed: the new ones are seen to be served, only leftovers remain. `where` is the target's own.
    """

    plan_id: str
    state: State
    files: tuple[JournalFile, ...]
    expect_new: str
    expect_old: tuple[str, ...] = ()
    where: dict[str, str] = {}


class JournalIsCorrupt(Misconfigured):
    """A journal that cannot be believed; a person, or the files themselves, must say what is true."""


class Journals:
    """The journals of one target, in a folder of their own (0700)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            facts = folder.lstat()
            if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
                raise Misconfigured(f"{folder} must be a folder of user {os.geteuid()}: swap journals are kept there")
            if stat.S_IMODE(facts.st_mode) & 0o077:
                folder.chmod(0o700)
        except OSError as error:
            raise file_error(error, f"the journal folder {folder}") from error

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._folder

    def open(self) -> tuple[str, ...]:
        """The plan ids that have a journal, readable or not; half-written ones that were never named are removed."""
        names = sorted(entry.name for entry in self._folder.iterdir())
        for name in names:
            # One of this process may be in the making.
            if name.startswith(".tmp-") and not name.startswith(f".tmp-{os.getpid()}-"):
                with contextlib.suppress(FileNotFoundError):
                    (self._folder / name).unlink()
        return tuple(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX) and name[0] != ".")

    def read(self, plan_id: str) -> Journal | None:
        """The journal of a plan, None when there is none. Raises JournalIsCorrupt."""
        path = self.path(plan_id)
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise file_error(error, str(path)) from error
        head, _, body = text.partition(b"\n")
        if head.decode(errors="replace") != hashlib.sha256(body).hexdigest():
            raise JournalIsCorrupt(f"the swap journal {path} is damaged")
        try:
            journal = msgspec.json.decode(body, type=Journal)
        except msgspec.MsgspecError as error:
            raise JournalIsCorrupt(f"the swap journal {path} is of another version of certctl: {error}") from error
        if journal.plan_id != plan_id:
            raise JournalIsCorrupt(f"the swap journal {path} is named for another plan than {journal.plan_id}")
        return journal

    def write(self, journal: Journal) -> None:
        """Replace the journal in whole; it is on disk when this returns."""
        path = self.path(journal.plan_id)
        body = msgspec.json.encode(journal)
        temporary = self._folder / f".tmp-{os.getpid()}-{path.name}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
                file.flush()
                os.fsync(descriptor)
            reach(f"swap.journal.{journal.state}.written")
            temporary.replace(path)
            self._sync()
        except OSError as error:
            raise file_error(error, str(path)) from error
        reach(f"swap.journal.{journal.state}")

    def remove(self, plan_id: str) -> None:
        """The story of this plan is at its end. Raises Temporary and the like for a disk in trouble."""
        path = self.path(plan_id)
        try:
            path.unlink(missing_ok=True)
            self._sync()
        except OSError as error:
            raise file_error(error, str(path)) from error
        reach("swap.journal.removed")

    def path(self, plan_id: str) -> Path:
        """Where the journal of a plan is. Raises Misconfigured for an id that cannot name a file."""
        try:
            return self._folder / f"{check_id(plan_id, 'plan_id')}{_SUFFIX}"
        except Malformed as error:
            raise Misconfigured(error.message) from error

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
