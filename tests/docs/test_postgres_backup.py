"""The runbook of backups, line by line: a real database with a life in it, lost and brought back."""

from __future__ import annotations

import subprocess

import pytest

from docs import runbook
from peers.fleet import Fleet


@pytest.fixture
def fleet(tmp_path, postgres_server):
    # the runbook speaks of a database called certctl: one test at a time has it in its own cluster
    for name in ("certctl", "certctl_restored", "certctl_broken"):
        postgres_server.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    postgres_server.sql("CREATE DATABASE certctl")
    fleet = Fleet(tmp_path / "fleet", f"postgres://certctl@127.0.0.1:{postgres_server.port}/certctl")
    try:
        fleet.start_server()
        fleet.bootstrap()
        yield fleet
    finally:
        fleet.stop()
        for name in ("certctl", "certctl_restored", "certctl_broken"):
            postgres_server.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def issue(fleet, tmp_path, certificate_id):
    key, csr = tmp_path / f"{certificate_id}.key", tmp_path / f"{certificate_id}.csr"
    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key]
        + [
            "-out",
            csr,
            "-subj",
            f"/CN={certificate_id}.example",
            "-addext",
            f"subjectAltName=DNS:{certificate_id}.example",
        ],
        check=True,
        capture_output=True,
    )
    body = {"id": certificate_id, "common_name": f"{certificate_id}.example", "csr_pem": csr.read_text()}
    fleet.post("/api/v1/certificates", body)
    fleet.wait(lambda: fleet.get(f"/api/v1/certificates/{certificate_id}")["status"] == "Active", "it is issued")


def test_a_lost_database_is_brought_back_by_the_runbook(fleet, tmp_path, postgres_server):
    environ = {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres_server.port),
        "PGUSER": "certctl",
        "CERTCTL_SERVER_URL": fleet.url,
        "CERTCTL_SERVER_CA_BUNDLE_PATH": str(fleet.ca_path),
        "CERTCTL_API_KEY": fleet.key,
    }
    folder = tmp_path / "reader"
    folder.mkdir()
    steps = runbook.lines("postgres-backup")
    assert {"Back up", "Try it: a restore into another database", "Restore after a loss"} == {s.heading for s in steps}
    assert not [word for step in steps for word in runbook.placeholders(step.command)]

    issue(fleet, tmp_path, "before")
    for step in (s for s in steps if s.heading == "Back up"):
        runbook.run(step, folder, environ)
    known = len(fleet.get("/api/v1/certificates")["data"])
    issue(fleet, tmp_path, "after")
    for step in (s for s in steps if s.heading.startswith("Try it")):
        said = runbook.run(step, folder, environ)
        if "managed_certificates" in step.command:
            assert int(said) == known, "the dump holds what was there when it was made"

    fleet.stop_server()
    for step in (s for s in steps if s.heading == "Restore after a loss"):
        if step.command.startswith("certctl"):
            break
        runbook.run(step, folder, environ)
    fleet.start_server()
    for step in (s for s in steps if s.command.startswith("certctl ")):
        runbook.run(step, folder, environ)
    ids = {row["id"] for row in fleet.get("/api/v1/certificates")["data"]}
    assert "before" in ids
    assert "after" not in ids
    version = fleet.get("/api/v1/certificates/before/versions")["data"][0]
    crl_and_ocsp = f"http://127.0.0.1:{fleet.pki_port}/.well-known/pki"
    (tmp_path / "leaf.pem").write_text(version["pem_chain"])
    issuer = fleet.get("/api/v1/certificates/before/export/pem")["chain_pem"]
    (tmp_path / "issuer.pem").write_text(issuer)
    told = subprocess.run(
        [
            "openssl",
            "ocsp",
            "-issuer",
            tmp_path / "issuer.pem",
            "-cert",
            tmp_path / "leaf.pem",
            "-CAfile",
            fleet.ca_path,
        ]
        + ["-url", f"{crl_and_ocsp}/ocsp/iss-local", "-resp_text"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Cert Status: good" in told.stdout, "the CA key came back sealed, and opens"
