"""A real control plane for the reader of a runbook, on a database called certctl, as the runbooks have it."""

from __future__ import annotations

import subprocess

import pytest

from peers.fleet import Fleet


@pytest.fixture
def fleet(tmp_path, postgres_server):
    # the runbooks speak of a database called certctl: one test at a time has it in its own cluster
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
