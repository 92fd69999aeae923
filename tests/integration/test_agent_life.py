"""A real agent process against a real HTTPS server: it is killed, cut off, retired and refused, and the story ends the same."""

from __future__ import annotations

import base64
import json
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certctl.pki.csr import read_csr
from certctl.pki.fingerprints import sha256_hex
from certctl.pki.keys import load_private_key, public_key_matches
from certctl.pki.pem import read_certificates
from peers.agent_host import AgentHost
from peers.agent_server import AgentServer, Step, TestCa, wait_for


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AgentServer]:
    folder = tmp_path / "server"
    folder.mkdir()
    with AgentServer(folder) as server:
        yield server


@pytest.fixture
def host(tmp_path: Path, server: AgentServer) -> Iterator[AgentHost]:
    with AgentHost(tmp_path, server) as host:
        yield host
        print(host.log())  # shown when the test fails


def add_prepare(server: AgentServer, number: int = 1, **fields: Any) -> Step:
    names = {"common_name": "shop.example", "sans": ["shop.example", "192.0.2.7"]}
    return server.add(
        **{"id": f"job-{number}", "step_id": f"step-p{number}", "step_kind": "prepare", **names, **fields}
    )


def issue(prepared: dict[str, Any]) -> str:
    csr = x509.load_pem_x509_csr(prepared["csr_pem"].encode())
    return TestCa().issue(csr.public_key(), "shop.example")


def add_deploy(server: AgentServer, host: AgentHost, leaf_pem: str, number: int = 1, **fields: Any) -> Step:
    config = {"folder": str(host.served), **fields.pop("config", {})}
    return server.add(
        **{
            "id": f"job-{number}",
            "step_id": f"step-d{number}",
            "step_kind": "deploy",
            "target_id": "t-1",
            "target_type": "FILE",
            "target_config": config,
            "version_id": f"cv-{number}",
            "key_job_id": f"job-{number}",
            "plan_id": f"dep-{number}",
            "certificate_pem": leaf_pem,
            "chain_pem": "",
            "fingerprint_sha256": sha256_hex(read_certificates(leaf_pem)[0]),
            **fields,
        }
    )


def assert_pair_is_whole(host: AgentHost) -> None:
    certificate = read_certificates((host.served / "cert.pem").read_text())[0]
    public_key_matches((host.served / "key.pem").read_bytes(), certificate)


def test_whole_story_and_no_key_leaves_the_host(server: AgentServer, host: AgentHost) -> None:
    prepare = add_prepare(server)
    rsa_prepare = add_prepare(server, 2, certificate_id="mc-2", key_algorithm="RSA-2048")
    process = host.start()
    facts = read_csr(server.took(prepare)["csr_pem"])
    assert [str(name) for name in facts.names] == ["shop.example", "192.0.2.7"]
    assert facts.key.kind == "ECDSA"
    assert read_csr(server.took(rsa_prepare)["csr_pem"]).key.size_bits == 2048

    leaf_pem = issue(server.took(prepare))
    result = server.took(add_deploy(server, host, leaf_pem))
    assert result["status"] == "Completed"
    assert result["receipt"]["fingerprint_sha256"] == sha256_hex(read_certificates(leaf_pem)[0])
    assert_pair_is_whole(host)

    common = {"target_id": "t-1", "target_type": "FILE", "target_config": {"folder": str(host.served)}}
    good = server.add(
        id="job-1",
        step_id="step-v1",
        step_kind="verify",
        fingerprint_sha256=result["receipt"]["fingerprint_sha256"],
        **common,
    )
    assert server.took(good)["verified"] is True
    drifted = server.add(id="job-1", step_id="step-v2", step_kind="verify", fingerprint_sha256="ab" * 32, **common)
    seen = server.took(drifted)
    assert (seen["verified"], seen["actual_fingerprint"]) == (False, result["receipt"]["fingerprint_sha256"])

    wait_for(lambda: server.heartbeats, 60, "a heartbeat")
    assert server.heartbeats[0]["capabilities"][:3] == ["prepare", "deploy", "verify"]
    assert host.stop(process) == 0, host.log()
    assert host.outbox() == []
    for certificate_id, job_id in (("mc-1", "job-1"), ("mc-2", "job-2")):
        assert_never_sent(server, host, host.key(certificate_id, job_id))
    assert len(server.connections) <= 4, "connections are kept alive"


def assert_never_sent(server: AgentServer, host: AgentHost, pem: bytes) -> None:
    """The key appears nowhere: not in PEM, DER, base64 or hex, and neither does its secret number."""
    key = load_private_key(pem)
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    old = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        numbers = [key.private_numbers().private_value]
    else:
        private = key.private_numbers()
        numbers = [private.d, private.p, private.q]
    raws = [number.to_bytes((number.bit_length() + 7) // 8, "big") for number in numbers]
    everything = b"\n".join(server.sent) + host.log().encode()
    squeezed = everything.replace(b"\\n", b"").replace(b"\n", b"")
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    needles = [pem, der, old, *raws]
    # A line of the PEM that holds only the public half may well stand in the CSR.
    needles += [line for line in pem.split(b"\n")[1:-2] if base64.b64decode(line) not in public]
    for raw in (der, old, *raws):
        needles += [raw.hex().encode(), raw.hex().upper().encode(), base64.urlsafe_b64encode(raw)]
        # Base64 of the raw bytes wherever they stand in a longer text: three ways to fall on the 6-bit grid.
        needles += [base64.b64encode(raw[skip:])[:-4] for skip in range(3)]
    needles += [str(number).encode() for number in numbers]
    for needle in needles:
        assert needle not in everything
        assert needle not in squeezed


@pytest.mark.parametrize(
    "point",
    [
        "agent.key.written",
        "agent.key.named",
        "agent.prepare.staged",
        "agent.outbox.written",
        "agent.outbox.named",
        "agent.prepare.kept",
        "agent.outbox.sent",
    ],
)
def test_killed_in_prepare(server: AgentServer, host: AgentHost, point: str) -> None:
    step = add_prepare(server)
    host.run_until_killed(point)
    staged = host.key("mc-1", "job-1") if (host.key_dir / "mc-1" / "job-1.key").exists() else None
    process = host.start()
    spki = read_csr(server.took(step)["csr_pem"]).spki_der
    key = load_private_key(host.key("mc-1", "job-1"))
    assert (
        key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        == spki
    )
    if staged is not None:
        assert host.key("mc-1", "job-1") == staged, "the same job finds the same key"
    assert host.stop(process) == 0
    assert host.outbox() == []
    assert [path.name for path in (host.key_dir / "mc-1").iterdir()] == ["job-1.key"], "no left-over of a key"


@pytest.mark.parametrize(
    "point",
    [
        "agent.intent.named",
        "agent.deploy.planned",
        "file.journal",
        "file.half",
        "agent.deploy.applied",
        "agent.deployed.named",
        "agent.outbox.named#2",
        "agent.deploy.kept",
    ],
)
def test_killed_in_deploy(server: AgentServer, host: AgentHost, point: str) -> None:
    prepared = add_prepare(server)
    first = host.start()
    leaf_pem = issue(server.took(prepared))
    assert host.stop(first) == 0
    step = add_deploy(server, host, leaf_pem)
    host.run_until_killed(point.removesuffix("#2"))
    process = host.start()
    assert server.took(step)["status"] == "Completed"
    assert_pair_is_whole(host)
    assert (host.served / "recovered").exists() == point.startswith("file.")
    wait_for(lambda: not list((host.state_dir / "deploys").iterdir()), 60, "the intent to be settled")
    index = json.loads((host.key_dir / "mc-1" / "deployed.json").read_text())
    assert [line["job_id"] for line in index] == ["job-1"]
    assert host.stop(process) == 0


def test_killed_in_deploy_settles_without_the_server(server: AgentServer, host: AgentHost) -> None:
    prepared = add_prepare(server)
    first = host.start()
    leaf_pem = issue(server.took(prepared))
    host.stop(first)
    add_deploy(server, host, leaf_pem)
    host.run_until_killed("file.half")
    server.stop()
    process = host.start()
    wait_for((host.served / "recovered").exists, 60, "the half-done pair to be finished")
    assert_pair_is_whole(host)
    assert host.stop(process) == 0


def test_results_outlive_a_server_that_is_down(server: AgentServer, host: AgentHost) -> None:
    step = add_prepare(server)
    deploying = None
    process = host.start()
    leaf_pem = issue(server.took(step))
    deploying = add_deploy(server, host, leaf_pem, config={"seconds": 1.0})
    wait_for((host.served / "begun").exists, 60, "the deployment to begin")
    server.stop()
    wait_for(lambda: len(host.outbox()) == 1, 60, "the result to be kept")
    assert host.outbox()[0].stat().st_mode & 0o777 == 0o600
    process.kill()
    process.wait(60)
    process = host.start()
    host.said("agent.result_waits")
    assert len(host.outbox()) == 1
    server.start()
    # well before the longest wait between two tries: that the server is back is noticed, not waited out
    assert server.took(deploying, 40)["status"] == "Completed"
    assert deploying.deliveries == 1, "told from the outbox, not done again"
    assert (host.served / "applied.log").read_text().split() == ["dep-1"]
    assert host.stop(process) == 0
    assert host.outbox() == []


def test_stale_fence_is_dropped_and_the_new_lease_answered(server: AgentServer, host: AgentHost) -> None:
    step = add_prepare(server)
    host.run_until_killed("agent.prepare.kept")
    waiting = json.loads(host.outbox()[0].read_text())
    step.fence += 1  # the lease lapsed and somebody else holds the step now
    process = host.start()
    assert host.said("agent.result_refused")["error"].startswith("the server answered 409")
    assert [stale["fence"] for stale in step.stale] == [waiting["fence"]]
    assert server.took(step)["fence"] > waiting["fence"]
    assert host.stop(process) == 0
    assert host.outbox() == []


def test_server_error_keeps_a_result_and_final_answer_drops_it(server: AgentServer, host: AgentHost) -> None:
    server.answers["csr"] = 503
    add_prepare(server)
    process = host.start()
    host.said("agent.result_waits")
    assert len(host.outbox()) == 1
    server.answers["csr"] = 422
    wait_for(lambda: not host.outbox(), 60, "the refused result to go")
    host.said("agent.result_refused")
    assert host.stop(process) == 0


def test_retired_agent_ends_quietly(server: AgentServer, host: AgentHost) -> None:
    server.answers["heartbeat"] = server.answers["work"] = 410
    process = host.start()
    assert process.wait(60) == 0
    assert "agent.retired" in host.log()


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credential_backs_off_and_says_so(server: AgentServer, host: AgentHost, status: int) -> None:
    assert host.run("enrol").returncode == 0
    server.answers["heartbeat"] = server.answers["work"] = status
    process = host.start()
    said = host.said("agent.poll_failed")
    assert "credential" in said["error"]
    assert said["level"] == "error"
    time.sleep(1.5)
    assert sum(path.endswith("/work") for _, path in server.calls) < 8
    server.answers.clear()
    step = add_prepare(server)
    server.took(step)
    assert host.stop(process) == 0


def test_sigterm_lets_steps_finish(server: AgentServer, host: AgentHost) -> None:
    prepared = add_prepare(server)
    process = host.start()
    step = add_deploy(server, host, issue(server.took(prepared)), config={"seconds": 1.0})
    wait_for((host.served / "begun").exists, 60, "the deployment to begin")
    assert host.stop(process) == 0
    assert step.result is not None
    assert step.result["status"] == "Completed"


def test_two_deployments_of_one_target_never_overlap(server: AgentServer, host: AgentHost) -> None:
    first, second = add_prepare(server, 1), add_prepare(server, 2, certificate_id="mc-2")
    process = host.start()
    leaves = [issue(server.took(first)), issue(server.took(second))]
    steps = [
        add_deploy(server, host, leaves[0], 1, config={"seconds": 0.3}),
        add_deploy(server, host, leaves[1], 2, certificate_id="mc-2", config={"seconds": 0.3}),
    ]
    assert [server.took(step)["status"] for step in steps] == ["Completed", "Completed"]
    assert not (host.served / "overlap").exists()
    assert_pair_is_whole(host)
    assert host.stop(process) == 0


def test_failures_are_reported_by_kind(server: AgentServer, host: AgentHost) -> None:
    prepared = add_prepare(server)
    process = host.start()
    leaf_pem = issue(server.took(prepared))
    other_pem = TestCa().issue(ec.generate_private_key(ec.SECP256R1()).public_key(), "shop.example")
    cases = {
        "rejected": add_deploy(server, host, leaf_pem, 11, key_job_id="job-1", config={"refuse": "no"}),
        "trust_error": add_deploy(server, host, other_pem, 12, key_job_id="job-1"),
        "misconfigured": add_deploy(server, host, leaf_pem, 13, key_job_id="job-of-another-host"),
        "unsupported": add_deploy(server, host, leaf_pem, 14, key_job_id="job-1", target_type="Toaster"),
        "malformed": add_deploy(server, host, leaf_pem, 15, key_job_id="job-1", config={"colour": "red"}),
        "internal": add_deploy(server, host, leaf_pem, 16, key_job_id="job-1", config={"bug": True}),
    }
    unknown_kind = server.add(id="job-17", step_id="step-17", step_kind="dance")
    escaping = add_prepare(server, 18, certificate_id="../../etc")
    for kind, step in cases.items():
        result = server.took(step)
        assert (result["status"], result["error_kind"]) == ("Failed", kind), result
    assert server.took(unknown_kind)["error_kind"] == "unsupported"
    assert server.took(escaping)["error_kind"] == "malformed"
    assert "Toaster" in server.took(cases["unsupported"])["error"]
    assert "a bug in a target" not in json.dumps(server.took(cases["internal"]))
    assert not (host.served / "cert.pem").exists()
    assert host.stop(process) == 0


def test_second_agent_on_one_state_folder_refuses(server: AgentServer, host: AgentHost) -> None:
    process = host.start()
    host.said("agent.started")
    second = host.run("run")
    assert second.returncode == 1
    assert f"process {process.pid}" in second.stderr
    assert json.loads(host.run("status", "--json").stdout)["running"] is True
    assert host.stop(process) == 0
    assert json.loads(host.run("status", "--json").stdout)["running"] is False


def test_enrol_then_run(server: AgentServer, host: AgentHost) -> None:
    del_token = {"CERTCTL_AGENT_ENROLMENT_TOKEN": ""}
    host.extra = del_token
    missing = host.run("run")
    assert missing.returncode == 3
    assert "certctl-agent enrol" in missing.stderr
    assert host.run("status").returncode == 3
    bad = host.run("enrol", "--token", "wrong", "--name", "web1")
    assert bad.returncode == 1
    assert "ask for a new one" in bad.stderr
    done = host.run("enrol", "--token", server.token, "--name", "web1")
    assert done.returncode == 0, done.stderr
    assert server.credential not in done.stdout + done.stderr
    assert stat.S_IMODE((host.state_dir / "agent.json").stat().st_mode) == 0o600
    assert len(set(server.attempts)) == 1, "every try carries one attempt id"
    assert host.run("enrol", "--token", server.token).returncode == 1, "an identity is never replaced"
    step = add_prepare(server)
    process = host.start()
    server.took(step)
    assert host.stop(process) == 0
    assert server.credential not in host.log()


def test_killed_between_enrolment_and_first_poll(server: AgentServer, host: AgentHost) -> None:
    host.run_until_killed("agent.identity.named")
    step = add_prepare(server)
    process = host.start()
    server.took(step)
    assert len(server.attempts) == 1, "the token is used once"
    assert host.stop(process) == 0


def test_reference_flags_need_no_enrolment(server: AgentServer, host: AgentHost) -> None:
    host.extra = {
        "CERTCTL_AGENT_ENROLMENT_TOKEN": "",
        "CERTCTL_SERVER_URL": "",
        "CERTCTL_SERVER_CA_BUNDLE_PATH": "",
        "CERTCTL_KEY_DIR": "",
    }
    step = add_prepare(server)
    process = host.start(
        "-server", server.url, "-api-key", server.credential, "-agent-id", server.agent_id, "-name", "web1",
        "-key-dir", str(host.key_dir), "-ca-bundle", str(server.ca_file),
    )  # fmt: skip
    server.took(step)
    assert host.stop(process) == 0
    assert host.key("mc-1", "job-1").startswith(b"-----BEGIN PRIVATE KEY-----")


def test_wrong_ca_bundle_is_told_plainly(server: AgentServer, host: AgentHost, tmp_path: Path) -> None:
    other = tmp_path / "other-ca.pem"
    other.write_text(TestCa("Server CA").pem)
    host.extra = {"CERTCTL_SERVER_CA_BUNDLE_PATH": str(other)}
    refused = host.run("enrol")
    assert refused.returncode == 1
    assert "is not trusted" in refused.stderr
    assert "CERTCTL_SERVER_CA_BUNDLE_PATH" in refused.stderr
    assert server.sent == [], "not a byte of the token went to a server that is not trusted"
    host.extra = {"CERTCTL_SERVER_CA_BUNDLE_PATH": str(tmp_path / "none.pem")}
    assert "none.pem" in host.run("enrol").stderr


def test_corrupt_identity_stops_the_agent(server: AgentServer, host: AgentHost) -> None:
    assert host.run("enrol").returncode == 0
    for text in ("", "{", '{"agent_id": "../x"}', "\x00" * 50):
        (host.state_dir / "agent.json").write_text(text)
        stopped = host.run("run")
        assert stopped.returncode == 1
        assert "cannot be read" in stopped.stderr
        assert (host.state_dir / "agent.json").read_text() == text
    assert len(server.attempts) == 1, "a broken identity never enrols anew by itself"


def test_corrupt_outbox_file_is_set_aside(server: AgentServer, host: AgentHost) -> None:
    step = add_prepare(server)
    host.run_until_killed("agent.prepare.kept")
    broken = host.state_dir / "outbox" / "000000000000-step-x.json"
    broken.write_text("{")
    process = host.start()
    assert host.said("agent.file_set_aside")["path"] == str(broken)
    server.took(step)
    assert host.stop(process) == 0
    assert len(list((host.state_dir / "outbox").glob("*.corrupt-*"))) == 1
    status = json.loads(host.run("status", "--json").stdout)
    assert len(status["corrupt_files"]) == 1


def test_loosened_modes_are_tightened(server: AgentServer, host: AgentHost) -> None:
    step = add_prepare(server)
    process = host.start()
    leaf_pem = issue(server.took(step))
    assert host.stop(process) == 0
    key = host.key_dir / "mc-1" / "job-1.key"
    host.key_dir.chmod(0o777)
    key.parent.chmod(0o755)
    key.chmod(0o644)
    process = host.start()
    assert server.took(add_deploy(server, host, leaf_pem))["status"] == "Completed"
    assert host.stop(process) == 0
    assert [stat.S_IMODE(path.stat().st_mode) for path in (host.key_dir, key.parent, key)] == [0o700, 0o700, 0o600]


def test_lost_lease_of_a_waiting_step_is_not_worked(server: AgentServer, host: AgentHost) -> None:
    prepared = add_prepare(server)
    process = host.start()
    leaf_pem = issue(server.took(prepared))
    first = add_deploy(server, host, leaf_pem, 1, config={"seconds": 2.0}, lease_seconds=3)
    wait_for((host.served / "begun").exists, 60, "the deployment to begin")
    second = add_deploy(server, host, leaf_pem, 2, key_job_id="job-1", lease_seconds=3)
    wait_for(lambda: second.leased, 60, "the second step to be leased")
    server.lost = [{"step_id": "step-d2", "fence": 1}]
    server.took(first)
    host.said("agent.step_passed_on")
    assert (host.served / "applied.log").read_text().split() == ["dep-1"]
    named = {lease["step_id"] for beat in server.heartbeats for lease in beat["leases"]}
    assert {"step-d1", "step-d2"} <= named, "heartbeats name the steps in hand"
    assert host.stop(process) == 0


def test_server_that_does_not_hold_the_poll_is_not_hammered(server: AgentServer, host: AgentHost) -> None:
    assert host.run("enrol").returncode == 0
    server.answers["work"] = 200
    process = host.start()

    def polls() -> int:
        return sum(path.endswith("/work") for _, path in server.calls)

    wait_for(polls, 60, "the first poll")
    begun, before = time.monotonic(), polls()
    time.sleep(3)
    # a machine that has other work may sleep longer: what is bounded is how many come in a second
    assert polls() - before < 4 * (time.monotonic() - begun)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
