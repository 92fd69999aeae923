"""A dry run: a whole order at the CA's directory for trials, step by step, and nothing of it kept. Two pebbles judge."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from unittest import mock

import httpx
import pytest

from certctl.connectors.issuers.acme.dry_run import Remembering
from certctl.control import ca_proofs, issuers
from certctl.core.actor import SYSTEM
from certctl.core.names import parse_names
from integration.test_web import Visitor
from peers.bind import ZONE, Bind, bind
from peers.pebble import Pebble, pebble
from protocol.ca_house import CaHouse, by_dns, left_at, open_ca_house

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("pebble"), pytest.mark.timeout(300)]
ISSUED = "Issued certificate serial"
WAY = ["account", "precheck", "order", "present", "propagation", "validation", "finalize", "certificate"]


@pytest.fixture(scope="module")
def names() -> Iterator[Bind]:
    with bind() as made:
        yield made


@pytest.fixture(scope="module")
def ca(names) -> Iterator[Pebble]:
    with pebble(names.resolver) as made:
        yield made


@pytest.fixture(scope="module")
def trials(names) -> Iterator[Pebble]:
    with pebble(names.resolver) as made:
        yield made


async def dry_run(house: CaHouse, *names: str, **more: Any) -> dict[str, Any]:
    body = {"names": list(names)} | more
    return await house.api.made(f"/api/v1/issuers/{house.issuer_id}/dry-run", body, 200)


async def tried(visitor: Visitor, issuer_id: str, names: str) -> httpx.Response:
    """The page that tells of a dry run which its form asked for."""
    return await visitor.send(f"/issuers/{issuer_id}/dry-run", {"names": names})


async def test_the_same_names_go_the_whole_way_where_nobody_trusts_it(tmp_path, names, ca, trials):
    both = {"staging_directory_url": trials.directory_url, "ca_certificates_pem": ca.trust_pem + trials.trust_pem}
    async with open_ca_house(tmp_path) as house:
        await house.issuer(ca.config(**by_dns(names)) | both)
        told = await dry_run(house, f"dry.{ZONE}", f"*.dry.{ZONE}")
        assert told["outcome"] == "passed", told
        assert told["directory_url"] == trials.directory_url
        assert [(one["step"], one["outcome"]) for one in told["steps"]] == [(step, "done") for step in WAY]
        said = {one["step"]: one["message"] for one in told["steps"]}
        assert "2 to prove by dns-01" in said["order"]
        assert f"2 put for dry.{ZONE}" in said["present"]
        assert "Pebble" in said["certificate"] and "thrown away" in said["certificate"]
        assert (ca.count(ISSUED), trials.count(ISSUED)) == (0, 1), "the CA itself was asked for nothing"
        assert left_at(names, f"_acme-challenge.dry.{ZONE}") == []
        assert await house.rows("ca_proofs") == []

        # nothing is kept: no certificate, no order, nothing against a limit; an account of its own there
        for table in ("managed_certificates", "certificate_versions", "orders", "jobs", "ca_orders", "ca_asks"):
            assert await house.rows(table) == [], table
        ((where,),) = await house.rows("ca_accounts", "directory_url")
        assert where == trials.directory_url
        (event,) = await house.api.events("issuer_dry_run")
        assert event["details"]["passed"] is True

        # the same by the page, step by step; what cannot be is said beside the field
        visitor = Visitor(house.api)
        await visitor.sign_in(house.api.admin)
        page = await tried(visitor, "iss-acme", f"page.{ZONE}")
        assert "It went through" in page.text and "thrown away" in page.text, page.text
        assert page.text.count('class="num"') == len(WAY)
        assert trials.count(ISSUED) == 2
        assert "is no valid DNS name" in (await tried(visitor, "iss-acme", "a..b")).text

        # each step that fails is the last one, says why, and leaves nothing behind
        await house.issuer(ca.config() | both, "iss-http")
        told = await dry_run(house, "nowhere.invalid")
        assert [one["step"] for one in told["steps"]] == WAY[:6], told
        assert told["outcome"] == "failed"
        assert "could not connect to the name" in told["steps"][5]["message"]
        assert await house.rows("ca_answers") == []
        await house.issuer(ca.config(**by_dns(names, propagation_servers=["127.0.0.1:1"])) | both, "iss-unseen")
        told = await dry_run(house, f"unseen.{ZONE}", timeout_seconds=10)
        assert [one["outcome"] for one in told["steps"]] == ["done", "done", "done", "failed", "done"], told
        assert told["steps"][-1]["step"] == "cleanup"
        assert left_at(names, f"_acme-challenge.unseen.{ZONE}") == []
        await _one_that_is_killed(house, names, "iss-acme")
        assert "It did not go through" in (await tried(visitor, "iss-unseen", f"blocked.{ZONE}")).text
        await visitor.http.aclose()
        told = await dry_run(house, f"blocked.{ZONE}")
        assert (told["steps"][-1]["step"], told["steps"][-1]["outcome"]) == ("order", "failed")
        assert "rejectedIdentifier" in told["steps"][-1]["message"]


async def _one_that_is_killed(house: CaHouse, names: Bind, issuer_id: str) -> None:
    """Its process dies with what it put still standing: a tick takes it away, once no dry run can be under way any more."""
    where, ctx = f"_acme-challenge.killed.{ZONE}", house.api.house.ctx
    died = mock.AsyncMock(side_effect=asyncio.CancelledError)
    wanted, limit = parse_names([f"killed.{ZONE}"]), timedelta(minutes=1)
    with mock.patch.object(Remembering, "is_visible", died), pytest.raises(asyncio.CancelledError):
        await issuers.dry_run(ctx, ctx.scope, SYSTEM, issuer_id, wanted, limit)
    assert len(left_at(names, where)) == 1
    assert await ca_proofs.sweep(ctx) == 0, "it may be under way"
    assert len(left_at(names, where)) == 1
    house.api.clock.moment += timedelta(minutes=11)
    assert await ca_proofs.sweep(ctx) == 1
    assert (left_at(names, where), await house.rows("ca_proofs")) == ([], [])


async def test_where_there_is_no_place_for_trials_it_says_so(tmp_path, names, ca):
    async with open_ca_house(tmp_path) as house:
        config = ca.config(**by_dns(names))
        await house.issuer(config)
        body = {"names": [f"dry.{ZONE}"]}

        async def refused(issuer_id: str, more: dict[str, Any], **given: Any) -> tuple[int, str]:
            answer = await house.api.call("POST", f"/api/v1/issuers/{issuer_id}/dry-run", body | more, **given)
            return answer.status_code, answer.text

        status, said = await refused("iss-acme", {})
        assert status == 502 and "not supported" in said and "staging_directory_url" in said
        status, said = await refused("iss-local", {})
        assert status == 502 and "not supported" in said
        by_agent = {"challenge_by": "agent", "staging_directory_url": "https://trials.test/dir"}
        await house.issuer(ca.config(**by_agent), "iss-agent")
        status, said = await refused("iss-agent", {})
        assert status == 502 and "not supported" in said and "agent" in said
        assert (await refused("iss-none", {}))[0] == 404
        # the page says the same, and has no form
        visitor = Visitor(house.api)
        await visitor.sign_in(house.api.admin)
        for issuer_id, why in (
            ("iss-acme", "set staging_directory_url"),
            ("iss-local", "not supported for an issuer of type"),
            ("iss-agent", "not supported with challenge_by agent"),
        ):
            page = (await visitor.get(f"/issuers/{issuer_id}/dry-run")).text
            assert why in page and 'name="names"' not in page, issuer_id
        await visitor.http.aclose()
        for wrong in ({"names": []}, {"names": ["not a name"]}, {"timeout_seconds": 3000}, {"names": ["a.test"] * 101}):
            assert (await refused("iss-acme", wrong))[0] == 400
        assert (await refused("iss-acme", {}, key=await house.api.key("r-viewer")))[0] == 403
        answer = await house.api.call(
            "PATCH", "/api/v1/issuers/iss-acme", {"config": {"staging_directory_url": ca.directory_url}}
        )
        assert answer.status_code == 400, "what is signed there would be trusted"
        assert await house.rows("ca_accounts") == []
