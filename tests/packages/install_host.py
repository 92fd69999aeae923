"""A host in a folder: the installer's tree, run with a stand-in for systemctl, and with commands that may kill the installer."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from packages.onefile import ROOT

_MANAGER = Path(__file__).with_name("service_manager.py")
# every command that changes a file goes through this, counted; the installer is its parent
_COUNTED = """#!/bin/sh
number=$(($(cat "$COUNTER" 2>/dev/null || echo 0) + 1))
echo $number > "$COUNTER"
if [ "$number" = "$KILL_AT" ]; then kill -9 $PPID; exit 1; fi
exec {real} "$@"
"""


class Host:
    """One tree with at most one agent in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._beside = root.with_name(f"{root.name}-beside")
        self._beside.mkdir()
        self._commands = self._beside / "bin"
        self._commands.mkdir()
        manager = self._beside / "systemctl"
        manager.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{_MANAGER}" "$@"\n')
        manager.chmod(0o755)
        for name in ("mkdir", "cp", "mv", "ln", "rm", "chmod"):
            command = self._commands / name
            command.write_text(_COUNTED.format(real=shutil.which(name)))
            command.chmod(0o755)
        self._manager = manager
        self._saves = 0

    def run(self, *arguments: str, token: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        counter = self._beside / "counter"
        counter.unlink(missing_ok=True)
        path = f"{self._commands}:/usr/bin:/bin" if "KILL_AT" in environ else "/usr/bin:/bin"
        given = {"PATH": path, "SYSTEMCTL": str(self._manager), "SERVICE_ROOT": str(self.root), "COUNTER": str(counter)}
        given |= {"SETTLE_SECONDS": "0", "START_SECONDS": "60"} | environ
        if token:
            given["CERTCTL_AGENT_ENROLMENT_TOKEN"] = token
        command = [str(ROOT / "deploy" / "install-agent.sh"), *arguments, "--root", str(self.root)]
        return subprocess.run(
            command,
            env=given,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def install(self, file: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run("install", "--file", str(file), "--sha256", _digest(file), *arguments, **more)

    def upgrade(self, file: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run("upgrade", "--file", str(file), "--sha256", _digest(file), *arguments, **more)

    @property
    def program(self) -> Path:
        return self.root / "usr/local/bin/certctl-agent"

    def current_digest(self) -> str:
        """SHA-256 of the agent that would be started, empty when there is none."""
        return _digest(self.program) if self.program.exists() else ""

    def put(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o644)

    def pid(self) -> int:
        return int((self.root / "run/pid").read_text())

    def alive(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return Path(f"/proc/{self.pid()}/stat").read_text().split(")")[1].split()[0] != "Z"
        return False

    def log(self) -> str:
        path = self.root / "run/log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def calls(self) -> list[str]:
        return (self.root / "run/calls").read_text().splitlines()

    def identity(self) -> dict[str, Any]:
        return json.loads((self.root / "var/lib/certctl/agent/agent.json").read_text())

    def status(self) -> dict[str, Any]:
        """What the installed agent says of itself."""
        environ = {"CERTCTL_AGENT_STATE_DIR": str(self.root / "var/lib/certctl/agent")}
        command = [str(self.program), "status", "--json"]
        return json.loads(subprocess.run(command, env=environ, capture_output=True, timeout=60, check=True).stdout)

    def tree(self) -> dict[str, str]:
        """Every file and link, but for what runs write by themselves."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if not name.startswith("run/") and not name.endswith("/lock"):
                found[name] = str(path.readlink()) if path.is_symlink() else _digest(path) if path.is_file() else "/"
        return found

    def save(self) -> Path | None:
        """A copy of the tree to go back to; None for an empty place."""
        if not self.root.exists():
            return None
        self.stop()
        self._saves += 1
        return Path(shutil.copytree(self.root, self._beside / f"save-{self._saves}", symlinks=True))

    def restore(self, saved: Path | None) -> None:
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)
        if saved is not None:
            shutil.copytree(saved, self.root, symlinks=True)

    def stop(self) -> None:
        if self.alive():
            os.kill(self.pid(), signal.SIGKILL)
            environ = {"SERVICE_ROOT": str(self.root), "PATH": "/usr/bin:/bin"}
            subprocess.run([self._manager, "disable"], env=environ, timeout=60, check=False)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
