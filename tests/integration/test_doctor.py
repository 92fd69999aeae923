"""The three doctors against real things, each broken for real: the fault is named, with what to do, and the exit code tells."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from peers.fleet import Fleet, fleet
from peers.nginx import make_pair
from peers.ports import free_port

pytestmark = pytest.mark.xdist_group("doctor")
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}


class Examination:
    """What one run of a doctor said."""

    def __init__(self, module: str, environ: dict[str, str]) -> None:
        command = [sys.executable, "-m", f"certctl.cli.{module}", "doctor", "--json"]
        ran = subprocess.run(command, env=CLEAN | environ, capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" not in ran.stdout + ran.stderr, ran.stderr
        assert ran.stdout, ran.stderr
        self.code = ran.returncode
        self.findings: list[dict[str, Any]] = json.loads(ran.stdout)
        assert self.code == int(any(each["status"] == "fail" for each in self.findings))

    def of(self, check: str) -> list[dict[str, Any]]:
        return [each for each in self.findings if each["check"] == check]

    def says(self, check: str, status: str, *words: str) -> bool:
        """Whether one finding of this check has the status and all the words, in its message or in what to do next."""
        for each in self.of(check):
            text = f"{each['message']} {each['next']}"
            if each["status"] == status and all(word in text for word in words):
                return bool(each["next"]) or status == "ok"
        raise AssertionError(f"{check} does not say {status} {words}: {self.of(check)}")

    def all_but(self, *checks: str) -> bool:
        bad = [each for each in self.findings if each["status"] == "fail" and each["check"] not in checks]
        assert not bad, bad
        return True


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    often = {"CERTCTL_SCHEDULER_AGENT_HEALTH_CHECK_INTERVAL": "1s"}
    with fleet(tmp_path_factory.mktemp("doctor"), **often) as made:
        made.furnish()
        made.request()
        made.wait(lambda: made.verified("cert-shop"), "the first certificate is verified")
        yield made


def client_environ(house: Fleet, **more: str) -> dict[str, str]:
    return {
        "CERTCTL_SERVER_URL": house.url,
        "CERTCTL_API_KEY": house.key,
        "CERTCTL_SERVER_CA_BUNDLE_PATH": str(house.ca_path),
        "HOME": str(house.directory),
    } | more


def agent_environ(house: Fleet, **more: str) -> dict[str, str]:
    return {
        "CERTCTL_AGENT_STATE_DIR": str(house.agent_dir / "state"),
        "CERTCTL_KEY_DIR": str(house.agent_dir / "keys"),
        "CERTCTL_AGENT_ALLOW_FILE": str(house.nginx.allow_file),
    } | more


def server_environ(house: Fleet, **more: str) -> dict[str, str]:
    return {
        "CERTCTL_DATA_DIR": str(house.server_dir),
        "CERTCTL_SERVER_PORT": str(house.api_port),
        "CERTCTL_PKI_HTTP_PORT": str(house.pki_port),
    } | more


def test_all_three_find_a_good_house_good(house: Fleet) -> None:
    control = Examination("main", client_environ(house))
    agent = Examination("agent", agent_environ(house))
    server = Examination("server", server_environ(house))
    assert (control.code, agent.code, server.code) == (0, 0, 0)
    assert {each["status"] for each in control.findings + agent.findings} == {"ok"}
    assert [each["check"] for each in server.findings if each["status"] != "ok"] == ["pki base url"]
    assert server.says("https port", "ok", "is ours")
    assert server.says("pki port", "ok", "is ours")
    assert len({each["check"] for each in control.findings}) == 10


def test_text_is_for_people(house: Fleet) -> None:
    command = [sys.executable, "-m", "certctl.cli.agent", "doctor"]
    environ = CLEAN | agent_environ(house, CERTCTL_AGENT_ALLOW_FILE="/nonexistent/allow.toml")
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert "fail  allow file" in ran.stdout
    assert "-> without a good /nonexistent/allow.toml nothing can be deployed here" in ran.stdout
    assert ran.stdout.endswith("1 to mend, 0 to look at\n")


# -- the control plane, by API key --------------------------------------------------------------------------------------


def test_a_server_that_is_not_there(house: Fleet) -> None:
    found = Examination("main", client_environ(house, CERTCTL_SERVER_URL=f"https://127.0.0.1:{free_port()}"))
    assert [each["check"] for each in found.findings] == ["server", "the rest"]
    assert found.findings[0]["status"] == "fail"
    assert "not looked at" in found.findings[1]["message"]


def test_a_key_that_is_wrong_or_may_little(house: Fleet) -> None:
    found = Examination("main", client_environ(house, CERTCTL_API_KEY="ctk_wrong"))
    assert found.of("key")[0]["status"] == "fail"
    auditor = house.post("/api/v1/auth/keys", {"name": "auditor", "role_ids": ["r-auditor"]})["key_value"]
    found = Examination("main", client_environ(house, CERTCTL_API_KEY=auditor))
    assert found.says("agents", "warn", "not looked at", "agent.read")


def test_failed_jobs_and_targets_without_agents(house: Fleet) -> None:
    token = house.post("/api/v1/agents/enrolment-tokens", {"agent_name": "gone"})["token"]
    said = {"name": "gone", "hostname": "gone", "version": "7.0.0", "capabilities": ["deploy"]}
    gone = house.call("POST", "/api/v1/agents", said, key=token).json()
    config = house.nginx.target_config | {"cert_path": str(house.nginx.tls_dir / "gone.pem")}
    target = house.post("/api/v1/targets", {"name": "lost", "type": "NGINX", "agent_id": gone["id"], "config": config})
    house.nginx.write_allow_file(without=("nginx.reload",))
    try:
        (job_id,) = house.post("/api/v1/certificates/cert-shop/deploy")["job_ids"]
        house.wait(lambda: house.get(f"/api/v1/jobs/{job_id}")["status"] == "Failed", "the deployment fails")
    finally:
        house.nginx.write_allow_file()
    found = Examination("main", client_environ(house))
    assert found.says("failed jobs", "warn", "does not allow the action", f"certctl jobs show {job_id}")
    assert found.says("versions", "warn", "agent gone is certctl 7.0.0")
    house.stop_server()
    house.stop_agent()
    house._extra["CERTCTL_AGENT_SILENCE"] = "1s"
    house.start_server()
    try:
        house.wait(lambda: house.get(f"/api/v1/agents/{gone['id']}")["status"] == "Offline", "the agent is missed")
        found = Examination("main", client_environ(house))
    finally:
        house.stop_server()
        del house._extra["CERTCTL_AGENT_SILENCE"]
        house.start_server()
        house.start_agent()
    assert found.code == 1
    assert found.says("agents", "warn", "agent gone is Offline", "certctl agents retire gone")
    assert found.says("targets", "fail", "target lost waits for agent gone", "certctl-agent doctor")
    house.call("DELETE", f"/api/v1/targets/{target['id']}")
    house.call("DELETE", f"/api/v1/agents/{gone['id']}")
    back = f"/api/v1/agents/{house.agent_id}"
    house.wait(lambda: house.get(back)["status"] == "Online", "the agent is back")


def test_a_stuck_step_and_an_end_that_is_near(house: Fleet) -> None:
    token = house.post("/api/v1/agents/enrolment-tokens", {"agent_name": "deaf"})["token"]
    deaf = house.call("POST", "/api/v1/agents", {"name": "deaf", "hostname": "deaf"}, key=token).json()
    config = house.nginx.target_config | {"cert_path": str(house.nginx.tls_dir / "deaf.pem")}
    body = {"name": "deaf", "type": "NGINX", "agent_id": deaf["id"], "config": config}
    wanted = {
        "id": "cert-deaf",
        "common_name": "deaf.example",
        "target_ids": [house.post("/api/v1/targets", body)["id"]],
    }
    house.post("/api/v1/certificates", wanted)
    (job,) = house.get("/api/v1/jobs?certificate_id=cert-deaf")["data"]
    assert Examination("main", client_environ(house)).says("stuck steps", "ok")
    # five minutes pass for this job, and 46 of its 47 days for the server's certificate
    old, soon = (
        "2026-01-01 00:00:00.000000",
        (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%d %H:%M:%S.000000"),
    )
    database = sqlite3.connect(house.server_dir / "certctl.db", timeout=10)
    with database:
        database.execute("UPDATE jobs SET created_at = ? WHERE id = ?", (old, job["id"]))
        database.execute("UPDATE steps SET run_at = ? WHERE job_id = ?", (old, job["id"]))
        database.execute("UPDATE managed_certificates SET expires_at = ? WHERE source = 'own-tls'", (soon,))
    database.close()
    found = Examination("main", client_environ(house))
    assert found.says("stuck steps", "fail", f"prepare has waited for agent {deaf['id']}", f"jobs cancel {job['id']}")
    assert found.says("own certificate", "fail", "hours left", "certctl-server doctor")
    house.call("DELETE", "/api/v1/certificates/cert-deaf")


# -- the agent's host ---------------------------------------------------------------------------------------------------


@pytest.fixture
def host(house: Fleet, tmp_path: Path) -> dict[str, str]:
    """A copy of the agent's folders that may be broken; nothing runs on it."""
    for name in ("state", "keys"):
        shutil.copytree(house.agent_dir / name, tmp_path / name, copy_function=shutil.copy2)
    return agent_environ(house, CERTCTL_AGENT_STATE_DIR=str(tmp_path / "state"), CERTCTL_KEY_DIR=str(tmp_path / "keys"))


def test_a_copy_is_good_but_does_not_run(host: dict[str, str]) -> None:
    found = Examination("agent", host)
    assert found.code == 0
    assert found.says("running", "warn", "certctl-agent run")


def test_not_enrolled(host: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "state" / "agent.json").unlink()
    assert Examination("agent", host).says("identity", "fail", "not enrolled", "certctl-agent enrol")


def test_modes_that_were_loosened_are_named_and_left(host: dict[str, str], tmp_path: Path) -> None:
    (key,) = (tmp_path / "keys" / "cert-shop").glob("*.key")
    identity = tmp_path / "state" / "agent.json"
    key.chmod(0o644)
    identity.chmod(0o640)
    (tmp_path / "state").chmod(0o755)
    found = Examination("agent", host)
    assert found.says("key folder", "fail", str(key), "mode 0644", f"chmod 600 {key}")
    assert found.says("identity", "fail", "mode 0640", f"chmod 600 {identity}")
    assert found.says("state folder", "fail", "mode 0755", "chmod 700")
    assert [path.stat().st_mode & 0o777 for path in (key, identity, tmp_path / "state")] == [0o644, 0o640, 0o755]


def test_a_key_folder_that_is_no_folder(host: dict[str, str], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "keys")
    (tmp_path / "keys").symlink_to(tmp_path)
    assert Examination("agent", host).says("key folder", "fail", "symbolic link")


def test_a_server_out_of_reach_or_not_trusted_or_refusing(house: Fleet, host: dict[str, str], tmp_path: Path) -> None:
    away = Examination("agent", host | {"CERTCTL_SERVER_URL": f"https://127.0.0.1:{free_port()}"})
    assert away.says("server", "fail", "look whether")
    other = tmp_path / "other.pem"
    other.write_text(make_pair("other.example")[0])
    untrusted = Examination("agent", host | {"CERTCTL_SERVER_CA_BUNDLE_PATH": str(other)})
    assert untrusted.says("server", "fail", "CERTCTL_SERVER_CA_BUNDLE_PATH")
    identity = tmp_path / "state" / "agent.json"
    told = json.loads(identity.read_text()) | {"credential": "cta_wrong"}
    identity.write_text(json.dumps(told))
    assert Examination("agent", host).says("server", "fail", "enrol again")
    del house


def test_an_allow_file_with_faults(house: Fleet, host: dict[str, str], tmp_path: Path) -> None:
    del house
    allow = tmp_path / "allow.toml"
    allow.write_text('[[folder]]\npath = "/nonexistent/tls"\n[action."nginx.reload"]\ncommand = ["/no/such/nginx"]\n')
    found = Examination("agent", host | {"CERTCTL_AGENT_ALLOW_FILE": str(allow)})
    assert found.says("allow file", "fail", "/nonexistent/tls is not there")
    assert found.says("allow file", "fail", "nginx.reload", "/no/such/nginx")
    allow.chmod(0o666)
    assert Examination("agent", host | {"CERTCTL_AGENT_ALLOW_FILE": str(allow)}).says("allow file", "fail", "writ")


def test_what_waits_and_what_is_half_done(host: dict[str, str], tmp_path: Path) -> None:
    entry = {
        "sequence": 1,
        "kind": "status",
        "job_id": "job-1",
        "step_id": "step-1",
        "fence": 1,
        "body": {},
        "created_at": "2026-01-01T00:00:00Z",
    }
    (tmp_path / "state" / "outbox" / "000000000001-step-1.json").write_text(json.dumps(entry))
    (tmp_path / "state" / "deploys" / "dep-1.json").write_text("{}")
    (tmp_path / "state" / "deploys" / "dep-0.json.corrupt-aa").write_text("?")
    found = Examination("agent", host)
    assert found.says("outbox", "warn", "1 results wait", "2026-01-01")
    assert found.says("half done", "fail", "dep-1", "start the agent")
    assert found.says("half done", "warn", "dep-0.json.corrupt-aa")


# -- the server's machine -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def snapshot(house: Fleet) -> Path:
    """The server's data as they are when it is stopped."""
    copy = house.directory / "snapshot"
    house.stop_server()
    shutil.copytree(house.server_dir, copy, copy_function=shutil.copy2)
    house.start_server()
    return copy


@pytest.fixture
def machine(snapshot: Path, tmp_path: Path) -> dict[str, str]:
    """A copy of the server's data with ports of its own; no server runs on it."""
    shutil.copytree(snapshot, tmp_path / "data", copy_function=shutil.copy2)
    return {
        "CERTCTL_DATA_DIR": str(tmp_path / "data"),
        "CERTCTL_SERVER_PORT": str(free_port()),
        "CERTCTL_PKI_HTTP_PORT": str(free_port()),
        "CERTCTL_PKI_BASE_URL": "http://pki.example.net",
    }


def test_a_stopped_server_is_good(machine: dict[str, str]) -> None:
    found = Examination("server", machine)
    assert {each["status"] for each in found.findings} == {"ok"}
    assert found.says("https port", "ok", "free")


def test_a_receiver_of_the_audit_log_that_is_behind(machine: dict[str, str], tmp_path: Path) -> None:
    nobody = machine | {"CERTCTL_AUDIT_SYSLOG_URL": f"tcp://127.0.0.1:{free_port()}"}
    assert Examination("server", nobody).says("audit push", "ok", "the audit log is with syslog")
    with sqlite3.connect(tmp_path / "data" / "certctl.db") as database:
        database.execute("UPDATE audit_events SET created_at = '2026-01-01 00:00:00.000000'")
    found = Examination("server", nobody)
    assert found.says(
        "audit push", "warn", "wait for syslog (tcp://127.0.0.1", "the oldest since 2026-01-01", "nothing was tried"
    )
    assert Examination("server", machine).says("audit push", "ok", "pushed nowhere")


def test_a_server_never_started(tmp_path: Path) -> None:
    ports = {"CERTCTL_SERVER_PORT": str(free_port()), "CERTCTL_PKI_HTTP_PORT": str(free_port())}
    found = Examination("server", {"CERTCTL_DATA_DIR": str(tmp_path / "new")} | ports)
    assert found.code == 0, found.findings
    assert found.says("database", "warn", "the first start makes it")
    assert found.says("pki base url", "warn", "CERTCTL_PKI_BASE_URL")
    assert not (tmp_path / "new").exists()


def test_a_setting_that_cannot_be_read(machine: dict[str, str]) -> None:
    found = Examination("server", machine | {"CERTCTL_STEP_LEASE": "soon"})
    assert found.code == 1
    assert "CERTCTL_STEP_LEASE" in found.of("settings")[0]["message"]


def test_data_and_secrets_open_to_others(machine: dict[str, str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "config-encryption.key").chmod(0o644)
    data.chmod(0o755)
    found = Examination("server", machine)
    assert found.says("data folder", "fail", "mode 0755", "chmod 700")
    assert found.says("secrets", "fail", "config-encryption.key", "mode 0644")
    assert data.stat().st_mode & 0o777 == 0o755


def test_the_wrong_encryption_key_and_a_lost_one(machine: dict[str, str], tmp_path: Path) -> None:
    wrong = Examination("server", machine | {"CERTCTL_CONFIG_ENCRYPTION_KEY": "w" * 40})
    assert wrong.says("encryption key", "fail", "another configuration key", "backups")
    (tmp_path / "data" / "config-encryption.key").unlink()
    assert Examination("server", machine).says("encryption key", "fail", "is gone", "backup")


def test_a_database_of_another_release_or_none(machine: dict[str, str], tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "data" / "certctl.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '0000'")
    database.close()
    found = Examination("server", machine)
    assert found.says("database", "fail", "revision 0000", "--migrate-only")
    away = f"postgres://nobody@127.0.0.1:{free_port()}/certctl"
    key = {"CERTCTL_DATABASE_URL": away, "CERTCTL_CONFIG_ENCRYPTION_KEY": "k" * 40}
    found = Examination("server", machine | key)
    assert found.says("database", "fail", "does not answer", "CERTCTL_DATABASE_URL")


def test_a_clock_behind_what_was_written(machine: dict[str, str], tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "data" / "certctl.db") as database:
        database.execute("UPDATE audit_events SET created_at = '2199-01-01 00:00:00.000000'")
    database.close()
    assert Examination("server", machine).says("clock", "fail", "in the future", "chrony")


def test_ports_taken_by_others(machine: dict[str, str]) -> None:
    with socket.socket() as one, socket.socket() as two:
        for listener in (one, two):
            listener.bind(("127.0.0.1", 0))
            listener.listen()
        ports = {
            "CERTCTL_SERVER_PORT": str(one.getsockname()[1]),
            "CERTCTL_PKI_HTTP_PORT": str(two.getsockname()[1]),
        }
        found = Examination("server", machine | ports)
    assert found.says("https port", "fail", "speaks no TLS", "CERTCTL_SERVER_PORT")
    assert found.says("pki port", "fail", "no PKI listener", "CERTCTL_PKI_HTTP_PORT")


def test_own_tls_that_does_not_fit_or_ends(machine: dict[str, str], tmp_path: Path) -> None:
    cert, key = tmp_path / "own.pem", tmp_path / "own.key"
    begun = datetime.now(UTC) - timedelta(days=89)
    certificate_pem, key_pem = make_pair(not_before=begun, validity=timedelta(days=90))
    cert.write_text(certificate_pem)
    key.write_bytes(key_pem)
    key.chmod(0o604)
    own = {"CERTCTL_SERVER_TLS_CERT_PATH": str(cert), "CERTCTL_SERVER_TLS_KEY_PATH": str(key)}
    found = Examination("server", machine | own)
    assert found.says("own tls", "fail", "hours left", "SIGHUP")
    assert found.says("secrets", "fail", str(key))
    key.write_bytes(make_pair()[1])
    found = Examination("server", machine | own)
    assert found.of("own tls")[0]["status"] == "fail"


def test_on_postgresql(postgres_server: Any, tmp_path: Path) -> None:
    environ = {
        "CERTCTL_DATA_DIR": str(tmp_path / "data"),
        "CERTCTL_DATABASE_URL": postgres_server.new_database(),
        "CERTCTL_CONFIG_ENCRYPTION_KEY": "k" * 40,
        "CERTCTL_SERVER_PORT": str(free_port()),
        "CERTCTL_PKI_HTTP_PORT": str(free_port()),
    }
    assert Examination("server", environ).says("database", "warn", "is empty", "--migrate-only")
    command = [sys.executable, "-m", "certctl.cli.server", "--migrate-only"]
    subprocess.run(command, env=CLEAN | environ, check=True, capture_output=True, timeout=60)
    assert Examination("server", environ).says("encryption key", "warn", "nothing is sealed yet")
    started = Fleet(
        tmp_path / "started", environ["CERTCTL_DATABASE_URL"], CERTCTL_CONFIG_ENCRYPTION_KEY="k" * 40
    )  # the first start makes the CA, and with it something that is sealed
    try:
        started.start_server()
    finally:
        started.stop()
    found = Examination("server", environ)
    assert found.code == 0, found.findings
    assert found.says("clock", "ok", "the database's clock agrees")
    assert found.says("encryption key", "ok", "fits the data")
    wrong = Examination("server", environ | {"CERTCTL_CONFIG_ENCRYPTION_KEY": "w" * 40})
    assert wrong.says("encryption key", "fail", "another configuration key")
    without = Examination("server", environ | {"CERTCTL_CONFIG_ENCRYPTION_KEY": ""})
    assert without.of("encryption key")[0]["status"] == "fail"
