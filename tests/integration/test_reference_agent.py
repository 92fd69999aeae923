"""A real server, a real NGINX and an agent that speaks the reference product's calls alone: the whole life works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from peers.fleet import SITE, Fleet, fleet
from peers.nginx import NGINX
from peers.ports import free_port
from peers.reference_agent import ReferenceAgent


def key_for(house: Fleet, agent_id: str, name: str) -> str:
    wanted = {"name": name, "role_ids": ["r-agent"], "agent_id": agent_id}
    return str(house.post("/api/v1/auth/keys", wanted)["key_value"])


def target_config(house: Fleet) -> dict[str, Any]:
    nginx = house.nginx
    reload = f"{NGINX} -p {nginx.dir} -c {nginx.conf} -e {nginx.dir}/error.log -s reload"
    return nginx.target_config | {"reload_command": reload, "validate_command": "true"}


@pytest.fixture
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("reference")) as made:
        made.nginx.start()
        made.start_server()
        made.bootstrap()
        yield made


@pytest.fixture
def agent(house: Fleet) -> Iterator[ReferenceAgent]:
    registered = house.post("/api/v1/agents", {"name": "legacy-1", "hostname": "legacy", "os": "linux"})
    assert registered["status"] == "Unknown"
    assert "credential" not in registered
    key = key_for(house, registered["id"], "legacy-1")
    made = ReferenceAgent(
        house.url, house.ca_path, registered["id"], key, house.directory / "legacy-keys", look=house.nginx.served
    )
    house.agent_id = made.id
    body = {"name": "nginx", "type": "NGINX", "agent_id": made.id, "config": target_config(house)}
    house.target_id = house.post("/api/v1/targets", body)["id"]
    yield made
    made.close()


def live_agent(house: Fleet, agent: ReferenceAgent, versions: int) -> None:
    """Poll until the newest version is verified on the target."""

    def turn() -> bool:
        agent.poll()
        return house.verified("cert-shop", versions)

    house.wait(turn, "the reference agent's certificate is verified")


@pytest.fixture
def _served(house: Fleet, agent: ReferenceAgent) -> None:
    """A certificate that the agent has deployed and that was seen to be served."""
    house.request()
    live_agent(house, agent, 1)


def test_it_issues_deploys_and_renews(house: Fleet, agent: ReferenceAgent) -> None:
    assert agent.heartbeat().json()["status"] == "heartbeat_recorded"
    house.request(sans=[SITE, f"www.{SITE}"])
    (job,) = agent.work()
    assert {name: job[name] for name in ("type", "certificate_id", "status", "common_name", "sans")} == {
        "type": "Issuance",
        "certificate_id": "cert-shop",
        "status": "AwaitingCSR",
        "common_name": SITE,
        "sans": [SITE, f"www.{SITE}"],
    }
    assert set(job) == {"id", "type", "certificate_id", "status", "common_name", "sans"}
    # it asks again, as it does every 30 s, and gets the same job: its answer was lost
    (again,) = agent.work()
    assert again == job
    csr = agent.make_csr(job)
    assert agent.post_csr(csr, "cert-shop").status_code == 202
    repeated = agent.post_csr(csr, "cert-shop")
    assert (repeated.status_code, repeated.json()) == (202, {"status": "csr_signed"})
    assert house.get("/api/v1/certificates/cert-shop/versions")["total"] == 1
    live_agent(house, agent, 1)
    first = house.nginx.served()
    deployment = house.get("/api/v1/certificates/cert-shop/deployments")["data"][0]["deployment"]
    assert deployment["observed_fingerprint"] == first

    house.post("/api/v1/certificates/cert-shop/renew")
    live_agent(house, agent, 2)
    # a worker of NGINX that is ending may still take a connection or two
    house.wait(lambda: house.nginx.served() != first, "NGINX serves the new certificate")
    assert house.get("/api/v1/certificates/cert-shop")["status"] == "Active"


def test_the_same_on_postgresql(tmp_path: Path, postgres_server: Any) -> None:
    with fleet(tmp_path, postgres_server.new_database()) as house:
        house.nginx.start()
        house.start_server()
        house.bootstrap()
        agent_id = house.post("/api/v1/agents", {"name": "legacy-1", "hostname": "legacy"})["id"]
        key, folder = key_for(house, agent_id, "legacy-1"), tmp_path / "legacy-keys"
        agent = ReferenceAgent(house.url, house.ca_path, agent_id, key, folder, look=house.nginx.served)
        body = {"name": "nginx", "type": "NGINX", "agent_id": agent_id, "config": target_config(house)}
        house.target_id = house.post("/api/v1/targets", body)["id"]
        house.request()
        live_agent(house, agent, 1)
        # not on one machine by its own word: a loopback endpoint is the agent's, the server does not look there
        agent.look = None
        (job_id,) = house.post("/api/v1/certificates/cert-shop/deploy")["job_ids"]
        agent.poll()
        house.wait(lambda: house.get(f"/api/v1/jobs/{job_id}")["status"] == "Completed", "nobody can look")
        assert deployment_of(house)["status"] == "applied"
        assert "loopback" in house.get(f"/api/v1/jobs/{job_id}")["verification_error"]
        agent.close()


def deployment_of(house: Fleet) -> dict[str, Any]:
    return dict(house.get("/api/v1/certificates/cert-shop/deployments")["data"][0]["deployment"])


@pytest.mark.usefixtures("_served")
def test_an_agent_that_does_not_look_is_looked_after_by_the_server(house: Fleet, agent: ReferenceAgent) -> None:
    look, agent.look = agent.look, None
    try:
        house.post("/api/v1/certificates/cert-shop/renew")
        live_agent(house, agent, 2)
    finally:
        agent.look = look
    assert deployment_of(house)["observed_fingerprint"] == house.nginx.served()


@pytest.mark.usefixtures("_served")
def test_a_word_alone_is_never_green(house: Fleet, agent: ReferenceAgent) -> None:
    served = house.nginx.served()
    dead = target_config(house) | {"endpoint": f"127.0.0.1:{free_port()}"}
    house.call("PUT", f"/api/v1/targets/{house.target_id}", {"config": dead})
    try:
        house.post("/api/v1/certificates/cert-shop/deploy")
        (job,) = [item for item in agent.work() if item["type"] == "Deployment"]
        assert agent.status(job["id"], "Running").status_code == 200
        assert agent.status(job["id"], "Completed").status_code == 200

        def ended() -> bool:
            return bool(house.get(f"/api/v1/jobs/{job['id']}")["status"] == "Completed")

        house.wait(ended, "the server gives up looking")
        state = deployment_of(house)
        assert (state["status"], state.get("verified_at")) == ("applied", None)
        seen = house.get(f"/api/v1/jobs/{job['id']}/verification")
        assert (seen["verified"], "cannot look at" in seen["error"]) == (False, True)
        # the agent's own sight, when it comes after all, is an observation; another fingerprint changes nothing
        assert agent.verify(job, served, "ab" * 32).json()["verified"] is False
        assert deployment_of(house)["status"] == "applied"
        assert agent.verify(job, served, "").status_code == 400
        assert agent.verify(job, served, served).json()["verified"] is True
        assert deployment_of(house)["status"] == "verified"
    finally:
        house.call("PUT", f"/api/v1/targets/{house.target_id}", {"config": target_config(house)})


@pytest.mark.usefixtures("_served")
def test_what_is_served_wins_over_what_is_said(house: Fleet, agent: ReferenceAgent) -> None:
    house.post("/api/v1/certificates/cert-shop/renew")
    house.wait(lambda: any(done.startswith("csr") for done in agent.poll()), "a CSR is sent")
    job: dict[str, Any] = {}

    def found() -> bool:
        job.update(next((item for item in agent.work() if item["type"] == "Deployment"), {}))
        return bool(job)

    house.wait(found, "the deployment is handed out")
    assert agent.status(job["id"], "Completed").status_code == 200  # a lie: nothing was written

    def seen() -> bool:
        return bool(house.get(f"/api/v1/jobs/{job['id']}").get("verification_status") == "failed")

    house.wait(seen, "the server sees another certificate")
    assert deployment_of(house)["status"] == "applied"
    house.post("/api/v1/certificates/cert-shop/deploy")
    live_agent(house, agent, 2)


@pytest.mark.usefixtures("_served")
def test_failed_is_told_and_tried_again(house: Fleet, agent: ReferenceAgent) -> None:
    house.post("/api/v1/certificates/cert-shop/deploy")
    (job,) = agent.work()
    assert agent.status(job["id"], "Failed", "reload: exit status 1").status_code == 200
    shown = house.get(f"/api/v1/jobs/{job['id']}")
    assert (shown["status"], shown["last_error"]) == ("Running", "reload: exit status 1")
    live_agent(house, agent, 1)


def make_csr(name: str) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.usefixtures("_served")
def test_a_csr_goes_to_one_open_job_or_to_none(house: Fleet, agent: ReferenceAgent) -> None:
    # nothing awaits one: the reference product would issue at once
    refused = agent.post_csr(make_csr(SITE), "cert-shop")
    assert refused.status_code == 409
    assert "awaits a CSR" in refused.text
    ids = []
    for name in ("a", "b"):
        wanted = {"id": f"cert-{name}", "common_name": f"{name}.example", "target_ids": []}
        config = target_config(house) | {
            "cert_path": str(house.nginx.tls_dir / f"{name}.pem"),
            "key_path": str(house.nginx.tls_dir / f"{name}.key"),
        }
        body = {"name": f"nginx-{name}", "type": "NGINX", "agent_id": agent.id, "config": config}
        wanted["target_ids"] = [house.post("/api/v1/targets", body)["id"]]
        house.post("/api/v1/certificates", wanted)
    ids = [item["id"] for item in agent.work()]
    assert len(ids) == 2
    ambiguous = agent.post_csr(make_csr("a.example"), "")
    assert ambiguous.status_code == 409
    assert all(job_id in ambiguous.text for job_id in ids)
    # names come from the approved request, never from the CSR
    assert agent.post_csr(make_csr("evil.example"), "cert-a").status_code in {403, 422}
    assert agent.post_csr(make_csr("a.example"), "cert-a").status_code == 202
    for name in ("a", "b"):
        house.call("DELETE", f"/api/v1/certificates/cert-{name}")


@pytest.mark.usefixtures("_served")
def test_a_key_is_good_for_its_one_agent_and_nothing_else(house: Fleet, agent: ReferenceAgent) -> None:
    other = house.post("/api/v1/agents", {"name": "legacy-2", "hostname": "other"})
    stranger = key_for(house, other["id"], "legacy-2")
    assert house.call("GET", f"/api/v1/agents/{agent.id}/work", key=stranger).status_code == 403
    assert house.call("GET", f"/api/v1/agents/{agent.id}/certificates/cert-shop", key=stranger).status_code == 403
    own = f"/api/v1/agents/{other['id']}"
    assert house.call("GET", f"{own}/work", key=stranger).json() == {"jobs": [], "count": 0}
    assert house.call("GET", f"{own}/certificates/cert-shop", key=stranger).status_code == 404
    job = house.get("/api/v1/jobs?type=Deployment&status=Completed")["data"][0]
    said = {"target_id": job["target_id"], "expected_fingerprint": "ab", "actual_fingerprint": "ab"}
    assert house.call("POST", f"/api/v1/jobs/{job['id']}/verify", said, key=stranger).status_code == 404
    assert house.call("POST", f"{own}/jobs/{job['id']}/status", {"status": "Failed"}, key=stranger).status_code == 409
    assert house.call("GET", "/api/v1/certificates", key=stranger).status_code == 403
    assert house.call("POST", "/api/v1/agents", {"name": "x", "hostname": "x"}, key=stranger).status_code == 403
    assert house.call("GET", f"{own}/work", key=house.key).status_code == 403, "an unbound key is no agent"
    for wrong in ({"role_ids": ["r-admin"]}, {"role_ids": ["r-agent"], "teams": ["t"]}):
        body = {"name": "wrong", "agent_id": other["id"]} | wrong
        assert house.call("POST", "/api/v1/auth/keys", body).status_code == 400
    nobody = {"name": "nobody", "role_ids": ["r-agent"], "agent_id": "agent-none"}
    assert house.call("POST", "/api/v1/auth/keys", nobody).status_code == 400
    house.call("DELETE", f"/api/v1/agents/{other['id']}?force=true&reason=test")
    assert house.call("POST", f"{own}/heartbeat", {}, key=stranger).status_code == 410


def test_a_modern_credential_still_needs_its_lease(house: Fleet, agent: ReferenceAgent) -> None:
    del agent
    token = house.post("/api/v1/agents/enrolment-tokens", {"agent_name": "modern"})["token"]
    modern = house.call("POST", "/api/v1/agents", {"name": "modern", "hostname": "m"}, key=token).json()
    config = house.nginx.target_config | {"cert_path": str(house.nginx.tls_dir / "m.pem")}
    body = {"name": "modern", "type": "NGINX", "agent_id": modern["id"], "config": config}
    commands = body | {"config": config | {"reload_command": "id"}}
    assert house.call("POST", "/api/v1/targets", commands).status_code == 400, "a server brings no commands to a host"
    wanted = {"id": "cert-m", "common_name": "m.example", "target_ids": [house.post("/api/v1/targets", body)["id"]]}
    house.post("/api/v1/certificates", wanted)
    own, key = f"/api/v1/agents/{modern['id']}", modern["credential"]
    (item,) = house.call("GET", f"{own}/work?boot_id=b", key=key).json()["jobs"]
    bare = {"csr_pem": make_csr("m.example"), "certificate_id": "cert-m"}
    assert house.call("POST", f"{own}/csr", bare, key=key).status_code == 409
    assert house.call("POST", f"{own}/jobs/{item['id']}/status", {"status": "Failed"}, key=key).status_code == 409
    leased = bare | {"step_id": item["step_id"], "fence": item["fence"]}
    assert house.call("POST", f"{own}/csr", leased, key=key).status_code == 202
    (item,) = house.call("GET", f"{own}/work?boot_id=b", key=key).json()["jobs"]
    done = {"status": "Completed"}
    assert house.call("POST", f"{own}/jobs/{item['id']}/status", done, key=key).status_code == 409
    fp = item["fingerprint_sha256"]
    said = {"target_id": item["target_id"], "expected_fingerprint": fp, "actual_fingerprint": fp, "verified": True}
    assert house.call("POST", f"/api/v1/jobs/{item['id']}/verify", said, key=key).status_code == 409
    bad = done | {"step_id": item["step_id"], "fence": item["fence"]}
    assert house.call("POST", f"{own}/jobs/{item['id']}/status", bad, key=key).status_code == 200
    assert house.get(f"/api/v1/jobs/{item['id']}")["status"] == "Failed", "no receipt, no deployment"
    assert Path(house.nginx.cert_path).exists()
