"""OpenSSL as a relying party of a real control plane: chain, CRL and OCSP, and a revocation seen at once."""

from __future__ import annotations

import subprocess

import httpx
import pytest

from peers.fleet import Fleet, fleet
from peers.postgres import Postgres


def openssl(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30, check=check)


@pytest.fixture(params=["sqlite", "postgresql"])
def town(request, tmp_path):
    url = None
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres_server")
        url = server.new_database()
    with fleet(tmp_path, url) as made:
        yield made


def _crl(town: Fleet, name: str) -> tuple[object, int]:
    reply = httpx.get(f"http://127.0.0.1:{town.pki_port}/.well-known/pki/crl/{name}", timeout=60)
    assert reply.status_code == 200
    path = town.directory / "ca.crl"
    path.write_bytes(reply.content)
    number = openssl("crl", "-inform", "der", "-in", path, "-noout", "-crlnumber").stdout.strip().partition("=")[2]
    pem = town.directory / "ca.crl.pem"
    openssl("crl", "-inform", "der", "-in", path, "-out", pem)
    return pem, int(number, 16)


def test_openssl_trusts_checks_and_sees_the_revocation(town: Fleet):
    town.furnish()
    town.request()
    town.wait(lambda: town.verified("cert-shop"), "the certificate is served")
    version = town.get("/api/v1/certificates/cert-shop/versions")["data"][0]
    export = town.get("/api/v1/certificates/cert-shop/export/pem")
    leaf, chain, root = town.directory / "leaf.pem", town.directory / "chain.pem", town.ca_path
    leaf.write_text(export["cert_pem"])
    chain.write_text(export["chain_pem"])

    strict = ["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "shop.example", "-CAfile", root]
    openssl(*strict, "-untrusted", chain, leaf)
    crl, first = _crl(town, version["ca_certificate_id"])
    checking = ["verify", "-crl_check", "-CAfile", root, "-CRLfile", crl, "-untrusted", chain]
    openssl(*checking, leaf)
    url = openssl("x509", "-in", leaf, "-noout", "-ocsp_uri").stdout.strip()
    assert url == f"http://127.0.0.1:{town.pki_port}/.well-known/pki/ocsp/{version['ca_certificate_id']}"
    asking = ["ocsp", "-issuer", chain, "-cert", leaf, "-url", url, "-CAfile", root, "-verify_other", chain]
    assert f"{leaf}: good" in openssl(*asking).stdout

    assert town.post("/api/v1/certificates/cert-shop/revoke", {"reason": "keyCompromise"})["status"] == "revoked"
    revoked = openssl(*asking).stdout
    assert f"{leaf}: revoked" in revoked
    assert "keyCompromise" in revoked
    _, second = _crl(town, version["ca_certificate_id"])
    assert second > first, "CRL numbers grow (RFC 5280 5.2.3)"
    refused = openssl(*checking, leaf, check=False)
    assert refused.returncode != 0
    assert "certificate revoked" in refused.stdout + refused.stderr
    by_issuer, _ = _crl(town, "iss-local")
    assert "keyCompromise" not in openssl("crl", "-in", by_issuer, "-noout", "-issuer").stdout


def test_the_plain_listener_has_no_other_route(town: Fleet):
    town.furnish()
    for path in ("/", "/health", "/ready", "/api/v1/version", "/api/v1/certificates", "/.well-known/pki/keys/x"):
        reply = httpx.get(f"http://127.0.0.1:{town.pki_port}{path}", timeout=60)
        assert reply.status_code == 404, path


def test_the_key_never_leaves_the_host(town: Fleet):
    """Every file of the server, and its database, is searched for the agent's key in each form it could have."""
    town.furnish()
    town.request()
    town.wait(lambda: town.verified("cert-shop"), "the certificate is served")
    from certctl.pki.keys import load_private_key

    (key_path,) = (town.agent_dir / "keys").rglob("*.key")
    assert key_path.stat().st_mode & 0o777 == 0o600
    pem = key_path.read_bytes()
    scalar = load_private_key(pem).private_numbers().private_value
    needles = [
        pem.splitlines()[2],  # the first line is mostly the algorithm, the same in every P-256 key
        scalar.to_bytes(32, "big"),
        scalar.to_bytes(32, "big").hex().encode(),
        str(scalar).encode(),
    ]
    haystack = b"".join(path.read_bytes() for path in town.server_dir.rglob("*") if path.is_file())
    haystack += (town.directory / "server.log").read_bytes() + (town.directory / "agent.log").read_bytes()
    assert len(haystack) > 10_000
    for needle in needles:
        assert needle not in haystack


def renewed(town: Fleet) -> bool:
    try:
        return town.call("POST", "/api/v1/certificates/cert-shop/renew", {}).status_code in {202, 409}
    except httpx.TransportError:
        return False


def test_several_processes_on_one_postgresql(tmp_path, postgres_server):
    """Three server processes behind one port: every step runs once, wake-ups cross processes, one killed is replaced."""
    import os
    import signal

    with fleet(tmp_path, postgres_server.new_database(), CERTCTL_SERVER_PROCESSES="3") as town:
        town.furnish()
        town.request()
        town.wait(lambda: town.verified("cert-shop"), "the certificate is served")
        children = subprocess.run(
            ["pgrep", "-P", str(town.server.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        assert len(children) == 3
        os.kill(int(children[0]), signal.SIGKILL)
        for number in range(2, 5):
            # connections that the killed process had accepted are reset; its clients ask again, as any client does
            town.wait(lambda: renewed(town), "a renewal is taken")
            town.wait(lambda number=number: town.verified("cert-shop", number), f"version {number} is served")
        versions = town.get("/api/v1/certificates/cert-shop/versions")["data"]
        assert len(versions) == 4
        assert len({version["serial_number"] for version in versions}) == 4
