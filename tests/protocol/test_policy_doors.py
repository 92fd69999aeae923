"""Each rule on each door: whatever a rule forbids is issued through none of the doors, and each refusal names the rule."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from certctl.core.catalogue import IssuerRecord
from certctl.core.names import parse_names
from certctl.lifecycle import flow, renew
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from certctl.store import catalogue
from certctl.wire.jws import encode
from integration.api_house import hours
from peers.responders import challenge_certificate
from protocol.acme_house import csr_for, open_acme

CERTIFICATES = "/api/v1/certificates"
DAY = 86400

# what every certificate below breaks, by type; and the words of the refusal
RULES = {
    "AllowedIssuers": ({"allowed_issuer_ids": ["iss-other"]}, "is not among iss-other"),
    "AllowedDomains": ({"allowed_domains": ["*.corp.example"]}, "matches none of"),
    "RequiredMetadata": ({"required_keys": ["cost-centre"]}, "must be given"),
    "AllowedEnvironments": ({"allowed": ["production"]}, "is not among production"),
    "RenewalLeadTime": ({"lead_time_days": 364}, "364 days are asked for"),
    "CertificateLifetime": ({"max_days": 1}, "exceeds 1 days"),
    "CEL": ({"expression": "environment == 'production'"}, "it is false"),
}
# what a profile forbids, and the doors that ask for it: elsewhere the profile itself chooses key and life
PROFILE = {
    "key types": ({"allowed_key_algorithms": [{"algorithm": "RSA", "min_size": 4096}]}, {"csr", "acme_order"}),
    "lifetime": ({"max_ttl_seconds": 3600}, {"rest", "renewal", "forced", "bulk", "csr", "reissue", "scheduled"}),
    "names": ({"required_san_patterns": ["*.corp.example"]}, set()),
    "spiffe": ({"spiffe_uri_pattern": "spiffe://corp.example/**"}, {"uri"}),
    "disabled": ({"enabled": False}, set()),
    "csr attributes": ({"required_csr_attributes": ["challengePassword"]}, set()),
}
BLANK = {
    "allowed_key_algorithms": [],
    "max_ttl_seconds": 0,
    "required_san_patterns": [],
    "spiffe_uri_pattern": "",
    "enabled": True,
    "required_csr_attributes": [],
}


@pytest.fixture
async def house(tmp_path, database_url):
    async with open_acme(tmp_path / "data", database_url) as opened:
        yield opened


def a_csr(name: str) -> str:
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    return csr_pem(build_csr(key, name, parse_names([name])))


def a_full_csr(name: str) -> bytes:
    """With a challenge password and an unstructured name (RFC 2985 5.4), as clients of network devices write them; DER."""
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
    made = made.add_attribute(x509.ObjectIdentifier("1.2.840.113549.1.9.7"), b"word")
    made = made.add_attribute(x509.ObjectIdentifier("1.2.840.113549.1.9.2"), b"router 7")
    signed = made.sign(generate_private_key(KeyAlgorithm.ECDSA_P256), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


class Doors:
    """Certificates that were issued before any rule, and every way to get another."""

    def __init__(self, house) -> None:
        self.house, self.api, self.ctx = house, house.api, house.api.house.ctx
        self.number, self.is_due = 0, False

    async def open(self) -> None:
        api = self.api
        self.agent = await api.agent()
        self.target, self.second, self.third = [await api.target(self.agent, name) for name in ("one", "two", "three")]
        # the seeded one is refused as it is: short lives that are allowed want a short limit
        assert (await api.call("PUT", "/api/v1/profiles/prof-default", {"allow_short_lived": False})).status_code == 200
        body = {"validity_seconds": 30 * DAY, "environment": "test"}
        await api.made(CERTIFICATES, body | {"id": "mc-old", "common_name": "old.example", "target_ids": [self.target]})
        await api.made(CERTIFICATES, body | {"id": "mc-csr", "common_name": "csr.example"})
        assert (await api.call("POST", f"{CERTIFICATES}/mc-csr/csr", {"csr_pem": a_csr("csr.example")})).is_success
        await self.settle()
        self.acme = await self.house.known()
        await self.acme.issued("acme.example")
        pem = challenge_certificate([x509.DNSName("foreign.example")], b"", with_extension=False).decode()
        pem = pem[pem.index("-----BEGIN CERTIFICATE") :]
        found = await api.made(f"{CERTIFICATES}/import", {"certificates": [{"pem": pem}]}, 200)
        self.foreign_id = found["results"][0]["certificate_id"]
        self.before = await self.versions()
        assert self.before >= 3

    async def settle(self) -> None:
        while True:
            done = await self.agent.serve()
            jobs = (await self.api.get("/api/v1/jobs?per_page=200"))["data"]
            live = [job for job in jobs if job["status"] in {"Pending", "Running"}]
            for job in live:
                await flow.drive(self.ctx, job["id"], hours(1))
            if not done and not live:
                return

    async def versions(self) -> int:
        found = (await self.api.get(f"{CERTIFICATES}?per_page=200"))["data"]
        return sum([(await self.api.get(f"{CERTIFICATES}/{each['id']}/versions"))["total"] for each in found])

    async def rest(self) -> str:
        self.number += 1
        name = f"new-{self.number}.example"
        body = {"common_name": name, "environment": "test", "validity_seconds": 30 * DAY, "target_ids": [self.third]}
        return (await self.api.call("POST", CERTIFICATES, body)).text

    async def uri(self) -> str:
        self.number += 1
        sans = ["spiffe://other.example/app"]
        body = {"common_name": f"uri-{self.number}.example", "sans": sans, "target_ids": [self.third]}
        return (await self.api.call("POST", CERTIFICATES, body)).text

    async def renewal(self) -> str:
        return (await self.api.call("POST", f"{CERTIFICATES}/mc-old/renew", {})).text

    async def forced(self) -> str:
        return (await self.api.call("POST", f"{CERTIFICATES}/mc-old/renew", {"force": True})).text

    async def bulk(self) -> str:
        body = {"certificate_ids": ["mc-old"]}
        answer = await self.api.call("POST", f"{CERTIFICATES}/bulk-renew", body, headers={"Prefer": "wait=30"})
        assert answer.json()["total_enqueued"] == 0, answer.text
        return answer.text

    async def csr(self) -> str:
        return (await self.api.call("POST", f"{CERTIFICATES}/mc-csr/csr", {"csr_pem": a_csr("csr.example")})).text

    async def claim(self) -> str:
        body = {"target_ids": [self.second], "environment": "test"}
        return (await self.api.call("POST", f"{CERTIFICATES}/{self.foreign_id}/claim", body)).text

    async def reissue(self) -> str:
        return (await self.api.call("POST", f"{CERTIFICATES}/mc-old/reissue", {"force": True})).text

    async def acme_order(self) -> str:
        self.number += 1
        name = f"acme-{self.number}.example"
        self.acme.nonce = ""  # the clock has moved: the one at hand has lapsed
        made = await self.acme.order(name)
        if not made.is_success:
            return made.text
        done = await self.acme.post(made.json()["finalize"], {"csr": csr_for([name])})
        told = done.text
        assert '"valid"' not in told, told
        return told + (await self.acme.post(made.headers["location"])).text

    def each(self):
        return (
            self.rest, self.renewal, self.forced, self.bulk, self.csr, self.claim, self.reissue, self.acme_order, self.scheduled
        )  # fmt: skip

    async def scheduled(self) -> str:
        """certctl's own renewal, its time come."""
        # 25 of its 30 days, and then a day more for each rule: what failed is tried again
        self.api.clock.moment += timedelta(days=1 if self.is_due else 25)
        self.is_due = True
        async with self.api.house.database.begin("test") as tx:
            await renew.policy_changed(tx, self.ctx, "rp-default")
        while await renew.tick(self.ctx):
            pass
        jobs = (await self.api.get("/api/v1/jobs?certificate_id=mc-old&per_page=200"))["data"]
        for job in jobs:
            if job["status"] in {"Pending", "Running"}:
                await flow.drive(self.ctx, job["id"], hours(1))
        return (await self.api.get(f"{CERTIFICATES}/mc-old"))["status_reason"]


async def test_each_rule_on_each_door(house):
    doors, api = Doors(house), house.api
    await doors.open()
    async with api.house.database.begin("test") as tx:
        known = await catalogue.get(tx, doors.ctx.scope, IssuerRecord, "iss-local")
        await catalogue.insert(tx, doors.ctx.scope, msgspec.structs.replace(known, id="iss-other", name="other"))
    for kind, (config, words) in RULES.items():
        body = {"id": f"pr-{kind}", "name": f"rule {kind}", "type": kind, "config": config, "severity": "Error"}
        await api.made("/api/v1/policies", body)
        for door in doors.each():
            said = await door()
            assert f"policy rule {kind}: " in said, (kind, door.__name__, said)
            assert words in said, (kind, door.__name__, said)
        assert await doors.versions() == doors.before, kind
        assert (await api.call("PUT", f"/api/v1/policies/pr-{kind}", {"enabled": False})).status_code == 200
    # with every rule switched off the same doors open
    assert (await api.call("POST", f"{CERTIFICATES}/mc-old/renew", {"force": True})).status_code == 202
    await doors.settle()
    assert await doors.versions() > doors.before


async def test_each_profile_rule_on_each_door(house):
    doors, api = Doors(house), house.api
    await doors.open()
    before = await api.get("/api/v1/profiles/prof-default")
    for name, (change, asking) in PROFILE.items():
        assert (await api.call("PUT", "/api/v1/profiles/prof-default", change)).status_code == 200, name
        for door in (*doors.each(), doors.uri):
            if not asking or door.__name__ in asking:
                await door()
                await doors.settle()
        assert await doors.versions() == doors.before, name
        back = {field: before.get(field, blank) for field, blank in BLANK.items()}
        assert (await api.call("PUT", "/api/v1/profiles/prof-default", back)).status_code == 200, name
    await asks_for_attributes(doors)


async def asks_for_attributes(doors: Doors) -> None:
    """What the profile asks a CSR to hold is told where none can, is missed where it lacks, and enough where it is."""
    api = doors.api
    wanted = ["challengePassword", "1.2.840.113549.1.9.2", "extensionrequest", "2.5.29.17"]
    answer = await api.call("PUT", "/api/v1/profiles/prof-default", {"required_csr_attributes": wanted})
    assert answer.status_code == 200, answer.text
    for door in (doors.rest, doors.renewal, doors.forced, doors.bulk, doors.claim, doors.reissue, doors.scheduled):
        assert "wants challengePassword, unstructuredName in the CSR, which agents do not write" in await door(), door
    for door in (doors.csr, doors.acme_order):
        assert "the CSR does not hold challengePassword, unstructuredName" in await door(), door
    assert await doors.versions() == doors.before
    body = {"csr_pem": csr_pem(a_full_csr("csr.example"))}
    answer = await api.call("POST", f"{CERTIFICATES}/mc-csr/csr", body)
    assert answer.is_success, answer.text
    doors.acme.nonce = ""
    made = await doors.acme.order("acme-full.example")
    done = await doors.acme.post(made.json()["finalize"], {"csr": encode(a_full_csr("acme-full.example"))})
    assert done.json()["status"] == "valid", done.text
    await doors.settle()
    assert await doors.versions() == doors.before + 2
    for bad in ("colour", "1.2.", "9.1"):
        answer = await api.call("PUT", "/api/v1/profiles/prof-default", {"required_csr_attributes": [bad]})
        assert "is nothing that a CSR holds" in answer.text
