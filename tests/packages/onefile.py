"""The agent as one file: building it, and a fleet whose agent is that file with nothing of ours around it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from peers.fleet import Fleet

ROOT = Path(__file__).resolve().parents[2]


def build(out: Path, *arguments: str, umask: int = 0o022) -> list[Path]:
    """Run scripts/build-agent; the files it made."""
    command = [sys.executable, str(ROOT / "scripts" / "build-agent"), "--out", str(out), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False, umask=umask)
    assert ended.returncode == 0, ended.stderr
    return [out / line.split()[1] for line in ended.stdout.splitlines()]


def bare(file: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the file with nothing in its environment but `environ`."""
    command = ["env", "-i", *(f"{name}={value}" for name, value in environ.items()), str(file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")


class BareFleet(Fleet):
    """A fleet whose agent is one file, started with an empty environment in /, its settings apart."""

    file: Path

    def spawn_agent(self, die_at: str = "") -> subprocess.Popen[bytes]:
        assert not die_at
        settings = {
            "CERTCTL_SERVER_URL": self.url,
            "CERTCTL_SERVER_CA_BUNDLE_PATH": str(self.ca_path),
            "CERTCTL_AGENT_NAME": "web-1",
            "CERTCTL_AGENT_STATE_DIR": str(self.agent_dir / "state"),
            "CERTCTL_KEY_DIR": str(self.agent_dir / "keys"),
            "CERTCTL_AGENT_ALLOW_FILE": str(self.nginx.allow_file),
            "CERTCTL_LOG_FORMAT": "text",
        }
        if not (self.agent_dir / "state" / "agent.json").exists():
            settings["CERTCTL_AGENT_ENROLMENT_TOKEN"] = self.post(
                "/api/v1/agents/enrolment-tokens", {"agent_name": "web-1"}
            )["token"]
        with (self.directory / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(
                ["env", "-i", *(f"{name}={value}" for name, value in settings.items()), str(self.file), "run"],
                env={"PATH": os.environ["PATH"]},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self.agent
