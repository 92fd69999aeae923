"""A dry run with the real server, the real agent and a real NGINX: it tells what a deployment would do, and does nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from peers.fleet import Fleet, fleet


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with fleet(tmp_path_factory.mktemp("dry-run")) as made:
        made.furnish()
        made.request()
        made.wait(lambda: made.verified("cert-shop"), "the first certificate is verified")
        yield made


def seen(house: Fleet) -> dict[str, tuple[int, int, bytes]]:
    """Everything in NGINX's TLS folder: inode, modification time, bytes."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in house.nginx.tls_dir.iterdir()
    }


def plan_of(house: Fleet, **wanted) -> dict:
    (job_id,) = house.post("/api/v1/certificates/cert-shop/deploy", {"dry_run": True, **wanted})["job_ids"]
    job: dict = {}

    def ended() -> bool:
        job.update(house.get(f"/api/v1/jobs/{job_id}?wait=2"))
        return job["status"] not in {"Pending", "Running"}

    house.wait(ended, "the dry run ends")
    return job


def test_a_plan_is_told_and_nothing_is_touched(house):
    before, pid, served = seen(house), house.nginx.pid, house.nginx.served()
    deployments = house.get("/api/v1/certificates/cert-shop/deployments")
    house.nginx.cert_path.chmod(0o640)  # something that a deployment would mend
    before = seen(house)
    job = plan_of(house)
    assert (job["type"], job["status"]) == ("Validation", "Completed"), job
    assert [step["kind"] for step in job["steps"]] == ["plan"]
    plan = job["plan"]
    assert {file["role"]: file.get("changes", False) for file in plan["files"]} == {"key": False, "cert": True}
    assert plan["actions"] == ["nginx.validate", "nginx.test", "nginx.reload"]
    assert plan["served_now"] == plan["fingerprint_sha256"] == served
    assert any(line.startswith("write cert") for line in plan["summary"])
    assert "PRIVATE" not in str(job)
    assert seen(house) == before
    assert (house.nginx.pid, house.nginx.served()) == (pid, served)
    assert house.get("/api/v1/certificates/cert-shop/deployments") == deployments


def test_a_plan_that_cannot_work_says_why_and_alarms_nobody(house):
    house.nginx.write_allow_file(without=("nginx.reload",))
    before = seen(house)
    try:
        job = plan_of(house)
    finally:
        house.nginx.write_allow_file()
    assert job["status"] == "Failed"
    assert "does not allow the action 'nginx.reload'" in job["last_error"]
    assert seen(house) == before
    assert house.get("/api/v1/certificates/cert-shop")["status"] == "Active"


def test_the_terminal_shows_the_plan(house, tmp_path: Path):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")} | {
        "CERTCTL_SERVER_URL": house.url,
        "CERTCTL_API_KEY": house.key,
        "CERTCTL_SERVER_CA_BUNDLE_PATH": str(house.ca_path),
        "HOME": str(tmp_path),
    }
    command = [sys.executable, "-m", "certctl.cli.main", "certs", "deploy", "cert-shop", "--dry-run"]
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "run nginx.validate, nginx.test, nginx.reload" in ran.stdout
    assert "now served there: this certificate" in ran.stdout
    assert ran.stdout.endswith("nothing was changed\n")


def test_an_agent_that_knows_no_plan_is_not_asked(house):
    identity = json.loads((house.agent_dir / "state" / "agent.json").read_text())
    beat = f"/api/v1/agents/{house.agent_id}/heartbeat"
    known = house.get(f"/api/v1/agents/{house.agent_id}")["capabilities"]
    assert "plan" in known
    # a release without dry runs came back on this host: its heartbeat says what it can do
    older = {"version": "0.0.9", "capabilities": ["prepare", "deploy", "verify", "target:NGINX"]}
    assert house.call("POST", beat, older, key=identity["credential"]).status_code == 200
    reply = house.call("POST", "/api/v1/certificates/cert-shop/deploy", {"dry_run": True})
    assert house.call("POST", beat, {"capabilities": known}, key=identity["credential"]).status_code == 200
    assert (reply.status_code, "knows no dry run; update it" in reply.text) == (409, True), reply.text
