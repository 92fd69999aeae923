"""Files that survive a power cut: written beside their place, flushed, then named; the folder is flushed too.

Everything the agent keeps is private: folders 0700, files 0600, no symbolic link is followed. Each write passes named
points of death (`<point>.written`, `.named`, `.removed`), so that tests can kill the process exactly there.
A disk that is full, read-only or failing is Temporary: what was not written safely counts as not written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from certctl.core.errors import CertctlError, Conflict, Misconfigured, Temporary
from certctl.telemetry.logging import get_logger
from certctl.telemetry.points import reach

log = get_logger(__name__)

TEMPORARY_PREFIX = ".tmp-"
_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600
# What is mended beneath us while we go on: room, quota, a failing or read-only disk, too many open files.
_PASSING = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE}
)


def private_folder(path: Path) -> Path:
    """Make `path` (and its parents) if need be; a loosened mode is tightened to 0700.

    Raises Misconfigured, and Temporary for a disk in trouble.
    """
    try:
        path.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        facts = path.lstat()
    except OSError as error:
        if error.errno in _PASSING:
            raise _disk_trouble(path, error) from error
        raise Misconfigured(
            f"the folder {path} cannot be made: {error.strerror}; make it for the agent's user"
        ) from error
    if not stat.S_ISDIR(facts.st_mode):
        raise Misconfigured(
            f"{path} is a symbolic link or no folder; the agent keeps secrets there only in a real folder"
        )
    if facts.st_uid != os.geteuid():
        raise Misconfigured(f"the folder {path} belongs to user {facts.st_uid}; chown it to user {os.geteuid()}")
    if stat.S_IMODE(facts.st_mode) != _PRIVATE_FOLDER:
        path.chmod(_PRIVATE_FOLDER)
        log.warning("agent.folder_tightened", path=str(path), mode_was=f"{stat.S_IMODE(facts.st_mode):04o}")
    return path


def write_atomic(path: Path, data: bytes, point: str) -> None:
    """Put `data` under `path` (0600), in whole or not at all; what was there is replaced. Raises Temporary."""
    with _disk_told(path):
        temporary = _write_temporary(path, data, point)
        temporary.replace(path)
        sync_folder(path.parent)
    reach(f"{point}.named")


def write_once(path: Path, data: bytes, point: str) -> bool:
    """Put `data` under `path` (0600) unless something is there already; True when written. Never overwrites.

    Raises Temporary; the name may then be there without being safe, and is found by the next try.
    """
    with _disk_told(path):
        temporary = _write_temporary(path, data, point)
        try:
            # link(2) fails when the name is taken, which rename(2) would not.
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    reach(f"{point}.named")
    return True


def _write_temporary(path: Path, data: bytes, point: str) -> Path:
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    reach(f"{point}.written")
    return temporary


def read_private(path: Path, most_bytes: int = 1 << 20) -> bytes:
    """The bytes of a private file of ours; a loosened mode is tightened to 0600. Raises OSError, or Misconfigured."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
            raise Misconfigured(f"{path} is no plain file of user {os.geteuid()}; put it right or remove it")
        if stat.S_IMODE(facts.st_mode) & 0o077:
            os.fchmod(descriptor, _PRIVATE_FILE)
            log.warning("agent.file_tightened", path=str(path), mode_was=f"{stat.S_IMODE(facts.st_mode):04o}")
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise Misconfigured(f"{path} is larger than {most_bytes} bytes")
    return data


def remove(path: Path, point: str) -> None:
    """Remove a file for good; one that is gone already is no fault. Raises Temporary."""
    with _disk_told(path):
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
    reach(f"{point}.removed")


def set_aside(path: Path, why: str) -> Path:
    """Rename a file that cannot be read to `<name>.corrupt-<random>`, so that a person can look at it."""
    aside = path.with_name(f"{path.name}.corrupt-{secrets.token_hex(4)}")
    path.rename(aside)
    sync_folder(path.parent)
    log.error("agent.file_set_aside", path=str(path), kept_as=str(aside), error=why)
    return aside


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed process left in `folder`."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder, so that names made, moved or removed in it survive a power cut. Raises Temporary."""
    with _disk_told(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _disk_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _PASSING:
            raise
        raise _disk_trouble(path, error) from error


def _disk_trouble(path: Path, error: OSError) -> CertctlError:
    return Temporary(f"this host cannot keep {path}: {error.strerror}")


def _flock_patiently(descriptor: int) -> None:
    # `status` takes the lock for a moment to look whether it is held: that must not keep an agent from starting.
    for _ in range(4):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.05)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FolderLock:
    """One process a folder: an exclusive flock(2) on `<folder>/lock`, freed by the kernel when the process ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._descriptor = -1

    def __enter__(self) -> Self:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, _PRIVATE_FILE)
        try:
            _flock_patiently(self._descriptor)
        except BlockingIOError as error:
            owner = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            self.__exit__()
            raise Conflict(
                f"another agent (process {owner}) already works on {self._path.parent}; "
                "stop it, or give this one a state folder of its own (CERTCTL_AGENT_STATE_DIR)"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    @staticmethod
    def is_held(folder: Path) -> bool:
        """True when a process works on `folder` now."""
        try:
            descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False
