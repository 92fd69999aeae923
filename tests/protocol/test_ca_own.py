"""Both halves face each other: our ACME issuer asks our own ACME server, which is killed and started again between the steps."""

from __future__ import annotations

import pytest

from certctl.lifecycle import flow, suggest
from peers.bind import ZONE, bind
from peers.replicas import replicas
from protocol.ca_house import by_dns, open_ca_house

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("pebble"), pytest.mark.timeout(600)]
PROFILE = "prof-web"
DEATHS = 3


async def test_our_server_killed_at_each_step_gives_one_certificate(tmp_path, postgres_server):
    with bind() as names, replicas(tmp_path / "ca", postgres_server) as row:
        server = row.add(
            CERTCTL_STEP_LEASE="2s",  # what a killed server held is free again then: each death would cost half a minute
            CERTCTL_ACME_SERVER_ENABLED="true",
            CERTCTL_ACME_SERVER_EAB_REQUIRED="true",
            CERTCTL_ACME_SERVER_DNS01_RESOLVER=names.resolver,
            CERTCTL_ACME_SERVER_TOS_URL="https://localhost/terms",
        )
        server.did("POST", "/api/v1/profiles", {"id": PROFILE, "name": "web", "acme_auth_mode": "challenge"}, row.key)
        wish = {"name": "a house", "profile_id": PROFILE}
        vouched = server.did("POST", "/api/v1/acme/external-account-keys", wish, row.key)
        config = {
            "directory_url": f"https://localhost:{server.port}/acme/profile/{PROFILE}/directory",
            "ca_certificates_pem": (server.directory / "data" / "ca.pem").read_text(),
            "terms_of_service_agreed": True,
            "eab_kid": vouched["id"],
            "eab_hmac": vouched["hmac_key"],
        } | by_dns(names)
        async with open_ca_house(tmp_path / "house") as house:
            await house.issuer(config)
            await house.ask("cert-1", f"both.{ZONE}", f"*.both.{ZONE}")
            deaths = 0
            while deaths < DEATHS:
                house.api.clock.moment += house.api.house.ctx.patience.lease
                claimed = await flow.claim(house.api.house.ctx, 1)
                assert claimed, await house.jobs()
                await flow.run_claimed(house.api.house.ctx, claimed)
                if claimed[0].kind == "issue":
                    server.kill()
                    server.start()
                    # the two minutes pass after which a challenge that the killed process looked at is looked at again
                    row.rows("UPDATE acme_challenges SET lease_until = now() WHERE lease_until IS NOT NULL")
                    deaths += 1
            version = await house.issued("cert-1")
            assert len(await house.rows("ca_orders")) == 1, "one order, gone on with"
            (theirs,) = server.did("GET", f"/api/v1/certificates?q=both.{ZONE}&source=ACME", key=row.key)["data"]
            signed = server.did("GET", f"/api/v1/certificates/{theirs['id']}/versions", key=row.key)["data"]
            assert [one["fingerprint_sha256"] for one in signed] == [version["fingerprint_sha256"]]

            assert await suggest.tick(house.api.house.ctx) == 1
            ((start, end, error),) = await house.rows("renewal_suggestions", "window_start, window_end, error")
            assert (bool(start), bool(end), error) == (True, True, "")
