"""`certctl demo` plays the whole life with real processes, on NGINX and on our own endpoint, and resumes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def play(directory: Path, *more: str) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}
    ended = subprocess.run(
        [sys.executable, "-m", "certctl.cli.main", "demo", "--once", "--data-dir", str(directory), *more],
        env=environ | {"COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.parametrize("more", [(), ("--without-nginx",)], ids=["nginx", "endpoint"])
def test_the_whole_life_and_again(tmp_path, more):
    told = play(tmp_path / "demo", *more)
    for chapter, stage in [
        ("issue", "prepare"),
        ("issue", "verify"),
        ("renew", "handshake"),
        ("revoke", "revoke"),
        ("replace", "handshake"),
    ]:
        assert re.search(rf"✓ {chapter}\s+{stage}", told), f"{chapter} {stage} is not told"
    assert "OCSP good -> revoked (superseded)" in told
    assert ("NGINX on" in told) == (not more)
    again = play(tmp_path / "demo", *more)
    assert "going on from an earlier run" in again
    assert re.search(r"✓ resume\s+certificate", again)


def test_a_stage_that_fails_is_named(tmp_path):
    directory = tmp_path / "demo"
    play(directory, "--without-nginx")
    # the host no longer allows the reload: the deployment must fail, and the demo must say so
    module = "import certctl.cli.demo.webserver as w\n"
    module += "real = w._allow_file\n"
    module += "w._allow_file = lambda server: real(server).replace('nginx.reload', 'nginx.other')\n"
    module += "import sys; sys.argv = ['certctl', 'demo', '--once', '--without-nginx', '--data-dir', sys.argv[1]]\n"
    module += "from certctl.cli.main import main\nmain()\n"
    ended = subprocess.run(
        [sys.executable, "-c", module, str(directory)], capture_output=True, text=True, timeout=150, check=False
    )
    assert ended.returncode == 1, ended.stdout
    assert "failed at deploy" in ended.stdout
    assert "nginx.reload" in ended.stdout
