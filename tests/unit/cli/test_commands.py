"""The command line itself: help, usage, refusals without a server."""

from __future__ import annotations

import subprocess
import sys

import pytest


def certctl(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "NO_COLOR": "1", "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, "-m", "certctl.cli.main", *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.mark.parametrize("group", ["", "certs", "jobs", "agents", "targets", "keys"])
def test_help(group):
    ended = certctl(*filter(None, [group]), "--help")
    assert ended.returncode == 0
    assert "Usage" in ended.stdout


def test_help_says_the_exit_codes():
    assert "Exit codes" in certctl("--help").stdout


def test_help_loads_neither_server_nor_http_client():
    code = "import sys, certctl.cli.main; print(sorted({'httpx', 'sqlalchemy', 'litestar', 'cryptography'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout.strip() == "[]"


def test_version():
    ended = certctl("version", "--json")
    assert ended.returncode == 0
    assert '"version"' in ended.stdout


def test_wrong_usage():
    assert certctl("certs", "frob").returncode == 2
    ended = certctl("certs", "list")
    assert ended.returncode == 2
    assert "certctl login" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_nothing_answers():
    ended = certctl("status", CERTCTL_SERVER_URL="https://127.0.0.1:1", CERTCTL_API_KEY="x")
    assert ended.returncode == 5
    assert "does not answer" in ended.stderr


def test_plain_http_is_refused():
    ended = certctl("status", CERTCTL_SERVER_URL="http://127.0.0.1:1", CERTCTL_API_KEY="x")
    assert ended.returncode == 2
    assert "https" in ended.stderr


def test_a_key_is_no_argument():
    ended = certctl("login", "--server", "https://a")
    assert ended.returncode == 2
    assert "never an argument" in ended.stderr
