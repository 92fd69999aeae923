"""The agent as one file runs in an empty environment, works a whole deployment, and is the same file whenever it is built."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from packages.onefile import ROOT, BareFleet, bare, build

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("packages"), pytest.mark.timeout(480)]


def test_it_enrols_and_deploys_with_nothing_around_it(one_file, tmp_path):
    home = tmp_path / "installed"
    home.mkdir()
    fleet = BareFleet(tmp_path / "fleet")
    fleet.file = Path(shutil.copy(one_file, home / "certctl-agent"))
    try:
        fleet.furnish()
        before = fleet.nginx.served()
        fleet.request()
        fleet.wait(lambda: fleet.verified("cert-shop"), "deployed and verified", seconds=60)
        assert fleet.nginx.served() != before
        state = fleet.agent_dir / "state"
        status = bare(fleet.file, "status", "--json", CERTCTL_AGENT_STATE_DIR=str(state))
        assert status.returncode == 0, status.stderr
        assert '"running": true' in status.stdout
        (unpacked,) = [path for path in (state / "unpacked").iterdir() if path.is_dir()]
        assert state.stat().st_mode & 0o077 == (state / "unpacked").stat().st_mode & 0o077 == 0
        assert Path(f"/proc/{fleet.agent.pid}/exe").readlink().name.startswith("python3")
        maps = Path(f"/proc/{fleet.agent.pid}/maps").read_text()
        assert f"{unpacked}/site-packages/cryptography" in maps
        assert str(ROOT) not in maps, "nothing of the checkout is used"
    finally:
        fleet.stop()
    assert [path.name for path in home.iterdir()] == ["certctl-agent"]


def test_it_carries_the_agent_alone_and_all_of_it(one_file, tmp_path):
    names = zipfile.ZipFile(one_file).namelist()
    ours = {name.split("/")[2] for name in names if name.startswith("site-packages/certctl/")}
    assert ours == {"__init__.py", "agent", "cli", "connectors", "core", "pki", "telemetry", "wire"}
    assert not [
        name
        for name in names
        if "/issuers/" in name or "/validation/" in name or "sqlalchemy" in name or "litestar" in name
    ]
    assert bare(one_file, "--version", CERTCTL_AGENT_STATE_DIR=str(tmp_path / "state")).returncode == 0
    (site,) = (tmp_path / "state" / "unpacked").glob("*/site-packages")
    look = (
        "import importlib, pkgutil, sys; sys.path.insert(0, sys.argv[1]); import certctl\n"
        "found = [m.name for m in pkgutil.walk_packages(certctl.__path__, 'certctl.')]\n"
        "[importlib.import_module(name) for name in found]; print(len(found))"
    )
    command = [sys.executable, "-I", "-S", "-c", look, str(site)]
    ended = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 40


def test_the_same_sources_make_the_same_bytes_and_other_machines_too(one_file, tmp_path):
    here, there = build(tmp_path / "again", "--machine", "amd64", "--machine", "arm64", umask=0o077)
    digest = hashlib.sha256(one_file.read_bytes()).hexdigest()
    if os.uname().machine == "x86_64":
        assert hashlib.sha256(here.read_bytes()).hexdigest() == digest
    recorded = subprocess.run(
        ["sha256sum", "--check", f"{there.name}.sha256"], cwd=there.parent, capture_output=True, timeout=30, check=False
    )
    assert recorded.returncode == 0
    with zipfile.ZipFile(there) as archive:
        libraries = [name for name in archive.namelist() if name.endswith(".so")]
        # ELF e_machine at offset 18: 0xB7 is AArch64
        assert {archive.read(name)[18:20] for name in libraries} == {b"\xb7\x00"}
        assert any("cryptography" in name for name in libraries)


def test_it_says_what_is_wrong_and_leaves_nothing(one_file, tmp_path):
    state = tmp_path / "state"
    wrong = tmp_path / "certctl-agent"
    with zipfile.ZipFile(one_file) as source, zipfile.ZipFile(wrong, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, data.replace(b'MACHINE = "', b'MACHINE = "z') if name == "__main__.py" else data)
    ended = subprocess.run(
        [sys.executable, wrong, "--version"], env={}, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("certctl-agent: this file is for z")
    relative = bare(one_file, "--version", CERTCTL_AGENT_STATE_DIR="state")
    assert relative.returncode == 1
    assert "must be an absolute path" in relative.stderr
    hijacked = bare(
        one_file, "--version", CERTCTL_AGENT_STATE_DIR=str(state), SHIV_ENTRY_POINT="this:main", SHIV_INTERPRETER="1"
    )
    assert hijacked.stdout.startswith("certctl-agent "), "the environment does not choose what runs"


def test_unpacking_that_was_killed_is_finished_by_the_next_start(one_file, tmp_path):
    state = tmp_path / "state"
    assert bare(one_file, "--version", CERTCTL_AGENT_STATE_DIR=str(state)).returncode == 0
    (whole,) = [path for path in (state / "unpacked").iterdir() if path.is_dir()]
    half = whole.rename(whole.with_name(f"{whole.name}.tmp"))
    shutil.rmtree(half / "site-packages" / "cryptography")
    (half / "site-packages" / "certctl" / "__init__.py").write_text("half")
    ended = bare(one_file, "status", CERTCTL_AGENT_STATE_DIR=str(state))
    assert ended.returncode == 3, ended.stderr
    assert (whole / "site-packages" / "cryptography").is_dir()
    assert not half.exists()


def test_its_pins_are_those_of_the_base_install():
    def pins(name: str) -> set[str]:
        lines = (ROOT / "requirements" / name).read_text().splitlines()
        return {line.split(";")[0].strip(" \\") for line in lines if "==" in line and not line.startswith((" ", "#"))}

    agent = pins("agent.txt")
    assert agent
    assert agent <= pins("base.txt")
    assert not [line for line in (ROOT / "requirements" / "agent.txt").read_text().splitlines() if ";" in line]
