"""No rule and no edit of a profile stops the control plane's own certificate; rules tell of it; nobody else gets by."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from certctl.control import own_tls
from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import load_certificate
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from certctl.pki.pem import read_certificates
from integration.api_house import open_api
from integration.test_approvals import person

NAMES = ("localhost", "127.0.0.1")


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as opened:
        yield opened


PROFILE = "/api/v1/profiles/prof-default"


async def edit(api, **changes) -> None:
    """Another default profile, as an administrator may make it: the whole of it, changed."""
    now = await api.get(PROFILE)
    kept = {name: now[name] for name in ("name", "description", "max_ttl_seconds", "allowed_ekus") if name in now}
    answer = await api.call("PUT", PROFILE, kept | {"allow_short_lived": False} | changes)
    if now.get("requires_approval"):  # an edit of a profile that asks for a second person waits for one, too
        assert answer.status_code == 202, answer.text
        path = f"/api/v1/approvals/{answer.json()['pending_approval_id']}/approve"
        answer = await api.call("POST", path, {"note": "as planned"}, key=await person(api, "bob", "r-admin"))
    assert answer.status_code == 200, answer.text


EDITS = (
    {"enabled": False},
    {"requires_approval": True},
    {"required_san_patterns": ["*.corp.example"]},
    {"max_ttl_seconds": 86400},
    {"allowed_key_algorithms": [{"algorithm": "RSA", "min_size": 4096}]},
    {"allowed_ekus": ["clientAuth"]},
)


async def test_no_edit_of_a_profile_keeps_the_control_plane_from_its_own_certificate(api, tmp_path):
    seen = [await ensure(api, tmp_path)]
    (own,) = (await api.get("/api/v1/certificates"))["data"]
    for changes in EDITS:
        await edit(api, **changes)
        api.clock.moment += timedelta(days=40)
        seen.append(await ensure(api, tmp_path))
    # with a disabled built-in issuer, which signs for nobody else then; and a first start under all of it
    answer = await api.call("PUT", "/api/v1/issuers/iss-local", {"enabled": False})
    assert answer.status_code == 200, answer.text
    api.clock.moment += timedelta(days=40)
    seen.append(await ensure(api, tmp_path))
    assert len(set(seen)) == len(EDITS) + 2
    (tmp_path / "second").mkdir()
    await ensure(api, tmp_path / "second")
    for version in (await api.get(f"/api/v1/certificates/{own['id']}/versions"))["data"]:
        leaf = load_certificate(read_certificates(version["pem_chain"])[0])
        assert leaf.not_valid_after_utc - leaf.not_valid_before_utc > timedelta(days=46)
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]

    # anybody else is bound
    wanted = parse_names(["shop.example"])
    pem = csr_pem(build_csr(generate_private_key(KeyAlgorithm.ECDSA_P256), "shop.example", wanted))
    answer = await api.call("POST", "/api/v1/certificates", {"common_name": "shop.example", "csr_pem": pem})
    assert answer.status_code == 422, answer.text
    assert "issuer_is_disabled" in {each["rule"] for each in answer.json()["violations"]}


async def ensure(api, tmp_path) -> str:
    return await asyncio.wait_for(own_tls.ensure(api.house.ctx, tmp_path, NAMES, "iss-local"), 60)


async def test_it_is_renewed_though_a_rule_forbids_its_name_and_its_life(api, tmp_path):
    first = await ensure(api, tmp_path)
    (own,) = (await api.get("/api/v1/certificates"))["data"]
    domains = {"name": "corp", "type": "AllowedDomains", "config": {"allowed_domains": ["*.corp.example"]}}
    life = {"name": "short", "type": "CertificateLifetime", "config": {"max_days": 5}}
    for rule in (domains, life):
        await api.made("/api/v1/policies", rule | {"severity": "Critical", "enabled": True})
    api.clock.moment += timedelta(days=40)
    second = await ensure(api, tmp_path)
    assert second != first
    assert await ensure(api, tmp_path) == second
    # told like anybody's
    found = []
    for rule in (await api.get("/api/v1/policies"))["data"]:
        found += (await api.get(f"/api/v1/policies/{rule['id']}/violations"))["data"]
    assert {(each["certificate_id"], each["severity"]) for each in found} == {(own["id"], "Critical")}
    assert len(found) == 2

    # a new name of the server, too, and one whose rule was there before it ever started
    renamed = await asyncio.wait_for(own_tls.ensure(api.house.ctx, tmp_path, ("other", *NAMES), "iss-local"), 60)
    assert renamed != second
    (tmp_path / "second").mkdir()
    await ensure(api, tmp_path / "second")

    # nobody else gets by with it: not by name, not with a key of their own, not by an edit, not on a host of theirs
    def csr(*names: str) -> str:
        wanted = parse_names(list(names))
        return csr_pem(build_csr(generate_private_key(KeyAlgorithm.ECDSA_P256), wanted[0].value, wanted))

    path = f"/api/v1/certificates/{own['id']}"
    agent = await api.agent()
    for method, at, body in (
        ("POST", "/api/v1/certificates", {"common_name": "localhost", "csr_pem": csr("localhost")}),
        (
            "POST",
            "/api/v1/certificates",
            {"common_name": "x.example", "csr_pem": csr("x.example"), "source": "own-tls"},
        ),
        ("POST", f"{path}/csr", {"csr_pem": csr("other", *NAMES)}),
        ("PUT", path, {"common_name": "evil.example", "sans": ["evil.example"]}),
        ("PUT", path, {"target_ids": [await api.target(agent)]}),
    ):
        answer = await api.call(method, at, body)
        assert answer.status_code in {400, 422}, (method, at, answer.text)
    assert (await api.get(path))["common_name"] == "other"
