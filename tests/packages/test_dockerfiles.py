"""Images and compose file, as far as can be judged without a container engine: a linter, and what they name exists.

That the images build and run is shown nowhere here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from packages.onefile import ROOT

DOCKER = ROOT / "deploy" / "docker"
FILES = sorted(DOCKER.glob("*.Dockerfile"))
COMPOSE = yaml.safe_load((ROOT / "deploy" / "docker-compose.yml").read_text())
# what python:3.11-slim-bookworm brings of what is called here
OF_THE_BASE = {"python", "sh", "grep"}


def last_stage(path: Path) -> list[tuple[str, str]]:
    joined = re.sub(
        r"\\\n\s*", " ", "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    )
    found = [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]
    return found[max(index for index, (word, _) in enumerate(found) if word == "FROM") :]


def health(path: Path) -> list[str]:
    """The health check's command, in exec form."""
    (line,) = [rest for word, rest in last_stage(path) if word == "HEALTHCHECK"]
    return json.loads(line.partition("CMD ")[2])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_linter_has_nothing_to_say(path, tmp_path):
    linter = Path(sys.executable).parent / "hadolint"
    told = subprocess.run([linter, path], capture_output=True, text=True, timeout=60, check=False)
    assert (told.returncode, told.stdout) == (0, ""), told.stdout
    broken = tmp_path / "Dockerfile"
    broken.write_text(path.read_text().replace("USER 1000:1000", "RUN cd /tmp && sudo true\nUSER root"))
    assert subprocess.run([linter, broken], capture_output=True, timeout=60, check=False).returncode != 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_an_image_calls_is_in_it(path):
    scripts = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"])
    stage = last_stage(path)
    copied = {rest.split()[-1] for word, rest in stage if word == "COPY"}
    (entry,) = [json.loads(rest) for word, rest in stage if word == "ENTRYPOINT"]
    assert entry[0] in scripts
    command = health(path)
    assert command[0] in OF_THE_BASE
    for word in command[1:]:
        if word.startswith("/"):
            assert word in copied
    for word in re.findall(r"\bcertctl-\w+", " ".join(command[1:])):
        assert word in scripts
    (environ,) = [rest for word, rest in stage if word == "ENV"]
    assert "PATH=/opt/certctl/bin:" in environ
    assert "/opt/certctl" in copied, "where the wheel's programs are"
    volumes = [json.loads(rest) for word, rest in stage if word == "VOLUME"]
    assert volumes == [["/var/lib/certctl"]], "the one place that is written to"


def test_the_agents_health_check_can_say_both(tmp_path):
    from certctl.agent.durable import FolderLock, private_folder
    from certctl.agent.identity import Identity, write_identity
    from certctl.core.clock import SystemClock
    from certctl.core.secret import Secret

    state = private_folder(tmp_path / "state")
    environ = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "CERTCTL_AGENT_STATE_DIR": str(state)}

    def healthy() -> bool:
        command = health(DOCKER / "agent.Dockerfile")
        ended = subprocess.run(command, env=environ, capture_output=True, timeout=60, check=False)
        return ended.returncode == 0

    assert not healthy(), "not enrolled"
    with FolderLock(state):
        assert not healthy(), "it runs and waits for a server that lets it in"
    who = Identity(
        agent_id="agent-1",
        name="web-1",
        credential=Secret("for tests"),
        server_url="https://localhost:1",
        enrolled_at=SystemClock().now(),
    )
    write_identity(state, who)
    assert not healthy(), "enrolled, and nothing runs"
    with FolderLock(state):
        assert healthy()
    assert not healthy(), "it has ended"


def test_the_compose_file_holds_together():
    services, volumes, networks = COMPOSE["services"], set(COMPOSE["volumes"]), set(COMPOSE["networks"])
    checked = {name for name, service in services.items() if "healthcheck" in service}
    for name, service in services.items():
        if "build" in service:
            path = ROOT / "deploy" / service["build"]["context"] / service["build"]["dockerfile"]
            assert path.is_file()
            if health(path):
                checked.add(name)
    for name, service in services.items():
        assert set(service["networks"]) <= networks, name
        named = {volume.split(":")[0] for volume in service["volumes"] if not volume.startswith(".")}
        assert named <= volumes
        for other, condition in service.get("depends_on", {}).items():
            assert other in services
            assert condition["condition"] != "service_healthy" or other in checked
    (at,) = [volume.split(":")[1] for volume in services["agent"]["volumes"] if volume.startswith("agent:")]
    assert at == "/var/lib/certctl"
    assert COMPOSE["networks"]["database"]["internal"] is True
