"""Files beneath the folders that the host allows, reached by descriptors: no link is followed, no path is walked twice.

A `Place` is a file's name within an opened folder; whatever happens to the path above it afterwards, reads, renames and
removals stay in that folder. Must never follow a symbolic link beneath an allowed folder, nor touch anything that is
not a regular file. Blocking: call it in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Self

from msgspec import Struct

from certctl.connectors.host.allow import AllowFile, check_absolute
from certctl.core.errors import ConnectorError, Misconfigured, Temporary

MOST_FILE_BYTES = 1024 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMPORARY = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EBUSY})


class FileFacts(Struct, frozen=True):
    """Mode bits and owner of a regular file, and which file it is."""

    mode: int
    uid: int
    gid: int
    device: int
    inode: int


class Place:
    """A file name in an opened folder beneath an allowed one. Close it, or use it in `with`."""

    def __init__(self, path: Path, folder_fd: int) -> None:
        self.path = path
        self._folder_fd = folder_fd
        facts = os.fstat(folder_fd)
        self.folder_key = (facts.st_dev, facts.st_ino)

    @classmethod
    def open(cls, path: str | Path, allow: AllowFile) -> Self:
        """Open the folder of `path`. Raises Misconfigured when it is not allowed, missing, or reached over a link."""
        wanted = check_absolute(str(path))
        root = allow.folder_of(wanted)
        folder_fd = -1
        try:
            folder_fd = os.open(root, _FOLDER)
            for part in wanted.parent.relative_to(root).parts:
                deeper = os.open(part, _FOLDER, dir_fd=folder_fd)
                os.close(folder_fd)
                folder_fd = deeper
            return cls(wanted, folder_fd)
        except OSError as error:
            if folder_fd >= 0:
                os.close(folder_fd)
            raise file_error(error, f"the folder {wanted.parent}") from error

    @property
    def folder_fd(self) -> int:
        """The folder's descriptor, for flock(2)."""
        return self._folder_fd

    def facts(self, name: str = "") -> FileFacts | None:
        """Facts of the file (or of `name` beside it), None when absent. Raises Misconfigured if it is anything else."""
        try:
            found = os.stat(name or self.path.name, dir_fd=self._folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise file_error(error, str(self._beside(name))) from error
        if stat.S_ISLNK(found.st_mode):
            raise Misconfigured(
                f"{self._beside(name)} is a symbolic link; certctl follows none: configure the file it points to"
            )
        if not stat.S_ISREG(found.st_mode):
            raise Misconfigured(f"{self._beside(name)} is no regular file; certctl replaces only regular files")
        return FileFacts(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_dev, found.st_ino)

    def read(self, name: str = "") -> bytes | None:
        """The bytes of the file (or of `name` beside it), None when there is none. Raises Misconfigured, Temporary."""
        if self.facts(name) is None:
            return None
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name or self.path.name, flags, dir_fd=self._folder_fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise file_error(error, str(self._beside(name))) from error
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(MOST_FILE_BYTES + 1)
        if len(data) > MOST_FILE_BYTES:
            raise Misconfigured(f"{self._beside(name)} is larger than {MOST_FILE_BYTES} bytes: that is no certificate")
        return data

    def create(self, name: str, data: bytes, mode: int, uid: int, gid: int) -> None:
        """Make `name` (which must not exist) with its data, owner (-1: leave) and mode, flushed to disk."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, 0o600, dir_fd=self._folder_fd)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                self._give(descriptor, name, uid, gid)
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
        except OSError as error:
            raise file_error(error, str(self._beside(name))) from error

    def _give(self, descriptor: int, name: str, uid: int, gid: int) -> None:
        facts = os.fstat(descriptor)
        if uid in {-1, facts.st_uid} and gid in {-1, facts.st_gid}:
            return
        try:
            os.fchown(descriptor, uid, gid)
        except PermissionError as error:
            raise Misconfigured(
                f"{self._beside(name)} cannot be given to user {uid}, group {gid} by user {os.geteuid()}; "
                "run the agent as root, or set an owner and group that it may give"
            ) from error

    def keep_as(self, backup: str) -> None:
        """Keep the present file under a second name: a hard link, or a flushed copy where links are not possible."""
        name = self.path.name
        facts = self.facts()
        if facts is None:
            raise Misconfigured(f"{self.path} vanished while it was being replaced")
        try:
            os.link(name, backup, src_dir_fd=self._folder_fd, dst_dir_fd=self._folder_fd, follow_symlinks=False)
        except OSError as error:
            # Some file systems have no links; the kernel refuses links to files of other users (protected_hardlinks).
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}:
                raise file_error(error, str(self._beside(backup))) from error
            self.create(backup, self.read() or b"", facts.mode, facts.uid, facts.gid)
            return
        self._flush(backup)

    def _flush(self, name: str) -> None:
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder_fd)
        except PermissionError:
            return  # a file we may replace but not read; whoever wrote it saw to its safety
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise file_error(error, str(self._beside(name))) from error
        finally:
            os.close(descriptor)

    def rename(self, source: str) -> None:
        """Put `source`, which lies beside the file, in the file's place."""
        try:
            os.rename(source, self.path.name, src_dir_fd=self._folder_fd, dst_dir_fd=self._folder_fd)
        except OSError as error:
            raise file_error(error, str(self.path)) from error

    def remove(self, name: str = "") -> None:
        """Remove the file (or `name` beside it); one that is gone already is no fault."""
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name or self.path.name, dir_fd=self._folder_fd)
        except OSError as error:
            raise file_error(error, str(self._beside(name))) from error

    def names(self) -> tuple[str, ...]:
        """Every name in the folder."""
        return tuple(os.listdir(self._folder_fd))  # noqa: PTH208 - pathlib cannot list a descriptor

    def sync(self) -> None:
        """Flush the folder: names made, moved or removed in it survive a power cut."""
        try:
            os.fsync(self._folder_fd)
        except OSError as error:
            raise file_error(error, str(self.path.parent)) from error

    def beside(self, name: str) -> Path:
        """The path of `name` in the same folder, for telling a command."""
        return self._beside(name)

    def _beside(self, name: str) -> Path:
        return self.path.with_name(name) if name else self.path

    def close(self) -> None:
        """Close the folder."""
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
            self._folder_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def file_error(error: OSError, what: str) -> ConnectorError:
    """The ConnectorError that tells what an operating system error on `what` means."""
    reason = error.strerror or str(error)
    if error.errno in _TEMPORARY:
        return Temporary(f"{what}: {reason}")
    if error.errno in {errno.ELOOP, errno.ENOTDIR}:
        return Misconfigured(
            f"{what} is or lies behind a symbolic link, or is no folder; certctl follows no links there"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return Misconfigured(f"{what}: {reason}; user {os.geteuid()} must be able to write it")
    if error.errno == errno.EROFS:
        return Misconfigured(f"{what} is on a read-only file system")
    return Misconfigured(f"{what}: {reason}")
