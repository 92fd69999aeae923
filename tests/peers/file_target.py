"""A target of type FILE for tests of the agent: two files, a journal, and a process that may die between the writes."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from certctl.connectors.base.target import Material, Plan, Receipt
from certctl.core.errors import Rejected
from certctl.telemetry.points import reach


class FileConfig(msgspec.Struct, frozen=True):
    folder: str
    seconds: float = 0
    refuse: str = ""
    bug: bool = False


class FileTarget:
    """`pair.json` is what is served; it is written cert first, key after, so that a crash shows."""

    def __init__(self, config: FileConfig, allow: Any, state_dir: Path, dial_policy: Any) -> None:
        self._config = config
        self._folder = Path(config.folder)
        self._journal = state_dir / "journal.json"

    async def plan(self, material: Material, plan_id: str) -> Plan:
        return Plan(plan_id, (), (), "", "", material.fingerprint_sha256, ())

    async def apply(self, plan: Plan, material: Material) -> Receipt:
        if self._config.bug:
            raise RuntimeError("a bug in a target")
        if self._config.refuse:
            raise Rejected(self._config.refuse)
        assert material.key_path is not None
        log = self._folder / "applied.log"
        if (self._folder / "begun").exists():
            (self._folder / "overlap").touch()
        (self._folder / "begun").touch()
        self._journal.write_text(json.dumps({"cert": material.leaf_pem, "key": material.key_path.read_text()}))
        reach("file.journal")
        (self._folder / "cert.pem").write_text(material.leaf_pem)
        reach("file.half")
        await asyncio.sleep(self._config.seconds)
        (self._folder / "key.pem").write_bytes(material.key_path.read_bytes())
        self._journal.unlink()
        with log.open("a") as file:
            file.write(plan.plan_id + "\n")
        (self._folder / "begun").unlink()
        return Receipt(
            plan.plan_id, plan.fingerprint_sha256, "", plan.fingerprint_sha256, False, (), (), datetime.now(UTC), 1
        )

    async def recover(self) -> tuple[str, ...]:
        (self._folder / "begun").unlink(missing_ok=True)
        if not self._journal.exists():
            return ()
        pair = json.loads(self._journal.read_text())
        (self._folder / "cert.pem").write_text(pair["cert"])
        (self._folder / "key.pem").write_text(pair["key"])
        self._journal.unlink()
        (self._folder / "recovered").touch()
        return ("finished a half-done pair",)

    async def served(self) -> str:
        from certctl.pki.pem import read_certificates

        return hashlib.sha256(read_certificates((self._folder / "cert.pem").read_text())[0]).hexdigest()
