"""CA generations: a new intermediate issues, the old one retires while CRL and OCSP go on; OpenSSL says the same."""

from __future__ import annotations

import subprocess
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from certctl.control import hierarchy
from certctl.core.names import parse_names
from certctl.lifecycle import flow, publish
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import load_certificate
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from certctl.pki.pem import certificate_pem, read_certificates
from certctl.protocols.pki.facts import LifecycleFacts
from certctl.telemetry import points
from integration.api_house import open_api

ISSUER = "/api/v1/issuers/iss-local/intermediates"


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def intermediate(api, name="Second", status=201, **more):
    body = {"name": name, "subject": {"common_name": f"{name} CA"}} | more
    return await api.made(ISSUER, body, status=status)


async def issue(api, name):
    """A certificate for a client's key; returns its id and its newest version."""
    pem = csr_pem(build_csr(generate_private_key(KeyAlgorithm.ECDSA_P256), name, parse_names([name])))
    made = await api.made("/api/v1/certificates", {"common_name": name, "csr_pem": pem, "validity_seconds": 86400})
    for job in (await api.get(f"/api/v1/jobs?certificate_id={made['id']}"))["data"]:
        await flow.drive(api.house.ctx, job["id"], timedelta(seconds=30))
    found = (await api.get(f"/api/v1/certificates/{made['id']}/versions"))["data"]
    return made["id"], found[0] if found else None


def openssl(folder, version, root_pem, *options):
    leaf, *chain = read_certificates(version["pem_chain"])
    (folder / "leaf.pem").write_text(certificate_pem(leaf))
    (folder / "chain.pem").write_text("".join(map(certificate_pem, chain)))
    (folder / "root.pem").write_text(root_pem)
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        *options,
        "-CAfile",
        "root.pem",
        "-untrusted",
        "chain.pem",
        "leaf.pem",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


async def root_of(api):
    return next(ca for ca in (await api.get(ISSUER))["data"] if ca["kind"] == "root")


async def test_a_new_generation_issues_and_the_old_one_retires(api, tmp_path):
    root = await root_of(api)
    (first,) = [ca for ca in (await api.get(ISSUER))["data"] if ca["kind"] == "intermediate"]
    assert (first["state"], first["issues_leaves"], first["parent_ca_id"]) == ("active", True, root["id"])
    old_id, old = await issue(api, "old.example")
    assert old["ca_certificate_id"] == first["id"]

    made = await intermediate(
        api,
        subject={"common_name": "Second CA", "organization": ["Example Ltd"], "country": ["DE"]},
        algorithm="ecdsa-p384",
        metadata={"ticket": "CA-7"},
    )
    assert {
        "id", "owning_issuer_id", "parent_ca_id", "name", "subject", "state", "cert_pem", "key_driver_id",
        "not_before", "not_after", "ocsp_responder_url", "metadata", "created_at", "updated_at",
    } <= set(made)  # fmt: skip
    assert (made["owning_issuer_id"], made["state"], made["generation"]) == ("iss-local", "active", 2)
    assert made["subject"] == "CN=Second CA,O=Example Ltd,C=DE"
    assert made["path_len_constraint"] == 0
    assert "PRIVATE" not in str(made)
    assert (await api.get(f"/api/v1/intermediates/{first['id']}"))["state"] == "retiring"

    _, new = await issue(api, "new.example")
    assert new["ca_certificate_id"] == made["id"]
    for version in (old, new):
        assert openssl(tmp_path, version, root["cert_pem"]) == "leaf.pem: OK\n"

    # what the old one signed can be revoked, and its CRL and OCSP say so
    assert (await api.call("POST", f"/api/v1/certificates/{old_id}/revoke", {"reason": "superseded"})).is_success
    ctx = api.house.ctx
    crl = x509.load_der_x509_crl((await publish.current_crl(ctx, first["id"])).crl_der)
    assert crl.get_revoked_certificate_by_serial_number(int(old["serial_number"], 16)) is not None
    ca = publish.require_ca(await publish.find_ca(ctx, first["id"]), first["id"])
    issuer = load_certificate(ca.certificate_der)
    leaf = load_certificate(read_certificates(old["pem_chain"])[0])
    asked = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA256()).build()
    request = asked.public_bytes(serialization.Encoding.DER)
    answered = ocsp.load_der_ocsp_response((await LifecycleFacts(ctx).ocsp(ca.id, request)).der)
    assert answered.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert publish.require_ca(await publish.find_ca(ctx, "iss-local"), "").id == made["id"], "the alias follows"

    retire = f"/api/v1/intermediates/{first['id']}/retire"
    assert await api.made(retire, {"confirm": True, "note": "gone"}, status=200) == {
        "id": first["id"], "decided_by": "admin", "confirmed": True,
    }  # fmt: skip
    assert (await api.made(retire, {"confirm": True}, status=200))["confirmed"] is True
    assert [event["type"] for event in await api.events("ca_retired")] == ["ca_retired"]


async def test_one_that_is_needed_is_not_retired(api):
    root = await root_of(api)
    (first,) = [ca for ca in (await api.get(ISSUER))["data"] if ca["kind"] == "intermediate"]
    await issue(api, "a.example")
    path = "/api/v1/intermediates/{}/retire"
    assert (await api.call("POST", path.format(root["id"]), {})).status_code == 409
    answer = await api.call("POST", path.format(first["id"]), {"confirm": True})
    assert answer.status_code == 409
    assert "successor" in answer.json()["message"]
    policy = await intermediate(api, "Policy", path_len_constraint=1)
    assert policy["issues_leaves"] is False
    assert (await api.get(f"/api/v1/intermediates/{first['id']}"))["state"] == "active", "it issues on"
    child = await intermediate(api, "Child", parent_ca_id=policy["id"])
    answer = await api.call("POST", path.format(first["id"]), {"confirm": True})
    assert answer.status_code == 409
    assert answer.json()["error"] == "blocked_by_dependencies"
    assert answer.json()["counts"] == {"active_children": 0, "valid_certificates": 1, "open_orders": 0}
    assert (await api.made(path.format(policy["id"]), {"confirm": True}, status=200))["confirmed"] is False
    answer = await api.call("POST", path.format(policy["id"]), {"confirm": True})
    assert answer.json()["counts"]["active_children"] == 1
    assert (await api.get(f"/api/v1/intermediates/{child['id']}"))["state"] == "active"
    for other in ("nobody", first["id"]):
        key = await api.key("r-viewer")
        assert (await api.call("POST", path.format(other), {}, key=key)).status_code == 403
    assert (await api.call("POST", path.format("nobody"), {})).status_code == 404


async def test_path_length_and_name_constraints_hold(api, tmp_path):
    root = await root_of(api)
    limits = [{"permitted": ["corp.example", "10.0.0.0/8"], "excluded": ["secret.corp.example"]}]
    policy = await intermediate(api, "Corp", path_len_constraint=1, name_constraints=limits)
    assert policy["name_constraints"] == limits
    child = await intermediate(
        api, "Corp Web", parent_ca_id=policy["id"], name_constraints=[{"permitted": ["web.corp.example"]}]
    )
    for wrong in (
        {"path_len_constraint": 1},
        {"name_constraints": [{"permitted": ["other.example"]}]},
        {"name_constraints": [{"permitted": ["corp.example", "11.0.0.0/8"]}]},
        {"algorithm": "RSA-2048"},
        {"subject": {"common_name": "Corp CA"}},
    ):
        answer = await api.call(
            "POST", ISSUER, {"name": "x", "subject": {"common_name": "X"}, "parent_ca_id": policy["id"]} | wrong
        )
        assert answer.status_code == 400, (wrong, answer.text)
    _, inside = await issue(api, "a.web.corp.example")
    assert inside["ca_certificate_id"] == child["id"]
    assert len(read_certificates(inside["pem_chain"])) == 3
    assert openssl(tmp_path, inside, root["cert_pem"]) == "leaf.pem: OK\n"
    for name in ("a.corp.example", "x.secret.corp.example", "other.example"):
        certificate_id, version = await issue(api, name)
        assert version is None, name
        (job,) = (await api.get(f"/api/v1/jobs?certificate_id={certificate_id}"))["data"]
        assert job["status"] == "Failed"
        assert "name_is_outside_the_cas_constraints" in job["last_error"]


async def test_what_is_not_supported_says_so(api):
    before = (await api.get(ISSUER))["total"]
    good = {"name": "x", "subject": {"common_name": "X"}}
    root_pem = (await root_of(api))["cert_pem"]
    for change, field in (
        ({"root_cert_pem": root_pem}, "root_cert_pem"),
        ({"key_driver_id": "pkcs11"}, "key_driver_id"),
        ({"ocsp_responder_url": "http://ocsp.example"}, "ocsp_responder_url"),
        ({"algorithm": "DSA"}, "algorithm"),
        ({"parent_ca_id": "ica-none"}, "parent_ca_id"),
        ({"name": ""}, "name"),
        ({"ttl_days": 0}, "ttl_days"),
        ({"path_len_constraint": -1}, "path_len_constraint"),
        ({"name_constraints": [{"permitted": ["*.example"]}]}, "name_constraints.permitted"),
        ({"name_constraints": [{"excluded": ["10.0.0.1/8"]}]}, "name_constraints.excluded"),
        ({"colour": 1}, "colour"),
    ):
        answer = await api.call("POST", ISSUER, good | change)
        assert answer.status_code == 400, (change, answer.text)
        assert answer.json()["violations"][0]["field"] == field
    for subject in ({"common_name": ""}, {"common_name": "x" * 65}, {"common_name": "X", "country": ["Germany"]}):
        assert (await api.call("POST", ISSUER, good | {"subject": subject})).status_code == 400
    assert (await api.call("POST", "/api/v1/issuers/iss-none/intermediates", good)).status_code == 404
    operator = await api.key("r-operator")
    for method, path in (("GET", ISSUER), ("POST", ISSUER), ("GET", "/api/v1/intermediates/x")):
        assert (await api.call(method, path, good if method == "POST" else None, key=operator)).status_code == 403
    assert (await api.get(ISSUER))["total"] == before
    await intermediate(api, "Taken")
    assert (await api.call("POST", ISSUER, good | {"name": "Taken"})).status_code == 409


@pytest.mark.parametrize("point", ["commit.ca.intent.after", "ca.signing", "ca.signed", "commit.ca.record.before"])
async def test_an_intent_that_was_left_is_finished_with_the_same_bytes(api, monkeypatch, point):
    """The row is there before the signature; whoever comes next signs the stored bytes and records them once."""

    class Died(Exception):
        pass

    signed = []
    sign = hierarchy.sign_intermediate

    async def watched(*arguments):
        signed.append(await sign(*arguments))
        return signed[-1]

    monkeypatch.setattr(hierarchy, "sign_intermediate", watched)
    reach = points.reach

    def die(name):
        reach(name)
        if name == point:
            raise Died

    monkeypatch.setattr(points, "reach", die)
    body = {"name": "Second", "subject": {"common_name": "Second CA"}}
    assert (await api.call("POST", ISSUER, body)).status_code == 500
    monkeypatch.setattr(points, "reach", reach)
    assert (await api.get(ISSUER))["total"] == 2
    assert await hierarchy.finish(api.house.ctx) == 0, "its maker may be at it still"
    api.clock.moment += timedelta(minutes=2)
    assert await hierarchy.finish(api.house.ctx) == 1
    assert await hierarchy.finish(api.house.ctx) == 0
    newest, *_ = (await api.get(ISSUER))["data"]
    assert (newest["name"], newest["state"], newest["issues_leaves"]) == ("Second", "active", True)
    assert {certificate_pem(der) for der in signed} == {newest["cert_pem"]}
    assert len(await api.events("ca_created")) == 2, "the installation's, and this one"
