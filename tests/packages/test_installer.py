"""The installer installs, enrols, upgrades, goes back and removes for real in a tree of its own, and may be killed anywhere."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from packages.install_host import Host
from packages.onefile import ROOT
from peers.fleet import fleet

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("packages"), pytest.mark.timeout(480)]


# What the installer sees of an agent, in a tenth of the time: for the tests that kill the installer at every point.
STAND_IN = """#!/bin/sh
# {mark}
PATH=/usr/bin:/bin
state=$CERTCTL_AGENT_STATE_DIR
case $1 in
  --version) echo "certctl-agent {mark}" ;;
  enrol)
    while [ $# -gt 0 ]; do [ "$1" = --state-dir ] && state=$2; shift; done
    [ -n "$CERTCTL_AGENT_ENROLMENT_TOKEN" ] || exit 1
    echo '{{}}' > "$state/agent.json.tmp" && mv "$state/agent.json.tmp" "$state/agent.json" ;;
  status) if kill -0 "$(cat "$state/lock")" 2>/dev/null; then echo '"running": true'; fi ;;
  run) echo $$ > "$state/lock"; exec sleep 600 ;;
esac
"""
Act = Callable[..., subprocess.CompletedProcess[str]]


def stand_in(path: Path, mark: str) -> Path:
    path.write_text(STAND_IN.format(mark=mark))
    path.chmod(0o755)
    return path


@pytest.fixture
def host(tmp_path):
    made = Host(tmp_path / "root")
    yield made
    made.stop()


def another_build(one_file: Path, path: Path) -> Path:
    """The same agent in other bytes."""
    shutil.copy(one_file, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"another build"
    return path


def broken_build(one_file: Path, path: Path) -> Path:
    """The same agent, but one that dies when it is to run."""
    with zipfile.ZipFile(one_file) as source, path.open("wb") as out:
        out.write(one_file.read_bytes().splitlines(keepends=True)[0])
        with zipfile.ZipFile(out, "w") as target:
            for name in source.namelist():
                data = source.read(name)
                if name == "__main__.py":
                    data = b"import sys\nif 'run' in sys.argv: sys.exit('broken')\n" + data
                target.writestr(name, data)
    path.chmod(0o755)
    return path


def test_installs_enrols_deploys_upgrades_and_goes_back(one_file, host, tmp_path):
    with fleet(tmp_path / "fleet") as town:
        town.directory.mkdir(exist_ok=True)
        town.nginx.start()
        town.start_server()
        town.bootstrap()
        token = tmp_path / "token"
        token.write_text(town.post("/api/v1/agents/enrolment-tokens", {"agent_name": "web-1"})["token"] + "\n")
        given = ["--server", town.url, "--ca-bundle", str(town.ca_path), "--name", "web-1", "--token-file", str(token)]
        # a host's owner says first what certctl may do there; the installer leaves that file alone
        host.put("etc/certctl/allow.toml", town.nginx.allow_file.read_text())
        said = host.install(one_file, *given)
        assert said.returncode == 0, said.stderr + host.log()
        assert host.current_digest() == digest(one_file)
        assert (
            token.read_text().strip()
            not in said.stdout + said.stderr + (host.root / "etc/certctl/agent.env").read_text()
        )
        assert (host.root / "etc/certctl/agent.env").stat().st_mode & 0o077 == 0
        assert (host.root / "etc/certctl/allow.toml").read_text() == town.nginx.allow_file.read_text()
        first_pid = host.pid()
        assert "enable certctl-agent.service" in host.calls()

        town.agent_id = host.identity()["agent_id"]
        made = {"name": "nginx", "type": "NGINX", "agent_id": town.agent_id, "config": town.nginx.target_config}
        town.target_id = town.post("/api/v1/targets", made)["id"]
        town.request()
        town.wait(lambda: town.verified("cert-shop"), f"deployed\n{host.log()}", seconds=60)
        if os.geteuid() == 0:
            status = dict(
                line.split(":\t")
                for line in Path(f"/proc/{first_pid}/status").read_text().splitlines()
                if ":\t" in line
            )
            # CHOWN, DAC_OVERRIDE and FOWNER are capabilities 0, 1 and 3: the unit's bounds, and enough for a deployment
            assert (int(status["CapBnd"], 16), status["NoNewPrivs"]) == (0b1011, "1")

        second = another_build(one_file, tmp_path / "second")
        assert host.upgrade(second).returncode == 0
        assert host.current_digest() == digest(second)
        assert host.pid() != first_pid
        town.post("/api/v1/certificates/cert-shop/renew")
        town.wait(lambda: town.verified("cert-shop", 2), f"renewed by the upgraded agent\n{host.log()}", seconds=60)

        broken = broken_build(one_file, tmp_path / "broken")
        said = host.upgrade(broken, START_SECONDS="2")
        assert said.returncode == 1
        assert "the old one runs again" in said.stderr, said.stderr
        assert host.current_digest() == digest(second)
        assert host.status()["running"] is True

        assert host.run("rollback").returncode == 0
        assert host.current_digest() == digest(one_file)
        assert host.status()["agent_id"] == town.agent_id

        assert host.run("uninstall").returncode == 0
        assert not host.alive()
        assert list((host.root / "var/lib/certctl/keys").rglob("*.key")), "nobody said that keys may go"
        left = {str(path.relative_to(host.root)) for path in host.root.rglob("*") if path.is_file()}
        assert not [name for name in left if name.startswith(("usr/", "etc/systemd", "var/lib/certctl/agent/unpacked"))]
        assert host.run("uninstall", "--remove-keys").returncode == 0
        assert not (host.root / "var/lib/certctl/keys").exists()
        assert not (host.root / "var/lib/certctl/agent").exists()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_dry_run_says_all_and_does_nothing(host, tmp_path):
    agent = stand_in(tmp_path / "agent", "one")
    said = host.install(agent, "--server", "https://localhost:1", "--dry-run")
    assert said.returncode == 0, said.stderr
    assert not host.root.exists()
    would = [line.split() for line in said.stdout.splitlines() if line.startswith("would: ")]
    assert {"mkdir", "cp", "mv", "ln", "write", "enrol"} <= {line[1] for line in would}
    assert host.install(agent, "--server", "https://localhost:1", token="t").returncode == 0
    before = host.tree()
    for arguments in (["uninstall", "--remove-keys"], ["rollback"]):
        host.run(*arguments, "--dry-run")
    assert host.upgrade(stand_in(tmp_path / "two", "two"), "--dry-run").returncode == 0
    assert host.tree() == before


def test_what_is_refused_changes_nothing(host, tmp_path):
    agent = stand_in(tmp_path / "agent", "one")
    short = host.run("install", "--file", str(agent), "--sha256", "abc", "--server", "https://localhost:1")
    assert "64 hex digits" in short.stderr
    wrong = host.run("install", "--file", str(agent), "--sha256", "0" * 64, "--server", "https://localhost:1")
    assert wrong.returncode == 1
    assert "is not what was published" in wrong.stderr
    assert host.run("install").returncode == 2
    assert host.run("remove").returncode == 2
    assert not host.root.exists()
    assert host.install(agent, "--server", "https://localhost:1").returncode == 1, "no token"
    assert host.install(agent, "--server", "https://localhost:1", token="t").returncode == 0, "and with one it goes on"
    before = host.tree()
    cannot = tmp_path / "cannot"
    cannot.write_text("#!/bin/sh\nexit 1\n")
    said = host.upgrade(cannot)
    assert said.returncode == 1
    assert "does not run on this host; nothing is changed" in said.stderr
    assert host.run("rollback").returncode == 1
    assert {path: data for path, data in host.tree().items() if "usr/local/bin" in path} == {
        path: data for path, data in before.items() if "usr/local/bin" in path
    }
    assert host.alive()


def test_killed_before_any_command_it_leaves_one_whole_agent_and_is_ended_by_the_next_run(tmp_path):
    first, second = stand_in(tmp_path / "first", "first"), stand_in(tmp_path / "second", "second")
    host = Host(tmp_path / "root")
    to_install = ["--server", "https://localhost:1", "--no-start"]
    try:
        points = _kill_everywhere(host, lambda **more: host.install(first, *to_install, token="t", **more), {first})
        assert points > 20
        assert host.upgrade(first).returncode == 0, "started"
        points = _kill_everywhere(host, lambda **more: host.upgrade(second, **more), {first, second})
        assert points > 8
        assert host.current_digest() == digest(second)
        assert host.alive()
    finally:
        host.stop()


def _kill_everywhere(host: Host, act: Act, allowed: set[Path]) -> int:
    """Act again and again from the same beginning, killed before the 1st, 2nd, ... command that changes a file.

    Returns how many there were. Between two commands nothing changes, so this is every moment but those within one.
    """
    saved = host.save()
    had_agent = host.program.exists()
    for number in range(1, 200):
        host.restore(saved)
        ended = act(KILL_AT=str(number))
        if ended.returncode == 0:
            return number
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert host.current_digest() in {*map(digest, allowed), "" if not had_agent else "-"}, "half an agent"
        again = act()
        assert again.returncode == 0, (number, ended.stdout, again.stderr)
        assert host.current_digest() in set(map(digest, allowed))
        assert not [path for path in host.tree() if ".new." in path]
    raise AssertionError("it never ends")


def test_the_script_is_plain_sh():
    script = ROOT / "deploy" / "install-agent.sh"
    checked = subprocess.run(
        ["shellcheck", "--shell=sh", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stdout
    assert "curl" not in script.read_text(), "it downloads nothing"
    assert subprocess.run(["dash", "-n", script], timeout=30, check=False).returncode == 0
