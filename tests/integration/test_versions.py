"""One version: looked at, put back, exported as PKCS #12 that OpenSSL and Java open."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from certctl.pki.pem import read_certificates
from integration.api_house import hours, open_api


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def served_twice(api) -> tuple:
    """A certificate that was renewed once; its host, and its versions oldest first."""
    agent = await api.agent()
    target = await api.target(agent)
    body = {"id": "mc-a", "common_name": "a.example", "target_ids": [target], "validity_seconds": 90 * 86400}
    await api.made("/api/v1/certificates", body)
    await agent.serve()
    api.clock.moment += hours(1)
    await api.made("/api/v1/certificates/mc-a/renew", {}, 202)
    await agent.serve()
    versions = (await api.get("/api/v1/certificates/mc-a/versions"))["data"]
    return agent, versions[::-1]


def back(version_id: str) -> str:
    return f"/api/v1/certificates/mc-a/versions/{version_id}/rollback"


async def test_an_older_version_is_put_back_and_is_current_once_it_is_seen(api):
    agent, (old, new) = await served_twice(api)
    assert await api.get(f"/api/v1/certificates/mc-a/versions/{old['id']}") == old
    answer = await api.made(back(old["id"]), None, 202)
    assert (answer["status"], len(answer["job_ids"])) == ("rollback_triggered", 1)
    assert (await api.get(f"/api/v1/certificates/mc-a/versions/{old['id']}"))["status"] == "superseded"
    assert await agent.serve() == ["deploy", "verify"]
    assert agent.serves == old["fingerprint_sha256"]
    states = {row["id"]: row["status"] for row in (await api.get("/api/v1/certificates/mc-a/versions"))["data"]}
    assert states == {old["id"]: "current", new["id"]: "superseded"}
    (told,) = await api.events("rollback_triggered")
    assert told["details"]["version_id"] == old["id"]


async def test_what_is_not_put_back(api):
    agent, (old, new) = await served_twice(api)
    assert (await api.call("POST", back(new["id"]))).status_code == 409, "it is the current one"
    assert (await api.call("POST", back("certver-none"))).status_code == 404
    assert (await api.call("GET", "/api/v1/certificates/mc-a/versions/certver-none")).status_code == 404
    await api.made("/api/v1/certificates/mc-a/revoke", {"version_id": old["id"]}, 200)
    answer = await api.call("POST", back(old["id"]))
    assert (answer.status_code, "revoked" in answer.json()["message"]) == (409, True)
    api.clock.moment += hours(24 * 91)
    await agent.serve()
    answer = await api.call("POST", back(new["id"]))
    assert answer.status_code == 409
    assert len(await api.events("rollback_triggered")) == 0


async def test_another_certificates_version_is_not_found(api):
    _, (old, _) = await served_twice(api)
    await api.made("/api/v1/certificates", {"id": "mc-b", "common_name": "b.example"})
    assert (await api.call("GET", f"/api/v1/certificates/mc-b/versions/{old['id']}")).status_code == 404
    path = f"/api/v1/certificates/mc-b/versions/{old['id']}/rollback"
    assert (await api.call("POST", path)).status_code == 404
    await api.made("/api/v1/teams", {"id": "red", "name": "red"})
    limited = await api.key("r-admin", teams=["red"])
    assert (await api.call("POST", back(old["id"]), key=limited)).status_code == 404
    viewer = await api.key("r-viewer")
    assert (await api.call("POST", back(old["id"]), key=viewer)).status_code == 403


async def own(api, name: str = "a.example") -> None:
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    pem = csr_pem(build_csr(key, name, parse_names([name])))
    await api.made("/api/v1/certificates", {"id": "mc-a", "common_name": name, "csr_pem": pem})


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout + done.stderr


async def test_pkcs12_is_opened_by_openssl_and_java_and_holds_no_key(api, tmp_path):
    await own(api)
    path = "/api/v1/certificates/mc-a/export/pkcs12"
    answer = await api.call("POST", path, {"password": "correct horse – Batterie"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-pkcs12"
    assert 'filename="mc-a.p12"' in answer.headers["content-disposition"]
    file = tmp_path / "a.p12"
    file.write_bytes(answer.content)
    version = (await api.get("/api/v1/certificates/mc-a/versions"))["data"][0]
    told = run("openssl", "pkcs12", "-in", str(file), "-info", "-passin", "pass:correct horse – Batterie", "-nodes")
    assert "AES-256-CBC" in told
    assert "hmacWithSHA256" in told
    assert "PRIVATE KEY" not in told
    assert read_certificates(told) == read_certificates(version["pem_chain"])
    wrong = subprocess.run(
        ["openssl", "pkcs12", "-in", str(file), "-passin", "pass:other", "-nodes"], capture_output=True, check=False
    )
    assert wrong.returncode != 0
    plain = await api.call("POST", path, {"password": "changeit"})
    file.write_bytes(plain.content)
    if keytool := shutil.which("keytool"):
        listed = run(keytool, "-list", "-keystore", str(file), "-storetype", "PKCS12", "-storepass", "changeit")
        assert listed.count("trustedCertEntry") == len(read_certificates(version["pem_chain"]))
        assert version["fingerprint_sha256"].upper() in listed.replace(":", "")
    (first, _) = await api.events("certificate_exported")
    assert first["details"]["format"] == "pkcs12"
    assert "horse" not in str(first)


async def test_pkcs12_with_no_password_and_refused_ones(api, tmp_path):
    await own(api)
    path = "/api/v1/certificates/mc-a/export/pkcs12"
    for body in (None, {}, {"password": ""}):
        answer = await api.call("POST", path, body)
        assert answer.status_code == 200
    file = tmp_path / "a.p12"
    file.write_bytes(answer.content)
    assert "BEGIN CERTIFICATE" in run("openssl", "pkcs12", "-in", str(file), "-passin", "pass:", "-nodes")
    assert (await api.call("POST", path, {"password": "x" * 2000})).status_code == 400
    assert (await api.call("POST", path, {"password": 5})).status_code == 400
    assert (await api.call("POST", path, {"password": "x", "version_id": "certver-none"})).status_code == 404
    assert (await api.call("POST", "/api/v1/certificates/none/export/pkcs12", {})).status_code == 404
    await api.made("/api/v1/certificates/mc-a/revoke", {}, 200)
    assert (await api.call("POST", path, {})).status_code == 404
