"""One host with an agent on it: its folders, its allow-file, and the agent as a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from peers.agent_server import AgentServer, wait_for

_LAUNCHER = Path(__file__).with_name("agent_process.py")


class AgentHost:
    """Starts, kills and looks at agents. Use as a context manager: whatever still runs is ended by its pid."""

    def __init__(self, folder: Path, server: AgentServer) -> None:
        self.folder = folder
        self.server = server
        self.state_dir = folder / "state"
        self.key_dir = folder / "keys"
        self.served = folder / "served"
        self.served.mkdir()
        self.allow_file = folder / "allow.toml"
        self.allow_file.write_text(f'[[folder]]\npath = "{self.served}"\n')
        self.allow_file.chmod(0o600)
        self.extra: dict[str, str] = {}
        self.running: list[subprocess.Popen[bytes]] = []
        self._logs = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait(10)

    @property
    def env(self) -> dict[str, str]:
        keep = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
        return {
            **keep,
            "CERTCTL_SERVER_URL": self.server.url,
            "CERTCTL_SERVER_CA_BUNDLE_PATH": str(self.server.ca_file),
            "CERTCTL_AGENT_STATE_DIR": str(self.state_dir),
            "CERTCTL_KEY_DIR": str(self.key_dir),
            "CERTCTL_AGENT_ALLOW_FILE": str(self.allow_file),
            "CERTCTL_AGENT_ENROLMENT_TOKEN": self.server.token,
            "CERTCTL_LOG_LEVEL": "debug",
            "FILE_TARGET": "1",
            **self.extra,
        }

    def start(self, *arguments: str, die_at: str = "") -> subprocess.Popen[bytes]:
        self._logs += 1
        with self._log_path(self._logs).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, str(_LAUNCHER), *(arguments or ("run",))],
                env={**self.env, "DIE_AT": die_at},
                stdout=log,
                stderr=log,
            )
        self.running.append(process)
        return process

    def run_until_killed(self, die_at: str) -> None:
        """Start the agent and wait until it has killed itself at that point."""
        process = self.start(die_at=die_at)
        assert process.wait(60) == -signal.SIGKILL, self.log()

    def stop(self, process: subprocess.Popen[bytes], seconds: float = 60) -> int:
        """SIGTERM once it is up (before that, there is nothing to stop politely); the exit code."""
        if process.poll() is None:
            self.said("agent.started")
        process.terminate()
        return process.wait(seconds)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(_LAUNCHER), *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def log(self) -> str:
        """What the last agent said."""
        return self._log_path(self._logs).read_text() if self._logs else ""

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def said(self, event: str, seconds: float = 60) -> dict[str, Any]:
        """Wait for an event in the log of the last agent."""
        wait_for(lambda: any(line["event"] == event for line in self.events()), seconds, f"{event} in\n{self.log()}")
        return next(line for line in self.events() if line["event"] == event)

    def outbox(self) -> list[Path]:
        return sorted((self.state_dir / "outbox").glob("*.json"))

    def key(self, certificate_id: str, job_id: str) -> bytes:
        return (self.key_dir / certificate_id / f"{job_id}.key").read_bytes()

    def _log_path(self, number: int) -> Path:
        return self.folder / f"agent-{number}.log"
