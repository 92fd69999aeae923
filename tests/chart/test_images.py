"""Images and compose file: nobody is root, health checks can fail, secrets are made and nowhere written down."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest
import yaml

from certctl.settings import load
from chart.chart import ROOT
from integration.test_server_start import Server

DOCKER = ROOT / "deploy" / "docker"
FILES = sorted(DOCKER.glob("*.Dockerfile"))
COMPOSE = yaml.safe_load((ROOT / "deploy" / "docker-compose.yml").read_text())


def instructions(text: str) -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n\s*", " ", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_image_is_nobodys_root(path):
    found = instructions(path.read_text())
    last = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    users = [rest for word, rest in found[last:] if word == "USER"]
    assert users[-1] == "1000:1000"
    assert [word for word, _ in found[last:]].count("HEALTHCHECK") == 1
    assert found[-1][0] in {"ENTRYPOINT", "CMD"}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for word, rest in found:
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(
                    source == line[1:] or source.startswith(f"{line[1:]}/") for line in ignored if line.startswith("!")
                ), source
    assert all("--require-hashes" in part for part in re.findall(r"pip install [^&]*-r [^&]*", path.read_text()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_image_carries_what_sends_traces(path):
    """The chart may turn traces on: without the extra both programs refuse to start."""
    installs = re.findall(r"/opt/certctl/bin/pip install [^&]*", path.read_text())
    assert any("-r requirements/otel.txt" in each for each in installs)


def test_images_install_what_the_chart_runs():
    entry = {path.name: dict(instructions(path.read_text()))["ENTRYPOINT"] for path in FILES}
    assert entry == {"agent.Dockerfile": '["certctl-agent"]', "server.Dockerfile": '["certctl-server"]'}


def test_the_servers_health_check_can_say_both(tmp_path):
    command = [sys.executable, DOCKER / "server-health"]
    with Server(tmp_path / "data") as server:
        well = subprocess.run(command, env=server.environ, capture_output=True, text=True, timeout=30, check=False)
        assert well.returncode == 0, well.stderr
    gone = subprocess.run(command, env=server.environ, capture_output=True, text=True, timeout=30, check=False)
    assert gone.returncode == 1
    assert "not ready" in gone.stderr


def test_compose_confines_everything():
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
        assert all(
            volume.split(":")[0].removeprefix("./.secrets") == "" or not volume.startswith(("/", ".."))
            for volume in service["volumes"]
        )
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "database" not in COMPOSE["services"]["agent"]["networks"]


def test_what_make_secrets_makes_is_what_compose_wants(tmp_path):
    deploy = tmp_path / "deploy"
    deploy.mkdir()
    shutil.copy(ROOT / "deploy" / "make-secrets", deploy)
    for _ in range(2):
        made = subprocess.run([deploy / "make-secrets"], capture_output=True, text=True, timeout=60, check=False)
        assert made.returncode == 0, made.stderr
        files = {path: path.read_bytes() for path in sorted((deploy / ".secrets").rglob("*")) if path.is_file()}
    assert "already" in made.stdout, "again it changes nothing"
    secrets = deploy / ".secrets"
    for service in COMPOSE["services"].values():
        assert (deploy / service["env_file"]).is_file()
        for volume in service["volumes"]:
            if volume.startswith("./"):
                assert (deploy / volume.split(":")[0]).exists()
    given = dict(line.split("=", 1) for line in (secrets / "server.env").read_text().splitlines())
    settings = load(given | COMPOSE["services"]["server"]["environment"])
    agents = (secrets / "agent.env").read_text().strip().partition("=")[2]
    assert settings.agent_bootstrap_token.reveal() == agents
    assert not settings.embedded
    assert (secrets / "server.env").stat().st_mode & 0o077 == 0
    assert (secrets / "tls" / "server.key").stat().st_mode & 0o077 == 0
    verify = [
        "openssl",
        "verify",
        "-CAfile",
        secrets / "ca.pem",
        "-verify_hostname",
        "server",
        secrets / "tls" / "server.pem",
    ]
    subprocess.run(verify, check=True, capture_output=True, timeout=30)
    assert len(files) == 6
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", "deploy/.secrets/server.env"], cwd=ROOT, timeout=30, check=False
    )
    assert ignored.returncode == 0
