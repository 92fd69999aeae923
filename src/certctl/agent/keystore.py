"""Private keys on this host: `<key_dir>/<certificate_id>/<job_id>.key`, 0600 in folders of 0700, one key a job.

A key is written once and never overwritten, so that the pair in use survives whatever becomes of the next one. The keys
of the newest deployed versions are kept for a rollback; must never remove the key in use, nor let a key leave the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from msgspec import Struct

from certctl.agent.durable import (
    private_folder,
    read_private,
    remove,
    remove_leftovers,
    set_aside,
    sync_folder,
    write_atomic,
    write_once,
)
from certctl.core.errors import Malformed, Misconfigured
from certctl.core.ids import check_id
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

KEPT_VERSIONS = 3
STAGED_KEY_LIFETIME = timedelta(days=30)
INDEX_FILE = "deployed.json"
_SUFFIX = ".key"

KeyName = tuple[str, str]
"""Certificate id and job id: the name of one key."""


class DeployedKey(Struct, frozen=True, kw_only=True):
    """One line of the index: this key's certificate was seen to be served by this target."""

    job_id: str
    target_id: str
    version_id: str
    fingerprint_sha256: str
    at: datetime


class KeyStore:
    """The keys of this host. Callers hold a lock for the certificate they work on."""

    def __init__(self, key_dir: Path) -> None:
        self._key_dir = private_folder(key_dir)
        for folder in self._folders():
            private_folder(folder)
            remove_leftovers(folder)

    def stage(self, certificate_id: str, job_id: str, make: Callable[[], bytes]) -> bytes:
        """The PEM staged for this job: found again if it is there, else made by `make` and flushed to disk."""
        path = self.path_of(certificate_id, job_id)
        existing = self._read(path)
        if existing is not None:
            return existing
        pem = make()
        folder_is_new = not path.parent.exists()
        private_folder(path.parent)
        if folder_is_new:
            sync_folder(self._key_dir)
        if write_once(path, pem, "agent.key"):
            return pem
        raced = self._read(path)
        return raced if raced is not None else pem

    def find(self, certificate_id: str, job_id: str) -> bytes | None:
        """The PEM staged for this job, or None."""
        return self._read(self.path_of(certificate_id, job_id))

    def read(self, certificate_id: str, job_id: str) -> bytes:
        """The PEM staged for this job. Raises Misconfigured when this host has no such key."""
        pem = self.find(certificate_id, job_id)
        if pem is None:
            raise Misconfigured(
                f"this host has no key for certificate {certificate_id}, job {job_id}: it was made elsewhere or "
                "removed; renew the certificate so that a new key is made here"
            )
        return pem

    def path_of(self, certificate_id: str, job_id: str) -> Path:
        """Where the key of this job lies. Raises Malformed for ids that are no ids."""
        return self._folder(certificate_id) / f"{check_id(job_id, 'job_id')}{_SUFFIX}"

    def note_deployed(self, certificate_id: str, entry: DeployedKey) -> None:
        """Write down that this key is now in use on a target: newest first, flushed to disk."""
        folder = self._folder(certificate_id)
        earlier = [
            line
            for line in self.deployed(certificate_id)
            if (line.job_id, line.target_id) != (entry.job_id, entry.target_id)
        ]
        data = msgspec.json.format(msgspec.json.encode([entry, *earlier]), indent=1)
        write_atomic(folder / INDEX_FILE, data, "agent.deployed")

    def deployed(self, certificate_id: str) -> list[DeployedKey]:
        """The index of a certificate, newest first. One that cannot be read is set aside and reads as empty."""
        path = self._folder(certificate_id) / INDEX_FILE
        try:
            return msgspec.json.decode(read_private(path), type=list[DeployedKey])
        except FileNotFoundError:
            return []
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            set_aside(path, str(error))
            return []

    def prune(self, now: datetime, in_hand: frozenset[KeyName] = frozenset()) -> tuple[KeyName, ...]:
        """Remove keys of old deployed versions and staged keys that came to nothing; returns what was removed."""
        removed: list[KeyName] = []
        for folder in self._folders():
            removed.extend(self._prune_one(folder, now, in_hand))
        return tuple(removed)

    def _prune_one(self, folder: Path, now: datetime, in_hand: frozenset[KeyName]) -> Iterator[KeyName]:
        index = self.deployed(folder.name)
        if any(folder.glob(f"{INDEX_FILE}.corrupt-*")):
            # Which key is in use is not known any more: keep them all until a person has looked.
            return
        kept = _kept(index)
        known = {line.job_id for line in index}
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            job_id = path.name.removesuffix(_SUFFIX)
            if job_id in kept or (folder.name, job_id) in in_hand:
                continue
            age = now - datetime.fromtimestamp(path.lstat().st_mtime, UTC)
            if job_id in known or age > STAGED_KEY_LIFETIME:
                remove(path, "agent.key")
                log.info("agent.key_pruned", certificate_id=folder.name, job_id=job_id, was_deployed=job_id in known)
                yield folder.name, job_id

    def _folder(self, certificate_id: str) -> Path:
        return self._key_dir / check_id(certificate_id, "certificate_id")

    def _folders(self) -> list[Path]:
        return sorted(entry for entry in self._key_dir.iterdir() if _is_ours(entry))

    def _read(self, path: Path) -> bytes | None:
        if path.parent.is_symlink():
            raise Misconfigured(f"{path.parent} is a symbolic link; replace it by a real folder")
        try:
            return read_private(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Misconfigured(f"the key file {path} cannot be read: {error.strerror}") from error


def _is_ours(entry: Path) -> bool:
    """True for a real folder that is named like a certificate; anything else in the key folder is left alone."""
    try:
        check_id(entry.name)
    except Malformed:
        return False
    return entry.is_dir() and not entry.is_symlink()


def _kept(index: list[DeployedKey]) -> set[str]:
    """Job ids whose keys stay: the newest versions, and whatever any target was last seen to use."""
    kept = list(dict.fromkeys(line.job_id for line in index))[:KEPT_VERSIONS]
    last_of_target: dict[str, str] = {}
    for line in index:
        last_of_target.setdefault(line.target_id, line.job_id)
    return {*kept, *last_of_target.values()}
