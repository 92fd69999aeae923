"""Our ACME issuer against a real pebble: bad nonces, no authorization used twice, names proven by a real BIND.

And the whole life with an agent and NGINX, names proven over HTTP by this server's own listener.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from certctl.cli import main as cli
from certctl.cli import output
from certctl.connectors import http
from certctl.control import ca_accounts
from certctl.core.catalogue import IssuerRecord
from certctl.lifecycle import renew, suggest
from certctl.pki.certs import read_certificate
from certctl.pki.chain import verify_chain
from certctl.pki.pem import read_certificates
from certctl.protocols.answering import AnsweringApp
from certctl.store import catalogue
from certctl.wire.jws import encode
from peers.bind import ZONE, Bind, bind
from peers.fleet import Fleet
from peers.nginx import Nginx
from peers.pebble import EAB_KEY, EAB_KID, Pebble, pebble
from protocol.ca_house import CaHouse, by_dns, left_at, open_ca_house

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("pebble"), pytest.mark.timeout(300)]
PROFILES = {
    "default": {"description": "as it comes", "validityPeriod": 7_000_000},
    "shortlived": {"description": "six days", "validityPeriod": 518_400},
}
ISSUED = "Issued certificate serial"
EAB = {"eab_kid": EAB_KID, "eab_hmac": encode(EAB_KEY)}


@pytest.fixture(scope="module")
def names() -> Iterator[Bind]:
    with bind() as made:
        yield made


@pytest.fixture(scope="module")
def ca(names) -> Iterator[Pebble]:
    more = {"PEBBLE_ALTERNATE_ROOTS": "1", "PEBBLE_CHAIN_LENGTH": "2"}
    with pebble(names.resolver, eab=True, profiles=PROFILES, **more) as made:
        yield made


async def opened(house: CaHouse):
    async with house.api.house.database.read() as tx:
        record = await catalogue.get(tx, house.api.house.ctx.scope, IssuerRecord, house.issuer_id)
    return await house.api.house.ctx.open_issuer(record)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_from_account_to_revocation(kind, tmp_path, names, ca, request):
    url = "" if kind == "sqlite" else request.getfixturevalue("postgres_server").new_database()
    async with open_ca_house(tmp_path, url) as house:
        config = ca.config(**by_dns(names), **EAB)
        shown = await house.issuer(config)
        assert shown["config"]["tsig_secret"] == shown["config"]["eab_hmac"] == "[redacted]"
        said = await house.api.made("/api/v1/issuers/iss-acme/test", {}, 200)
        assert "knows our account" in said["message"]
        await house.ask("cert-1", f"shop.{ZONE}", f"*.shop.{ZONE}")
        version = await house.issued("cert-1")

        leaf, *rest = read_certificates(version["pem_chain"])
        assert {str(name) for name in read_certificate(leaf).names} == {f"shop.{ZONE}", f"*.shop.{ZONE}"}
        (root,) = read_certificates(ca.ask("/roots/0").text)
        verify_chain(leaf, tuple(rest), root, house.api.clock.now())
        assert left_at(names, f"_acme-challenge.shop.{ZONE}") == []

        ((account_url, sealed),) = await house.rows("ca_accounts", "url, sealed")
        assert b"PRIVATE" not in bytes(sealed)
        assert len(await house.rows("ca_orders")) == 1
        assert ca.serial_status(version["serial_number"]) == "Valid"
        await house.api.made("/api/v1/certificates/cert-1/revoke", {"reason": "superseded"}, 200)

        async def told() -> bool:
            return ca.serial_status(version["serial_number"]) == "Revoked"

        await house.run(told, "the CA has revoked it")
        await (await opened(house)).revoke(await _revocation(house, leaf))
        await ca_accounts.Answers(lambda: house.api.house.ctx).put("a-token", "a-token.print")

    async with open_ca_house_again(tmp_path, url) as house:
        listener = httpx.ASGITransport(AnsweringApp(ca_accounts.Answers(lambda: house.api.house.ctx).get))
        async with httpx.AsyncClient(transport=listener, base_url="http://web.test") as asks:
            answer = await asks.get("/.well-known/acme-challenge/a-token")
        assert (answer.status_code, answer.text) == (200, "a-token.print"), "whichever process is asked answers"
        issuer = await opened(house)
        assert account_url in await issuer.inspect(), "another process finds the same account"
        assert "another key" in await issuer.roll_key()
        assert account_url in await issuer.inspect(), "and with its new key too"
        ((after,),) = await house.rows("ca_accounts", "sealed")
        assert bytes(after) != bytes(sealed)


async def _revocation(house: CaHouse, leaf_der: bytes):
    from certctl.connectors.base.issuer import Revocation

    return Revocation(read_certificate(leaf_der).serial_number, "", leaf_der, "superseded", house.api.clock.now())


def open_ca_house_again(data_dir: Path, url: str):
    """The same installation, as its next process finds it."""
    return open_ca_house(data_dir, url, again=True)


async def test_a_profile_and_a_preferred_chain(tmp_path, names, ca, monkeypatch):
    """Over connections that are kept: an order is asked about many times, and each look was a handshake once."""
    opened, connect = [], http.connect

    async def counted(host: str, port: int, *given: Any, **more: Any) -> Any:
        opened.append(port)
        return await connect(host, port, *given, **more)

    monkeypatch.setattr(http, "connect", counted)
    alternate = read_certificate(read_certificates(ca.ask("/roots/1").text)[0])
    async with open_ca_house(tmp_path) as house:
        more = {"profile": "shortlived", "preferred_chain": alternate.common_name}
        await house.issuer(ca.config(**by_dns(names), **EAB, **more))
        await house.ask("cert-1", f"web.{ZONE}", validity_seconds=7 * 86_400)
        version = await house.issued("cert-1")
        leaf, *rest = (read_certificate(der) for der in read_certificates(version["pem_chain"]))
        assert leaf.not_after - leaf.not_before <= timedelta(days=6, seconds=1)
        assert rest[-1].issuer == alternate.subject
        assert 1 <= opened.count(ca.port) <= 3, opened

        await house.api.call("PATCH", "/api/v1/issuers/iss-acme", {"config": {"profile": "no-such"}})
        await house.ask("cert-2", f"web2.{ZONE}")
        job = await house.ended("cert-2")
        assert job["status"] == "Failed"
        assert "profile" in job["last_error"], job


async def test_the_ca_says_when_to_renew_and_hears_what_is_replaced(tmp_path, names, ca):
    async with open_ca_house(tmp_path) as house:
        api = house.api
        await house.issuer(ca.config(**by_dns(names), **EAB))
        agent = await api.agent()
        target = await api.target(agent)
        body = {"id": "cert-1", "common_name": f"ari.{ZONE}", "issuer_id": "iss-acme", "target_ids": [target]}
        await api.made("/api/v1/certificates", body)

        async def versions(number: int) -> bool:
            await agent.serve()
            return (await api.get("/api/v1/certificates/cert-1/versions"))["total"] == number

        await house.run(lambda: versions(1), "the first version")
        (first,) = (await api.get("/api/v1/certificates/cert-1/versions"))["data"]
        await suggest.tick(api.house.ctx)
        ((start, end),) = await house.rows("renewal_suggestions", "window_start, window_end")
        assert start < end
        assert await suggest.tick(api.house.ctx) == 0, "not asked again before its time"

        # the CA wants it back at once; what it said before is asked again after its time
        now = api.clock.now()
        window = {"start": (now - timedelta(days=2)).isoformat(), "end": (now - timedelta(days=1)).isoformat()}
        leaf_pem = first["pem_chain"].split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
        told = {"certificate": leaf_pem, "ariResponse": json.dumps({"suggestedWindow": window})}
        assert ca.ask("/set-renewal-info/", "POST", told).status_code == 200
        api.clock.moment += timedelta(days=2)
        assert await suggest.tick(api.house.ctx) == 1
        await renew.tick(api.house.ctx)
        await house.run(lambda: versions(2), "the second version")
        newest = (await api.get("/api/v1/certificates/cert-1/versions"))["data"][0]
        assert newest["replaces_id"] == first["id"]
        assert len(await api.events("renewal_suggested")) >= 2
        assert first["serial_number"] != newest["serial_number"]
        assert await suggest.tick(api.house.ctx) == 1, "of the new one alone: what was replaced is not asked about"
        api.clock.moment += timedelta(days=100)
        assert await suggest.tick(api.house.ctx) == 0, "nor what has expired"


def certctl(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command writes that ends well."""
    monkeypatch.setenv("CERTCTL_SERVER_URL", fleet.url)
    monkeypatch.setenv("CERTCTL_API_KEY", fleet.key)
    monkeypatch.setenv("CERTCTL_SERVER_CA_BUNDLE_PATH", str(fleet.ca_path))
    monkeypatch.setattr(sys, "argv", ["certctl", *words])
    output.assume(output.Form.TABLE)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr()
    assert (ended.value.code or 0) == 0, told.err
    return told.out


def test_one_whole_life_with_agent_and_nginx_names_proven_over_http(tmp_path, monkeypatch, capsys):
    """Dry run, request, prove, issue, deploy, verify; renew; put back; a deployment that fails; revoke.

    pebble asks this server's plain listener for the proof, and another one for that of the dry run.
    """
    site = f"web.{ZONE}"
    with bind() as names:
        fleet = Fleet(tmp_path / "fleet", CERTCTL_ISSUERS_ALLOWED_NETWORKS="127.0.0.0/8")
        fleet.nginx = Nginx(tmp_path / "fleet" / "nginx", site)

        def run(*words: str) -> str:
            return certctl(fleet, monkeypatch, capsys, "issuers", *words)

        with (
            pebble(names.resolver, http_port=fleet.pki_port) as ca,
            pebble(names.resolver, http_port=fleet.pki_port) as trials,
        ):
            try:
                fleet.furnish()
                config = ca.config(
                    staging_directory_url=trials.directory_url, ca_certificates_pem=ca.trust_pem + trials.trust_pem
                )
                fleet.post("/api/v1/issuers", {"id": "iss-acme", "name": "acme", "type": "ACME", "config": config})
                told = run("dry-run", "acme", site)
                assert "certificate" in told and "thrown away" in told, told
                assert (ca.count(ISSUED), trials.count(ISSUED)) == (0, 1)

                body = {"id": "cert-web", "common_name": site, "issuer_id": "iss-acme", "target_ids": [fleet.target_id]}
                fleet.post("/api/v1/certificates", body)
                fleet.wait(lambda: fleet.verified("cert-web"), "issued by pebble, deployed, verified", 90)
                (first,) = fleet.get("/api/v1/certificates/cert-web/versions")["data"]
                assert "Pebble" in read_certificate(read_certificates(first["pem_chain"])[0]).issuer
                assert fleet.nginx.served() == first["fingerprint_sha256"]

                # the account by the command line: another key, with which everything below is asked
                account_url = fleet.get("/api/v1/issuers/iss-acme/account")["account_url"]
                assert account_url in run("account", "acme")
                assert account_url in run("roll-key", "acme", "--yes")
                assert "Nothing was paused" in run("resume", "acme")

                fleet.post("/api/v1/certificates/cert-web/renew")
                fleet.wait(lambda: fleet.verified("cert-web", 2), "renewed, deployed, verified", 90)
                newest = fleet.get("/api/v1/certificates/cert-web/versions")["data"][0]
                assert fleet.nginx.served() == newest["fingerprint_sha256"] != first["fingerprint_sha256"]
                # a finalize is asked for again after a bad nonce, and these are many: what counts is what was signed
                assert ca.count(ISSUED) == 2, "one certificate an intent"

                # a person puts the one before back, and thinks better of it
                for version in (first, newest):
                    fleet.post(f"/api/v1/certificates/cert-web/versions/{version['id']}/rollback")
                    wanted = version["fingerprint_sha256"]
                    fleet.wait(lambda wanted=wanted: fleet.nginx.served() == wanted, "put back", 90)
                    fleet.wait(lambda: not live(fleet), "and said so", 90)

                # the next one cannot be deployed: NGINX refuses its whole configuration, and serves what it served
                sound = fleet.nginx.conf.read_text()
                fleet.nginx.conf.write_text(f"{sound}\nno_such_directive on;\n")
                fleet.post("/api/v1/certificates/cert-web/renew")
                fleet.wait(lambda: failed(fleet), "issued, and its deployment failed", 90)
                assert "no_such_directive" in str(failed(fleet))
                assert ca.count(ISSUED) == 3
                assert fleet.nginx.served() == newest["fingerprint_sha256"], "the old one is what is served"
                fleet.nginx.conf.write_text(sound)

                fleet.post("/api/v1/certificates/cert-web/revoke", {"reason": "superseded"})
                last = fleet.get("/api/v1/certificates/cert-web/versions")["data"][0]
                fleet.wait(lambda: ca.serial_status(last["serial_number"]) == "Revoked", "revoked at pebble", 90)
            finally:
                fleet.stop()


def live(fleet: Fleet) -> list[dict[str, Any]]:
    """Jobs that have not ended."""
    return [job for job in fleet.get("/api/v1/jobs")["data"] if job["status"] not in {"Completed", "Failed"}]


def failed(fleet: Fleet) -> list[dict[str, Any]]:
    """Deployments that were tried and failed, or whose job has, as far as the jobs tell."""
    return [job for job in fleet.get("/api/v1/jobs")["data"] if "no_such_directive" in (job.get("last_error") or "")]
