"""The target that every server with certificate files is: put the files in place as one, reload, prove by looking.

Before anything is touched the pair is checked (own key, valid now) and the server's checker tries the staged files;
afterwards the old pair comes back if the new one is not seen. Must never call a deployment done that was not seen, nor
skip one because the bytes are equal while the server still serves others.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import pwd
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Generic

from certctl.connectors.base.config import parse_mode
from certctl.connectors.base.target import Material, Plan, PlannedFile, Receipt
from certctl.connectors.dial import DialPolicy
from certctl.connectors.host.allow import AllowFile
from certctl.connectors.host.fileconfig import CHAIN, KEY, LEAF, FileSpec
from certctl.connectors.host.fileserver import TRIAL_PREFIX, ConfigT, FileServer
from certctl.connectors.host.group import Group, NewFile, sha256_of
from certctl.connectors.host.journal import Journals
from certctl.connectors.host.pair import Pair, check_files_match, first_dns_name, leaf_of, read_pair
from certctl.connectors.host.swap import Swap, recover, swap
from certctl.core.errors import Malformed, Misconfigured, Rejected, Temporary


class FileTarget(Generic[ConfigT]):
    """One server on this host: Target, Recovers and Probes. A subclass names the class of its server."""

    server_type: ClassVar[type[FileServer]]  # type: ignore[type-arg]  # a ClassVar cannot hold the type variable

    def __init__(self, config: ConfigT, allow: AllowFile, state_dir: Path, dial_policy: DialPolicy) -> None:
        self._config = config
        self._allow = allow
        self._policy = dial_policy
        self._journals = Journals(state_dir / "swap")

    @property
    def paths(self) -> tuple[str, ...]:
        """The files of this target: key, certificate, and the chain if it has a file of its own."""
        return tuple(file.path for file in self._config.layout)

    async def plan(self, material: Material, plan_id: str) -> Plan:
        """What would be done, after every check that needs no change. Touches nothing; raises ConnectorError."""
        pair = read_pair(material)
        self._journals.path(plan_id)
        actions = self._config.actions(self._allow)
        files = tuple(self._planned(spec, file) for spec, file in self._new_files(pair))
        sni = self._config.sni or first_dns_name(leaf_of(pair.leaf_pem))
        endpoint = self._config.endpoint
        short = pair.fingerprint_sha256[:16]
        after = f" after STARTTLS ({self._config.starttls})" if self._config.starttls else ""
        look = (
            f"see {short} served at {endpoint}{after} for {sni or 'no name'}"
            if endpoint
            else f"read {short} back from disk (without an endpoint nobody looks at what is served)"
        )
        return Plan(
            plan_id=plan_id,
            files=files,
            actions=actions,
            endpoint=endpoint,
            sni=sni,
            fingerprint_sha256=pair.fingerprint_sha256,
            summary=(
                *(f"{'write' if file.changes else 'leave'} {file.role} {file.path}" for file in files),
                f"run {', '.join(actions)}" if actions else "run nothing",
                look,
            ),
        )

    async def apply(self, plan: Plan, material: Material) -> Receipt:
        """Do the plan; skip it only when the very bytes are there and seen to be served. Raises ConnectorError."""
        began = time.monotonic()
        pair = read_pair(material)
        files = self._new_files(pair)
        _check_same(plan, files)
        await self.recover()
        where = {"endpoint": plan.endpoint, "sni": plan.sni, "starttls": self._config.starttls}
        server = self.server(where)
        served_before = await _served_or_nothing(server)
        unchanged = not any(self._planned(spec, file).changes for spec, file in files)
        skip = unchanged and served_before == pair.fingerprint_sha256
        served_after = served_before
        if not skip:
            order = Swap(
                plan_id=plan.plan_id,
                files=tuple(file for _, file in files),
                expect_new=pair.fingerprint_sha256,
                expect_old=_expect_old(server, served_before),
                where=where,
            )
            served_after = await swap(order, server, self._journals, self._allow)
        return Receipt(
            plan_id=plan.plan_id,
            fingerprint_sha256=pair.fingerprint_sha256,
            served_before=served_before,
            served_after=served_after,
            skipped_as_identical=skip,
            files_written=() if skip else tuple(str(file.path) for _, file in files),
            actions_run=tuple(server.actions_run),
            applied_at=datetime.now(UTC),
            duration_ms=round((time.monotonic() - began) * 1000),
            seen_by=server.seen_by,
        )

    async def recover(self) -> tuple[str, ...]:
        """Settle what a crash left half done; a sentence for each journal."""
        sentences = await recover(self._journals, self._allow, self)
        await asyncio.to_thread(self._remove_old_trials)
        return sentences

    async def served(self) -> str:
        """Fingerprint of what the endpoint serves now, asked for `sni` or the live certificate's first DNS name.

        Without an endpoint (plain files) it is the fingerprint of the certificate on disk.
        """
        return await self.server({}).served()

    def server(self, where: Mapping[str, str]) -> FileServer[ConfigT]:
        """The server that a journal speaks of."""
        return self.server_type(self._config, self._allow, self._policy, self._journals.folder, where)

    def check_live(self, live: Mapping[str, bytes | None]) -> tuple[str, ...]:
        """Raise unless key and certificate on disk belong together; returns the certificate's fingerprint."""
        try:
            return (check_files_match(live, self._config.path_of(LEAF), self._config.path_of(KEY)),)
        except Malformed as error:
            raise Misconfigured(error.message) from error

    def _new_files(self, pair: Pair) -> tuple[tuple[FileSpec, NewFile], ...]:
        parts = {LEAF: pair.leaf_pem, CHAIN: pair.chain_pem, KEY: pair.key_pem}
        return tuple((spec, self._file(spec, [parts[part] for part in spec.parts])) for spec in self._config.layout)

    def _file(self, spec: FileSpec, parts: list[bytes]) -> NewFile:
        # A block must begin on a line of its own.
        data = b"".join(part if part.endswith(b"\n") or len(parts) == 1 else part + b"\n" for part in parts if part)
        return NewFile(
            path=Path(spec.path),
            data=data,
            mode=parse_mode(getattr(self._config, f"{spec.role}_file_mode")),
            uid=_id_of("user", getattr(self._config, f"{spec.role}_file_owner")),
            gid=_id_of("group", getattr(self._config, f"{spec.role}_file_group")),
        )

    def _planned(self, spec: FileSpec, file: NewFile) -> PlannedFile:
        with Group.open([file.path], self._allow) as group:
            place = group.places[0]
            facts = place.facts()
            changes = facts is None or facts.mode != file.mode or sha256_of(place.read()) != sha256_of(file.data)
            changes = changes or (facts is not None and not _owned(file, facts.uid, facts.gid))
        return PlannedFile(
            role=spec.role,
            path=str(file.path),
            mode=file.mode,
            owner=getattr(self._config, f"{spec.role}_file_owner"),
            group=getattr(self._config, f"{spec.role}_file_group"),
            sha256=sha256_of(file.data),
            changes=changes,
        )

    def _remove_old_trials(self) -> None:
        for folder in self._journals.folder.glob(f"{TRIAL_PREFIX}*"):
            # One in use is younger: no action may run longer than its allowed ten minutes.
            with contextlib.suppress(FileNotFoundError):
                if time.time() - folder.stat().st_mtime > 3600:
                    shutil.rmtree(folder, ignore_errors=True)


async def _served_or_nothing(server: FileServer[ConfigT]) -> str:
    try:
        return await server.served()
    except (Temporary, Rejected):
        return ""  # not running, or no TLS there yet: nothing is served


def _expect_old(server: FileServer[ConfigT], served_before: str) -> tuple[str, ...]:
    """What is to be seen after a roll back: the old file's certificate, then what was in the server's memory."""
    if not served_before:
        return ()
    on_disk = server.fingerprint_on_disk()
    return (on_disk, served_before) if on_disk not in {"", served_before} else (served_before,)


def _owned(file: NewFile, uid: int, gid: int) -> bool:
    return file.uid in {-1, uid} and file.gid in {-1, gid}


def _check_same(plan: Plan, files: tuple[tuple[FileSpec, NewFile], ...]) -> None:
    planned = [(file.role, file.path, file.mode, file.sha256) for file in plan.files]
    if planned != [(spec.role, str(file.path), file.mode, sha256_of(file.data)) for spec, file in files]:
        raise Misconfigured("the plan was made for other files than these; plan again")


def _id_of(kind: str, name: str) -> int:
    """The number of a user or group; -1 (leave as it is) for an empty name. Raises Misconfigured."""
    if not name:
        return -1
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise Misconfigured(f"this host has no {kind} {name!r}") from error
