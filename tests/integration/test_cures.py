"""From a violation to the field that ends it, and what people say of a certificate changed by a form."""

from __future__ import annotations

import html
import re
from datetime import timedelta

from certctl.lifecycle import compliance, observe
from certctl.web import overview
from integration.api_house import open_api
from integration.test_web import Visitor, issued


def filled(page: str) -> dict[str, str | list[str]]:
    """The fields of a form's page as a browser would send them unchanged."""
    form = page[page.index('name="row_version"') - 400 :]
    fields: dict[str, str | list[str]] = {}
    for name, value in re.findall(
        r'<input(?: class="in[^"]*")?(?: type="(?:text|hidden)")?(?: id="[^"]*")? name="([^"]+)" value="([^"]*)"', form
    ):
        fields[name] = html.unescape(value)
    for name, options in re.findall(
        r'<select class="in" id="[^"]*" name="([^"]+)"[^>]*>(.*?)</select>', form, re.DOTALL
    ):
        fields[name] = html.unescape(re.search(r'<option value="([^"]*)" selected', options)[1])
    for name, text in re.findall(
        r'<textarea class="in" id="[^"]*" name="([^"]+)"[^>]*>(.*?)</textarea>', form, re.DOTALL
    ):
        fields[name] = html.unescape(text)
    fields["target_ids"] = re.findall(r'name="target_ids" value="([^"]+)" checked', form)
    return fields


async def test_a_violation_leads_to_its_field_and_ends_there(tmp_path):
    async with open_api(tmp_path / "data", "") as api:
        visitor = Visitor(api)
        await visitor.sign_in(api.admin)
        agent = await api.agent("web-1")
        target = await api.target(agent)
        body = {"common_name": "web.example.com", "target_ids": [target], "tags": {"floor": "3"}}
        web = (await api.made("/api/v1/certificates", body))["id"]
        await agent.serve()
        owner = (await api.made("/api/v1/owners", {"name": "Olga", "email": "olga@example.com"}))["id"]
        for keys in (["owner"], ["cost-centre"]):
            rule = {"name": f"say {keys[0]}", "type": "RequiredMetadata", "severity": "Warning"}
            await api.made("/api/v1/policies", rule | {"config": {"required_keys": keys}})
        rule = {
            "name": "where",
            "type": "AllowedEnvironments",
            "severity": "Warning",
            "config": {"allowed": ["production"]},
        }
        await api.made("/api/v1/policies", rule)
        while await compliance.tick(api.house.ctx):
            pass
        page = (await visitor.get("/violations")).text
        for field, act in (("owner_id", "Say who owns it"), ("tags", "Give it the tag"), ("environment", "Say its")):
            assert re.search(rf'href="/certificates/{web}/edit#f-{field}">{act}', page), field
        viewer = Visitor(api)
        await viewer.sign_in(await api.key("r-viewer"))
        assert "/edit" not in (await viewer.get("/violations")).text
        assert (await viewer.get(f"/certificates/{web}/edit")).status_code == 403
        await viewer.http.aclose()

        form = (await visitor.get(f"/certificates/{web}/edit")).text
        for field in ("owner_id", "tags", "environment"):
            assert f'id="f-{field}"' in form
        before = await api.get(f"/api/v1/certificates/{web}")
        same = filled(form)
        assert same["target_ids"] == [target]
        answer = await visitor.send(f"/certificates/{web}", same)
        assert answer.headers["location"] == f"/certificates/{web}?done=same", answer.text
        changed = same | {"owner_id": owner, "tags": "floor: 3\ncost-centre: 4711", "environment": "production"}
        answer = await visitor.send(f"/certificates/{web}", changed | {"once": "b" * 32})
        assert answer.headers["location"] == f"/certificates/{web}?done=saved", answer.text
        now = await api.get(f"/api/v1/certificates/{web}")
        assert (now["owner_id"], now["environment"]) == (owner, "production")
        assert now["tags"] == {"floor": "3", "cost-centre": "4711"}
        # what was not touched stays: names, places, rules
        for name in ("common_name", "sans", "target_ids", "issuer_id", "certificate_profile_id", "renewal_policy_id"):
            assert now.get(name) == before.get(name), name
        page = (await visitor.get("/violations")).text
        assert "web.example.com" not in page.replace("<wbr>", "")
        cured = (await visitor.get("/violations?resolved=true")).text
        assert f"/certificates/{web}" in cured
        assert "/edit#" not in cured
        # who saw an older version overwrites nothing, and what was said can be taken back
        late = await visitor.send(f"/certificates/{web}", same | {"once": "c" * 32})
        assert late.status_code == 412
        emptied = filled((await visitor.get(f"/certificates/{web}/edit")).text) | {"owner_id": "", "once": "d" * 32}
        assert (await visitor.send(f"/certificates/{web}", emptied)).status_code == 303
        assert not (await api.get(f"/api/v1/certificates/{web}")).get("owner_id")
        await visitor.http.aclose()


async def test_a_name_that_cannot_be_is_said_at_its_field_and_what_is_archived_is_only_read(tmp_path):
    async with open_api(tmp_path / "data", "") as api:
        visitor = Visitor(api)
        await visitor.sign_in(api.admin)
        shop = await issued(api, "shop.example.com")
        same = filled((await visitor.get(f"/certificates/{shop}/edit")).text)
        wrong = await visitor.send(f"/certificates/{shop}", same | {"sans": "not a name", "validity_seconds": "soon"})
        assert wrong.status_code == 400
        assert 'id="h-validity_seconds"' in wrong.text
        wrong = await visitor.send(f"/certificates/{shop}", same | {"sans": "not a name", "once": "e" * 32})
        assert (wrong.status_code, 'id="h-sans"' in wrong.text) == (400, True), wrong.text
        await api.call("DELETE", f"/api/v1/certificates/{shop}")
        assert "nothing is changed any more" in (await visitor.get(f"/certificates/{shop}/edit")).text
        assert f"/certificates/{shop}/edit" not in (await visitor.get(f"/certificates/{shop}")).text
        await visitor.http.aclose()


async def test_what_an_agent_says_is_shown_and_turns_nothing(tmp_path):
    async with open_api(tmp_path / "data", "") as api:
        visitor = Visitor(api)
        await visitor.sign_in(api.admin)
        agent = await api.agent("web-1")
        target = await api.target(agent)
        web = (await api.made("/api/v1/certificates", {"common_name": "web.example.com", "target_ids": [target]}))["id"]
        for item in await agent.work():
            await agent.csr(item)
        (item,) = await agent.work()
        said = "cannot write \u202egpj.exe\u2066 <script>alert(1)</script> " + "y" * 200
        body = {"status": "Failed", "error": said, "error_kind": "rejected", "step_id": item["step_id"]}
        path = f"/api/v1/agents/{agent.id}/jobs/{item['id']}/status"
        assert (await agent.call("POST", path, body | {"fence": item["fence"]})).status_code == 200
        for path in (f"/jobs/{item['id']}", f"/certificates/{web}", "/jobs?status=Failed", "/notifications"):
            page = (await visitor.get(path)).text
            assert "\u27e8U+202E\u27e9gpj.exe\u27e8U+2066\u27e9" in page, path
            assert not re.search("[\u202a-\u202e\u2066-\u2069]", page), path
            assert "<script>alert" not in page, path
        await visitor.http.aclose()


async def counted(api) -> list[tuple[str, str, tuple[str, ...]]]:
    """The four truths of all, counted now: the page itself shows what was counted in time."""
    async with api.house.database.read() as tx:
        parts = await overview._breaks(tx, api.house.ctx.scope, api.clock.now())
    return [(truth.letter, truth.fact, truth.notes) for truth in parts["truths"]]


async def test_the_overview_tells_of_a_silent_host_what_the_certificate_tells_and_lists_show_what_is_in_use(tmp_path):
    async with open_api(tmp_path / "data", "") as api:
        visitor = Visitor(api)
        await visitor.sign_in(api.admin)
        agent = await api.agent("web-1")
        target = await api.target(agent)
        web = (await api.made("/api/v1/certificates", {"common_name": "web.example.com", "target_ids": [target]}))["id"]
        await agent.serve()
        assert [(fact, notes) for _letter, fact, notes in await counted(api)][1:] == [("1 of 1", ())] * 3
        api.clock.moment += timedelta(hours=1)
        await observe.tick(api.house.ctx)
        await visitor.sign_in(api.admin)
        page = (await visitor.get(f"/certificates/{web}")).text
        assert page.count("unknown, an agent is silent") == 2
        # the receipt still tells what was deployed
        assert (await counted(api))[1:] == [
            ("D", "1 of 1", ()),
            ("S", "0 of 1", ("1 unknown, an agent is silent",)),
            ("T", "0 of 1", ("1 not proven",)),
        ]
        gone = await issued(api, "gone.example.com")
        await api.made(f"/api/v1/certificates/{gone}/revoke", {"reason": "superseded"}, status=200)
        assert f"/certificates/{gone}" not in (await visitor.get("/certificates")).text
        for path in ("/certificates?q=gone.example.com", "/certificates?status=Revoked"):
            assert f"/certificates/{gone}" in (await visitor.get(path)).text
        await visitor.http.aclose()
