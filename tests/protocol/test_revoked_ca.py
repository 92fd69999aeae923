"""An intermediate is revoked: the root's CRL and OCSP say so at once, and OpenSSL, which checks all, trusts it no more."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from certctl.pki.certs import load_certificate
from certctl.pki.pem import certificate_pem, read_certificates
from peers.fleet import Fleet, fleet

HERE = "/api/v1/issuers/iss-local/intermediates"


def openssl(*arguments: object, check: bool = True) -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(params=["sqlite", "postgresql"])
def town(request, tmp_path):
    url = request.getfixturevalue("postgres_server").new_database() if request.param == "postgresql" else None
    with fleet(tmp_path, url) as made:
        made.start_server()
        made.bootstrap()
        yield made


class Leaf:
    """A certificate whose key a client holds, as a relying party meets it: with its chain, and what they point at."""

    def __init__(self, town: Fleet, name: str) -> None:
        self.folder = town.directory / name
        self.folder.mkdir()
        self.town, self.path, self.chain = town, self.folder / "leaf.pem", self.folder / "chain.pem"
        request = openssl(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", "/dev/null", "-subj", f"/CN={name}.example", "-addext", f"subjectAltName=DNS:{name}.example",
        )  # fmt: skip
        pem = request[request.index("-----BEGIN") :]
        town.post("/api/v1/certificates", {"id": name, "common_name": f"{name}.example", "csr_pem": pem})
        town.wait(lambda: town.get(f"/api/v1/certificates/{name}")["status"] == "Active", "it is issued", 60)
        (self.version,) = town.get(f"/api/v1/certificates/{name}/versions")["data"]
        leaf, *above = read_certificates(self.version["pem_chain"])
        self.path.write_text(certificate_pem(leaf))
        self.chain.write_text("".join(map(certificate_pem, above)))
        self.certificates = [load_certificate(der) for der in (leaf, *above)]

    def judged(self) -> str:
        """What OpenSSL says of it with the CRL of every CA in the chain, fetched from where each certificate says."""
        crls = self.folder / "crls.pem"
        crls.write_text("".join(crl(where) for each in self.certificates for where in points(each)))
        checks = ["verify", "-x509_strict", "-crl_check_all", "-CAfile", self.town.ca_path, "-CRLfile", crls]
        return openssl(*checks, "-untrusted", self.chain, self.path, check=False)


def points(certificate: x509.Certificate) -> list[str]:
    """Where a certificate says its CRL is (RFC 5280 4.2.1.13)."""
    found = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    return [name.value for point in found for name in point.full_name or ()]


def crl(where: str) -> str:
    reply = httpx.get(where, timeout=20)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/pkix-crl")
    read = subprocess.run(
        ["openssl", "crl", "-inform", "der"], input=reply.content, capture_output=True, timeout=20, check=True
    )
    return read.stdout.decode()


def asked(town: Fleet, certificate: Path) -> str:
    """What the root's responder says of an intermediate."""
    where = openssl("x509", "-in", certificate, "-noout", "-ocsp_uri").strip()
    return openssl("ocsp", "-issuer", town.ca_path, "-cert", certificate, "-url", where, "-CAfile", town.ca_path)


def test_a_revoked_intermediate_is_trusted_no_more_and_its_successor_is(town: Fleet):
    old = Leaf(town, "old")
    assert old.judged() == f"{old.path}: OK\n"
    assert f"{old.chain}: good" in asked(town, old.chain)
    first = old.version["ca_certificate_id"]
    path = f"/api/v1/intermediates/{first}/revoke"

    # nothing would issue any more
    refused = town.call("POST", path, {"confirm": True})
    assert (refused.status_code, "successor" in refused.json()["detail"]) == (409, True)
    town.post(HERE, {"name": "second", "subject": {"common_name": "Second CA"}})
    new = Leaf(town, "new")
    assert new.version["ca_certificate_id"] != first

    # what is needed is not revoked by mistake
    needed = town.call("POST", path, {})
    assert (needed.status_code, needed.json()["code"]) == (409, "blocked_by_dependencies")
    # the control plane's own certificate is the other one
    assert needed.json()["counts"]["valid_certificates"] == 2
    for wrong in ("holiday", "certificateHold", "removeFromCRL"):
        assert town.call("POST", path, {"reason": wrong, "confirm": True}).status_code == 400
    assert old.judged() == f"{old.path}: OK\n"

    answer = town.post(path, {"confirm": True, "note": "the laptop was stolen"})
    assert (answer["state"], answer["revocation_reason"]) == ("retiring", "caCompromise")
    assert answer["revoked_at"]
    judged = old.judged()
    assert "error 23 at 1 depth lookup: certificate revoked" in judged
    revoked = asked(town, old.chain)
    assert f"{old.chain}: revoked" in revoked
    assert "Reason: cACompromise" in revoked
    assert new.judged() == f"{new.path}: OK\n"
    assert f"{new.chain}: good" in asked(town, new.chain)

    # again adds nothing; a root is not revoked; who may not, may not
    assert town.post(path, {"reason": "superseded"})["revoked_at"] == answer["revoked_at"]
    known = {one["id"]: one for one in town.get(HERE)["data"]}
    assert {one.get("revocation_reason", "") for one in known.values()} == {"", "caCompromise"}
    (root,) = [one["id"] for one in known.values() if one["kind"] == "root"]
    assert town.call("POST", f"/api/v1/intermediates/{root}/revoke", {"confirm": True}).status_code == 409
    assert town.call("POST", "/api/v1/intermediates/ica-none/revoke", {}).status_code == 404
    viewer = town.post("/api/v1/auth/keys", {"name": "viewer", "role_ids": ["r-viewer"]})["key_value"]
    assert town.call("POST", path, {"confirm": True}, viewer).status_code == 403
    events = [one for one in town.get("/api/v1/audit")["data"] if one["action"] == "ca_revoked"]
    assert len(events) == 1
    assert events[0]["details"]["note"] == "the laptop was stolen"


def test_what_stands_below_a_revoked_ca_issues_no_more(town: Fleet):
    """A CA for CAs is revoked: its child, which issued, stops; one beside it takes over."""
    policy = town.post(HERE, {"name": "policy", "subject": {"common_name": "Policy CA"}, "path_len_constraint": 1})
    child = town.post(HERE, {"name": "child", "subject": {"common_name": "Child CA"}, "parent_ca_id": policy["id"]})
    below = Leaf(town, "below")
    assert below.version["ca_certificate_id"] == child["id"]
    assert len(below.certificates) == 3
    assert below.judged() == f"{below.path}: OK\n"
    path = f"/api/v1/intermediates/{policy['id']}/revoke"
    assert town.call("POST", path, {"confirm": True}).status_code == 409, "its child is the only one that issues"
    beside = town.post(HERE, {"name": "beside", "subject": {"common_name": "Beside CA"}})
    town.post(path, {"confirm": True})
    assert "error 23 at 2 depth lookup: certificate revoked" in below.judged()
    assert town.get(f"/api/v1/intermediates/{child['id']}")["state"] == "retiring"
    assert Leaf(town, "after").version["ca_certificate_id"] == beside["id"]
