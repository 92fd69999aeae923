"""NGINX: put a pair into its files as one, reload, and prove by handshakes that the new certificate is served.

Before anything is touched the pair is checked (own key, valid now) and NGINX itself tries the staged files; afterwards
the old pair comes back if the new one is not seen. Must never call a deployment done that was not seen, nor skip one
because the bytes are equal while the server still serves others.
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

from certctl.connectors.base.config import parse_mode
from certctl.connectors.base.target import Material, Plan, PlannedFile, Receipt
from certctl.connectors.dial import DialPolicy
from certctl.connectors.host.allow import AllowFile
from certctl.connectors.host.group import Group, NewFile, sha256_of
from certctl.connectors.host.journal import Journals
from certctl.connectors.host.pair import (
    Pair,
    check_files_match,
    fingerprint_of,
    first_dns_name,
    leaf_of,
    read_pair,
)
from certctl.connectors.host.paths import Place
from certctl.connectors.host.swap import Swap, recover, swap
from certctl.connectors.targets.nginx.config import NginxConfig
from certctl.connectors.targets.nginx.server import TRIAL_PREFIX, NginxServer
from certctl.core.errors import Malformed, Misconfigured, Rejected, Temporary

__all__ = ["NginxConfig", "NginxTarget"]


class NginxTarget:
    """One NGINX server on this host: Target, Recovers and Probes."""

    def __init__(self, config: NginxConfig, allow: AllowFile, state_dir: Path, dial_policy: DialPolicy) -> None:
        self._config = config
        self._allow = allow
        self._policy = dial_policy
        self._journals = Journals(state_dir / "swap")

    @property
    def paths(self) -> tuple[str, ...]:
        """The files of this target: key, certificate, and the chain if it has a file of its own."""
        config = self._config
        return (config.key_path, config.cert_path, *((config.chain_path,) if config.chain_path else ()))

    async def plan(self, material: Material, plan_id: str) -> Plan:
        """What would be done, after every check that needs no change. Touches nothing; raises ConnectorError."""
        pair = read_pair(material)
        self._journals.path(plan_id)
        actions = self._actions()
        files = tuple(self._planned(role, file) for role, file in self._new_files(pair))
        sni = self._config.sni or first_dns_name(leaf_of(pair.leaf_pem))
        return Plan(
            plan_id=plan_id,
            files=files,
            actions=actions,
            endpoint=self._config.endpoint,
            sni=sni,
            fingerprint_sha256=pair.fingerprint_sha256,
            summary=(
                *(f"{'write' if file.changes else 'leave'} {file.role} {file.path}" for file in files),
                f"run {', '.join(actions)}",
                f"see {pair.fingerprint_sha256[:16]} served at {self._config.endpoint} for {sni or 'no name'}",
            ),
        )

    async def apply(self, plan: Plan, material: Material) -> Receipt:
        """Do the plan; skip it only when the very bytes are there and seen to be served. Raises ConnectorError."""
        began = time.monotonic()
        pair = read_pair(material)
        files = self._new_files(pair)
        _check_same(plan, files)
        await self.recover()
        server = self._server({"endpoint": plan.endpoint, "sni": plan.sni})
        served_before = await self._served_or_nothing(server)
        unchanged = not any(self._planned(role, file).changes for role, file in files)
        skip = unchanged and served_before == pair.fingerprint_sha256
        served_after = served_before
        if not skip:
            served_after = await swap(
                Swap(
                    plan_id=plan.plan_id,
                    files=tuple(file for _, file in files),
                    expect_new=pair.fingerprint_sha256,
                    expect_old=self._expect_old(served_before),
                    where={"endpoint": plan.endpoint, "sni": plan.sni},
                ),
                server,
                self._journals,
                self._allow,
            )
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
        )

    async def recover(self) -> tuple[str, ...]:
        """Settle what a crash left half done; a sentence for each journal."""
        sentences = await recover(self._journals, self._allow, self)
        await asyncio.to_thread(self._remove_old_trials)
        return sentences

    async def served(self) -> str:
        """Fingerprint of what the endpoint serves now, asked for `sni` or the live certificate's first DNS name."""
        return await self._server({}).served()

    def server(self, where: Mapping[str, str]) -> NginxServer:
        """The server that a journal speaks of."""
        return self._server(where)

    def check_live(self, live: Mapping[str, bytes | None]) -> tuple[str, ...]:
        """Raise unless key and certificate on disk belong together; returns the certificate's fingerprint."""
        try:
            return (check_files_match(live, self._config.cert_path, self._config.key_path),)
        except Malformed as error:
            raise Misconfigured(error.message) from error

    def _server(self, where: Mapping[str, str]) -> NginxServer:
        endpoint = where.get("endpoint") or self._config.endpoint
        sni = where.get("sni") or self._config.sni or first_dns_name(leaf_of(self._live_certificate()))
        return NginxServer(self._config, self._allow, self._policy, self._journals.folder, endpoint, sni)

    def _live_certificate(self) -> bytes | None:
        with Place.open(self._config.cert_path, self._allow) as place:
            return place.read()

    def _expect_old(self, served_before: str) -> tuple[str, ...]:
        """What is to be seen after a roll back: the old file's certificate, then what was in the server's memory."""
        if not served_before:
            return ()
        on_disk = fingerprint_of(self._live_certificate())
        return (on_disk, served_before) if on_disk not in {"", served_before} else (served_before,)

    async def _served_or_nothing(self, server: NginxServer) -> str:
        try:
            return await server.served()
        except (Temporary, Rejected):
            return ""  # not running, or no TLS there yet: nothing is served

    def _actions(self) -> tuple[str, ...]:
        """The actions in their order; raises for one that the host does not allow, but for the optional test."""
        config = self._config
        test = (config.test_action,) if self._allow.allows_action(config.test_action) else ()
        actions = (config.validate_action, *test, config.reload_action)
        for action in actions:
            self._allow.action(action)
        return actions

    def _new_files(self, pair: Pair) -> tuple[tuple[str, NewFile], ...]:
        config = self._config
        certificate = pair.leaf_pem if config.chain_path else pair.leaf_pem + pair.chain_pem
        files = [("key", _file("key", config, config.key_path, pair.key_pem))]
        files.append(("cert", _file("cert", config, config.cert_path, certificate)))
        if config.chain_path:
            files.append(("chain", _file("chain", config, config.chain_path, pair.chain_pem)))
        return tuple(files)

    def _planned(self, role: str, file: NewFile) -> PlannedFile:
        with Group.open([file.path], self._allow) as group:
            place = group.places[0]
            facts = place.facts()
            changes = facts is None or facts.mode != file.mode or sha256_of(place.read()) != sha256_of(file.data)
            changes = changes or (facts is not None and not _owned(file, facts.uid, facts.gid))
        return PlannedFile(
            role=role,
            path=str(file.path),
            mode=file.mode,
            owner=getattr(self._config, f"{role}_file_owner"),
            group=getattr(self._config, f"{role}_file_group"),
            sha256=sha256_of(file.data),
            changes=changes,
        )

    def _remove_old_trials(self) -> None:
        for folder in self._journals.folder.glob(f"{TRIAL_PREFIX}*"):
            # One in use is younger: no action may run longer than its allowed ten minutes.
            with contextlib.suppress(FileNotFoundError):
                if time.time() - folder.stat().st_mtime > 3600:
                    shutil.rmtree(folder, ignore_errors=True)


def _owned(file: NewFile, uid: int, gid: int) -> bool:
    return file.uid in {-1, uid} and file.gid in {-1, gid}


def _check_same(plan: Plan, files: tuple[tuple[str, NewFile], ...]) -> None:
    planned = [(file.role, file.path, file.mode, file.sha256) for file in plan.files]
    if planned != [(role, str(file.path), file.mode, sha256_of(file.data)) for role, file in files]:
        raise Misconfigured("the plan was made for other files than these; plan again")


def _file(role: str, config: NginxConfig, path: str, data: bytes) -> NewFile:
    mode = parse_mode(getattr(config, f"{role}_file_mode"))
    uid = _id_of("user", getattr(config, f"{role}_file_owner"))
    gid = _id_of("group", getattr(config, f"{role}_file_group"))
    return NewFile(path=Path(path), data=data, mode=mode, uid=uid, gid=gid)


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
