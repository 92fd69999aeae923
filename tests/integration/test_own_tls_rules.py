"""A rule that forbids the control plane's own name is recorded against it and does not stop it; nobody else gets by."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from certctl.control import own_tls
from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from integration.api_house import open_api

NAMES = ("localhost", "127.0.0.1")


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as opened:
        yield opened


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
