"""The runbook of backups, line by line: a real database with a life in it, lost and brought back."""

from __future__ import annotations

import subprocess

from docs import runbook
from docs.conftest import issue


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
