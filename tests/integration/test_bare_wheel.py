"""The wheel without extras is enough for agent and command line, and brings nothing of the server."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_agent_and_cli_run_from_the_bare_wheel(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "bare", with_pip=True)
    python = tmp_path / "bare" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    base = str(ROOT / "requirements" / "base.txt")
    subprocess.run([*pip, "--require-hashes", "-r", base], check=True, capture_output=True, timeout=170)
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True, capture_output=True, timeout=60)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    for command in (["certctl-agent", "--version"], ["certctl", "--help"], ["certctl", "certs", "--help"]):
        path = str(python.parent / command[0])
        ended = subprocess.run(
            [path, *command[1:]], env=environ, capture_output=True, text=True, timeout=30, check=False
        )
        assert ended.returncode == 0, (command, ended.stderr)
    for library in ("sqlalchemy", "litestar", "asyncpg", "uvicorn"):
        missing = subprocess.run([str(python), "-c", f"import {library}"], capture_output=True, timeout=30, check=False)
        assert missing.returncode != 0, f"{library} came with the base install"
