"""The runbooks of operation, line by line: a living fleet is looked after, upgraded, gets another CA and another key, and
is brought back from nothing.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from certctl.store import migrate
from docs import runbook
from peers.fleet import SITE, Fleet

pytestmark = pytest.mark.timeout(600)
CERTIFICATE = "site"


class Reader:
    """Somebody with a shell on a server's machine, signed in as an administrator."""

    def __init__(self, fleet: Fleet, folder: Path, port: int) -> None:
        self.fleet, self.folder = fleet, folder
        folder.mkdir()
        self.environ = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port),
            "PGUSER": "certctl",
            "CERTCTL_SERVER_URL": fleet.url,
            "CERTCTL_SERVER_CA_BUNDLE_PATH": str(fleet.ca_path),
            "CERTCTL_API_KEY": fleet.key,
            "CERTCTL_DATABASE_URL": fleet._extra["CERTCTL_DATABASE_URL"],
            "CERTCTL_CONFIG_ENCRYPTION_KEY": fleet._extra["CERTCTL_CONFIG_ENCRYPTION_KEY"],
            "CERTCTL_DATA_DIR": str(fleet.server_dir),
            "CERTCTL_SERVER_PORT": str(fleet.api_port),
            "CERTCTL_PKI_HTTP_PORT": str(fleet.pki_port),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "CERTCTL_PKI_BASE_URL": f"http://127.0.0.1:{fleet.pki_port}",
        }

    def does(self, name: str, heading: str) -> str:
        """Every line under a heading; what they printed."""
        steps = [step for step in runbook.lines(name) if step.heading == heading]
        assert steps, f"{name} has nothing under {heading}"
        said = ""
        for step in steps:
            assert not runbook.placeholders(step.command), step.command
            if not step.command.startswith(runbook.NOT_RUN):
                said += runbook.run(step, self.folder, self.environ)
        return said


def read_whole(name: str, *headings: str) -> None:
    """That a test knows each part of a runbook: a new one has to be played, too."""
    found = dict.fromkeys(s.heading for s in runbook.lines(name) if not s.command.startswith(runbook.NOT_RUN))
    assert list(found) == list(headings)


@pytest.fixture
def reader(fleet, tmp_path, postgres_server):
    fleet.nginx.start()
    fleet.start_agent()
    fleet.agent_id = json.loads((fleet.agent_dir / "state" / "agent.json").read_text())["agent_id"]
    body = {"name": "nginx", "type": "NGINX", "agent_id": fleet.agent_id, "config": fleet.nginx.target_config}
    target = fleet.post("/api/v1/targets", body)["id"]
    fleet.post("/api/v1/certificates", {"id": CERTIFICATE, "common_name": SITE, "target_ids": [target]})
    fleet.wait(lambda: fleet.verified(CERTIFICATE), "the certificate is served", 60)
    return Reader(fleet, tmp_path / "reader", postgres_server.port)


def versions(fleet: Fleet) -> list[dict]:
    return fleet.get(f"/api/v1/certificates/{CERTIFICATE}/versions")["data"]


def test_looked_after_upgraded_and_given_another_ca(reader):
    fleet = reader.fleet
    read_whole("ha", "Is every replica well?", "Is the work shared?", "Is the standby a standby?")
    reader.does("ha", "Is every replica well?")
    assert "renew" in reader.does("ha", "Is the work shared?")
    assert reader.does("ha", "Is the standby a standby?").splitlines()[-1] == "f"

    read_whole("expiry-alerts", "Who is it?", "Why was it not renewed?", "Renew")
    assert "certctl_certificate_expiring_soon" in reader.does("expiry-alerts", "Who is it?")
    assert SITE in reader.does("expiry-alerts", "Why was it not renewed?")
    reader.does("expiry-alerts", "Renew")
    fleet.wait(lambda: fleet.verified(CERTIFICATE, 2), "it was renewed", 60)

    read_whole("upgrade", "Before", "Servers outside Kubernetes", "After")
    reader.does("upgrade", "Before")
    assert (reader.folder / "revision-before").read_text().strip() == migrate.head()
    reader.does("upgrade", "Servers outside Kubernetes")
    reader.does("upgrade", "After")

    headings = ("2. Issue from a new key", "3. Replace every certificate", "4. Revoke what the old key signed")
    read_whole("ca-key-compromise", *headings, "5. Revoke the old CA")
    before = {one["id"] for one in versions(fleet)}
    told = reader.does("ca-key-compromise", headings[0])
    assert "after-the-theft" in told
    reader.does("ca-key-compromise", headings[1])
    fleet.wait(lambda: fleet.verified(CERTIFICATE, 3), "it was replaced", 60)
    reader.does("ca-key-compromise", headings[2])
    now = {one["id"]: one["status"] for one in versions(fleet)}
    assert {now[version] for version in before} == {"revoked"}
    assert [status for version, status in now.items() if version not in before] == ["current"]
    reader.does("ca-key-compromise", "5. Revoke the old CA")
    generations = fleet.get("/api/v1/issuers/iss-local/intermediates")["data"]
    assert {one["name"]: one.get("revocation_reason", "") for one in generations if one["kind"] != "root"} == {
        "after-the-theft": "",
        next(one["name"] for one in generations if one["generation"] == 1 and one["kind"] != "root"): "caCompromise",
    }
    assert fleet.verified(CERTIFICATE, 3), "what was replaced serves on"


def test_another_key_a_way_back_and_a_beginning_from_nothing(reader, postgres_server):
    fleet = reader.fleet
    headings = ("Before", "Rotate", "Give it to every server", "After")
    read_whole("config-encryption-key", *headings)
    assert "would seal anew" in reader.does("config-encryption-key", "Before")
    assert "sealed anew" in reader.does("config-encryption-key", "Rotate")
    reader.does("config-encryption-key", "Give it to every server")
    new = (reader.folder / "new.key").read_text().strip()
    fleet.stop_server()
    fleet._extra["CERTCTL_CONFIG_ENCRYPTION_KEY"] = reader.environ["CERTCTL_CONFIG_ENCRYPTION_KEY"] = new
    fleet.start_server()
    reader.does("config-encryption-key", "After")

    read_whole("rollback", "What helm rollback does", "Which way back", "The schema's way back", "Forward again")
    reader.does("rollback", "What helm rollback does")
    told = reader.does("rollback", "Which way back")
    assert set(re.findall(r"^\d{4}", told, re.MULTILINE)) == migrate.known()
    fleet.stop_server()
    assert reader.does("rollback", "The schema's way back").splitlines()[-1] == "0012"
    step, doctor = [line for line in runbook.lines("rollback") if line.heading == "Forward again"]
    runbook.run(step, reader.folder, reader.environ)
    fleet.start_server()
    runbook.run(doctor, reader.folder, reader.environ)
    fleet.wait(lambda: fleet.verified(CERTIFICATE), "it is served as before")

    read_whole("disaster-recovery", "Everything is lost", "What happened after the dump")
    shutil.copy(reader.folder / "before-rollback.dump", reader.folder / "certctl.dump")
    summed = subprocess.run(
        ["sha256sum", "certctl.dump"], cwd=reader.folder, check=True, capture_output=True, text=True
    )
    (reader.folder / "certctl.dump.sha256").write_text(summed.stdout)
    fleet.stop_server()
    postgres_server.sql("DROP DATABASE certctl WITH (FORCE)")
    trusted = fleet.ca_path.read_bytes()
    shutil.rmtree(fleet.server_dir)
    steps = [line for line in runbook.lines("disaster-recovery") if not line.command.startswith(runbook.NOT_RUN)]
    first = next(number for number, line in enumerate(steps) if line.command == "certctl status")
    for line in steps[:first]:
        runbook.run(line, reader.folder, reader.environ)
    fleet.start_server()
    assert fleet.ca_path.read_bytes() == trusted, "the root that everybody trusts"
    for line in steps[first:]:
        runbook.run(line, reader.folder, reader.environ)
    fleet.wait(lambda: fleet.verified(CERTIFICATE, 2), "the agent serves a new version from the restored CA", 60)


def test_each_runbook_is_played_by_a_test():
    played = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for path in runbook.FOLDER.glob("*.md"):
        commands = runbook.lines(path.stem)
        assert path.stem == "alerts" or commands, path
        assert not commands or f'"{path.stem}"' in played, path


def test_links_between_runbooks_lead_somewhere():
    for path in runbook.FOLDER.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / target).exists(), (path.name, target)


def test_no_command_of_ours_hides_from_the_console_blocks():
    """A command in running text is one that its program knows."""
    from typer.main import get_command

    from certctl.cli.main import app

    known = get_command(app)
    for path in runbook.FOLDER.glob("*.md"):
        for words in re.findall(r"`certctl ([a-z][^`]*)`", path.read_text()):
            command = known
            for word in shlex.split(words):
                if not hasattr(command, "commands"):
                    break
                assert word in command.commands, (path.name, words)
                command = command.commands[word]
