"""The real agent deploys to a real NGINX, is killed in the middle of the swap, and the server never serves half a pair."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from certctl.pki.fingerprints import sha256_hex
from certctl.pki.keys import public_key_matches
from certctl.pki.pem import read_certificates
from peers.agent_host import AgentHost
from peers.agent_server import AgentServer, Step, TestCa, wait_for
from peers.nginx import Nginx

pytestmark = pytest.mark.real


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    with Nginx(tmp_path / "nginx") as nginx:
        yield nginx


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AgentServer]:
    (tmp_path / "server").mkdir()
    with AgentServer(tmp_path / "server") as server:
        yield server


@pytest.fixture
def host(tmp_path: Path, server: AgentServer, nginx: Nginx) -> Iterator[AgentHost]:
    with AgentHost(tmp_path, server) as host:
        host.extra = {"CERTCTL_AGENT_ALLOW_FILE": str(nginx.allow_file)}
        yield host
        print(host.log())  # shown when the test fails


def add_deploy(server: AgentServer, host: AgentHost, nginx: Nginx) -> Step:
    """A key made by the agent, a certificate for it, and the step to deploy the pair."""
    from cryptography import x509

    prepare = server.add(
        id="job-1", step_id="step-p", step_kind="prepare", common_name="shop.example", sans=["shop.example"]
    )
    process = host.start()
    csr = x509.load_pem_x509_csr(server.took(prepare)["csr_pem"].encode())
    assert host.stop(process) == 0
    leaf_pem = TestCa().issue(csr.public_key(), "shop.example")
    return server.add(
        id="job-1",
        step_id="step-d",
        step_kind="deploy",
        target_id="t-1",
        target_type="nginx",
        target_config=nginx.target_config,
        version_id="cv-1",
        key_job_id="job-1",
        plan_id="dep-1",
        certificate_pem=leaf_pem,
        fingerprint_sha256=sha256_hex(read_certificates(leaf_pem)[0]),
    )


def assert_whole(nginx: Nginx) -> None:
    public_key_matches(nginx.key_path.read_bytes(), read_certificates(nginx.cert_path.read_text())[0])


def test_deploy_and_verify(server: AgentServer, host: AgentHost, nginx: Nginx) -> None:
    step = add_deploy(server, host, nginx)
    before = nginx.served()
    process = host.start()
    result = server.took(step)
    assert result["status"] == "Completed", result
    assert nginx.served() == step.item.fingerprint_sha256 == result["receipt"]["served_after"]
    assert result["receipt"]["served_before"] == before
    verify = server.add(
        id="job-1",
        step_id="step-v",
        step_kind="verify",
        target_id="t-1",
        target_type="NGINX",
        target_config=nginx.target_config,
        fingerprint_sha256=step.item.fingerprint_sha256,
    )
    assert server.took(verify)["verified"] is True
    assert host.stop(process) == 0


@pytest.mark.parametrize(
    "point",
    [
        "swap.journal.staged",
        "swap.staged",
        "swap.validated",
        "swap.journal.swapping",
        "swap.renamed:0",
        "swap.synced",
        "swap.journal.swapped",
        "swap.activated",
        "swap.seen",
        "agent.deploy.applied",
    ],
)
def test_killed_in_the_swap(server: AgentServer, host: AgentHost, nginx: Nginx, point: str) -> None:
    step = add_deploy(server, host, nginx)
    allowed = {nginx.served(), step.item.fingerprint_sha256}
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            seen.add(nginx.served())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        host.run_until_killed(point)
        process = host.start()
        assert server.took(step)["status"] == "Completed"
        wait_for(lambda: not list((host.state_dir / "deploys").iterdir()), 60, "the intent to be settled")
    finally:
        over.set()
        watcher.join(60)
    assert seen <= allowed
    assert nginx.served() == step.item.fingerprint_sha256
    assert_whole(nginx)
    assert host.stop(process) == 0


def test_failing_reload_leaves_the_old_certificate_served(server: AgentServer, host: AgentHost, nginx: Nginx) -> None:
    step = add_deploy(server, host, nginx)
    before = nginx.served()
    nginx.write_allow_file(reload="/bin/false")
    process = host.start()
    result = server.took(step)
    assert (result["status"], result["error_kind"]) == ("Failed", "rejected"), result
    assert nginx.served() == before
    assert_whole(nginx)
    assert host.stop(process) == 0


def test_what_the_host_does_not_allow_is_refused(server: AgentServer, host: AgentHost, nginx: Nginx) -> None:
    step = add_deploy(server, host, nginx)
    nginx.write_allow_file(without=("nginx.reload",))
    process = host.start()
    result = server.took(step)
    assert (result["status"], result["error_kind"]) == ("Failed", "misconfigured"), result
    assert "nginx.reload" in result["error"]
    assert_whole(nginx)
    assert host.stop(process) == 0


def test_idle_agent_is_small(server: AgentServer, host: AgentHost) -> None:
    process = host.start()
    host.said("agent.started")
    wait_for(lambda: server.heartbeats, 60, "a heartbeat")
    status = Path(f"/proc/{process.pid}/status").read_text()
    kilobytes = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert kilobytes < 60 * 1024
    assert host.stop(process) == 0
