"""The systemd units say nothing that systemd does not know, and confine what they start."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from packages.onefile import ROOT

UNITS = ROOT / "deploy" / "systemd"
DROP_INS = sorted((UNITS / "agent-drop-ins").glob("*.conf"))
# systemd's own sum of what is left open, in tenths: what a change may not add to
EXPOSURE = {"certctl-agent.service": 25, "certctl-server.service": 15}


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def place(folder: Path, unit: str, drop_in: str = "") -> Path:
    """The unit with a program that exists here in the place of ours, and a drop-in beside it."""
    text = (UNITS / unit).read_text()
    for program in ("/usr/local/bin/certctl-agent", "/opt/certctl/bin/certctl-server"):
        text = text.replace(program, "/bin/true")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / unit).write_text(text)
    if drop_in:
        beside = folder / f"{unit}.d"
        beside.mkdir()
        (beside / "own.conf").write_text(drop_in)
    return folder / unit


def words(text: str, name: str) -> list[str]:
    lines = [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}=")]
    return " ".join(lines).split()


@pytest.mark.parametrize("unit", sorted(EXPOSURE))
def test_systemd_understands_every_line(tmp_path, unit):
    told = analyze("verify", "--man=no", place(tmp_path, unit))
    assert (told.returncode, told.stderr) == (0, ""), told.stderr
    broken = place(tmp_path / "broken", unit)
    broken.write_text(broken.read_text().replace("ProtectSystem=strict", "ProtectSystem=strictly\nProtectSistem=1"))
    told = analyze("verify", "--man=no", broken)
    lines = [number for number, line in enumerate(broken.read_text().splitlines(), 1) if line.startswith("ProtectS")]
    assert len(lines) == 2
    assert all(f"{unit}:{number}: " in told.stderr for number in lines), told.stderr


@pytest.mark.parametrize("unit", sorted(EXPOSURE))
def test_exposure_is_bounded(tmp_path, unit):
    bound = [f"--threshold={EXPOSURE[unit]}", "--offline=true"]
    told = analyze("security", *bound, place(tmp_path, unit))
    assert told.returncode == 0, told.stdout
    weaker = place(tmp_path / "weaker", unit)
    weaker.write_text(weaker.read_text().replace("NoNewPrivileges=yes", "NoNewPrivileges=no"))
    assert analyze("security", *bound, weaker).returncode == 1


@pytest.mark.parametrize("drop_in", DROP_INS, ids=lambda path: path.stem)
def test_a_drop_in_adds_to_the_unit_and_opens_little(tmp_path, drop_in):
    text = drop_in.read_text()
    unit = place(tmp_path, "certctl-agent.service", text)
    told = analyze("verify", "--man=no", unit)
    assert (told.returncode, told.stderr) == (0, ""), told.stderr
    writable = words(text, "ReadWritePaths")
    assert writable
    assert all(path.lstrip("-").startswith("/") for path in writable)
    assert not {path.lstrip("-").rstrip("/") for path in writable} & {
        "",
        "/etc",
        "/usr",
        "/var",
        "/root",
        "/home",
        "/boot",
    }
    assert analyze("security", "--threshold=28", "--offline=true", unit).returncode == 0


def test_every_server_that_the_agent_knows_has_a_drop_in():
    from certctl.connectors.registry import TARGETS

    assert {path.stem for path in DROP_INS} == {entry.kind.lower() for entry in TARGETS} - {"files"}


def test_the_units_agree_with_the_programs():
    from certctl.agent.settings import DEFAULT_KEY_DIR, DEFAULT_STATE_DIR

    agent = (UNITS / "certctl-agent.service").read_text()
    folders = [f"/var/lib/{word}" for word in words(agent, "StateDirectory")]
    assert {DEFAULT_STATE_DIR, DEFAULT_KEY_DIR} <= set(folders)
    server = (UNITS / "certctl-server.service").read_text()
    assert words(server, "CapabilityBoundingSet") == []
    assert words(server, "User") == ["certctl"]
    (folder,) = words(server, "StateDirectory")
    assert words(server, "Environment") == [f"CERTCTL_DATA_DIR=/var/lib/{folder}"]
    # systemd gives a state folder, with all that is in it, to the unit's user
    assert not [one for one in folders if one.startswith(f"/var/lib/{folder}/")]
    assert shutil.which("systemd-analyze"), "peers install it"
