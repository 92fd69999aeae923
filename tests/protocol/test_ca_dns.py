"""dns-01 by hook scripts, CNAMEs followed, propagation watched: pebble and real BINDs judge."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from certctl.lifecycle import flow
from peers.bind import ZONE, Bind, bind
from peers.dns_hook import write_hooks
from peers.pebble import Pebble, pebble
from protocol.ca_house import left_at, open_ca_house

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("pebble"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def names() -> Iterator[Bind]:
    with bind() as made:
        yield made


@pytest.fixture(scope="module")
def ca(names) -> Iterator[Pebble]:
    with pebble(names.resolver) as made:
        yield made


async def test_hook_scripts_put_the_record_where_cnames_lead_and_take_it_away(tmp_path, names, ca, monkeypatch):
    """Present, watch at the authoritative server, answer, clean up: with the declared environment and no other."""
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "not for a script")
    present, cleanup, log = write_hooks(tmp_path / "hooks")
    alias = f"shop.challenges.{ZONE}"
    names.set(f"_acme-challenge.shop.{ZONE}.", "CNAME", f"{alias}.")
    config = {
        "challenge_type": "dns-01",
        "dns_present_script": present,
        "dns_cleanup_script": str(tmp_path / "hooks" / cleanup),
        "dns_script_environment": f"# what the scripts need\nHOOK_DNS={names.resolver}\nHOOK_SECRET={names.secret}",
        "dns_resolver": names.resolver,
        "propagation_servers": [names.resolver],
    }
    async with open_ca_house(tmp_path, CERTCTL_ISSUERS_SCRIPTS_FOLDER=str(tmp_path / "hooks")) as house:
        shown = await house.issuer(ca.config(**config))
        assert shown["config"]["dns_script_environment"] == "[redacted]"
        await house.ask("cert-1", f"shop.{ZONE}", f"*.shop.{ZONE}")
        await house.issued("cert-1")

        told = [json.loads(line) for line in log.read_text().splitlines()]
        assert [one["verb"] for one in told].count("present") == 2
        assert {one["verb"] for one in told} == {"present", "cleanup"}
        for one in told:
            assert one["argv"] == []
            assert one["env"]["CERTCTL_DNS_DOMAIN"] == f"shop.{ZONE}"
            assert one["env"]["CERTCTL_DNS_FQDN"] == alias
            assert one["env"]["CERTCTL_DNS_VALUE"]
            assert one["env"]["CERTCTL_DNS_TOKEN"]
            assert set(one["env"]) - {"LC_CTYPE"} == {
                "PATH",
                "LANG",
                "HOOK_DNS",
                *(f"CERTCTL_DNS_{word}" for word in ("DOMAIN", "FQDN", "VALUE", "TOKEN")),
            }
        assert left_at(names, alias) == [], "both records are gone again"

        # a script that fails ends the job with what it said; one outside the folder is not run at all
        (tmp_path / "hooks" / "fails").write_text("#!/bin/sh\necho the zone is locked >&2\nexit 3\n")
        (tmp_path / "hooks" / "fails").chmod(0o755)
        for number, (script, said) in enumerate((("fails", "the zone is locked"), ("/bin/true", "does not lie"))):
            await house.api.call("PATCH", "/api/v1/issuers/iss-acme", {"config": {"dns_present_script": script}})
            await house.ask(f"cert-bad-{number}", f"bad{number}.{ZONE}")
            job = await house.ended(f"cert-bad-{number}")
            assert job["status"] == "Failed"
            assert said in job["last_error"], job


async def test_the_ca_is_told_only_when_every_authoritative_server_has_the_record(tmp_path, names, ca):
    """A secondary that lags: the order waits for it, and goes on when it has caught up; no fixed sleep decides."""
    with bind() as lagging:
        config = {
            "challenge_type": "dns-01",
            "dns_server": names.resolver,
            "dns_resolver": names.resolver,
            "propagation_servers": [names.resolver, lagging.resolver],
            "tsig_name": "up",
            "tsig_secret": names.secret,
        }
        async with open_ca_house(tmp_path) as house:
            await house.issuer(ca.config(**config))
            await house.ask("cert-1", f"late.{ZONE}")

            async def presented() -> list[str]:
                return left_at(names, f"_acme-challenge.late.{ZONE}")

            (value,) = await house.run(presented, "the primary has the record")
            for _ in range(3):
                house.api.clock.moment += house.api.house.ctx.patience.lease
                await flow.run_claimed(house.api.house.ctx, await flow.claim(house.api.house.ctx, 5))
            ((reference,),) = await house.rows("orders", "reference")
            assert "#presented-" in reference, "the CA has not been told"
            lagging.set(f"_acme-challenge.late.{ZONE}.", "TXT", value)
            await house.issued("cert-1")


async def test_without_a_folder_no_script_is_run(tmp_path, names, ca):
    async with open_ca_house(tmp_path) as house:
        config = {"challenge_type": "dns-01", "dns_present_script": "/bin/true"}
        await house.issuer(ca.config(**config))
        answer = await house.api.call("POST", "/api/v1/issuers/iss-acme/test", {})
        assert answer.status_code >= 400
        assert "CERTCTL_ISSUERS_SCRIPTS_FOLDER" in answer.text
