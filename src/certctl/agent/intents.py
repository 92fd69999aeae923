"""Deployments begun on this host: one file each, on disk before a target is touched, gone when its result is kept.

After a crash they name, without asking the server, every target whose journal must be settled before any new work. The
file is 0600 because a target's configuration may hold secrets; it never holds a private key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from certctl.agent.durable import private_folder, read_private, remove, remove_leftovers, set_aside, write_atomic
from certctl.core.errors import Misconfigured
from certctl.core.ids import check_id


class DeployIntent(Struct, frozen=True, kw_only=True):
    """What is needed to settle one half-done deployment."""

    plan_id: str
    certificate_id: str
    key_job_id: str
    target_id: str
    target_type: str
    target_config: dict[str, Any]


class Intents:
    """The deployments begun and not yet settled."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = private_folder(state_dir / "deploys")
        remove_leftovers(self._folder)

    def begin(self, intent: DeployIntent) -> None:
        """Write the intent down; flushed to disk when this returns."""
        write_atomic(self._path(intent.plan_id), msgspec.json.encode(intent), "agent.intent")

    def settle(self, plan_id: str) -> None:
        """The deployment came to an end: its file goes."""
        remove(self._path(plan_id), "agent.intent")

    def open(self) -> tuple[DeployIntent, ...]:
        """Every intent on disk; one that cannot be read is set aside."""
        found: list[DeployIntent] = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(msgspec.json.decode(read_private(path), type=DeployIntent))
            except (ValueError, msgspec.MsgspecError, Misconfigured) as error:
                set_aside(path, str(error))
        return tuple(found)

    def _path(self, plan_id: str) -> Path:
        return self._folder / f"{check_id(plan_id, 'plan_id')}.json"
