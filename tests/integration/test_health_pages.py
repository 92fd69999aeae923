"""The pages of health checks: what is served beside what is expected, faults at their fields, what a deployment says."""

from __future__ import annotations

from certctl.control import health_checks
from certctl.lifecycle import observe
from certctl.store import health
from integration.api_house import NGINX, open_api
from integration.test_web import Visitor, issued

PATH = "/health-checks"
FORM = {"protocol": "tls", "degraded_threshold": "1", "down_threshold": "2", "check_interval_seconds": "60"}


async def look(api) -> None:
    while await observe.look(api.house.ctx):
        pass


async def test_an_endpoint_is_watched_known_of_changed_and_left_alone_by_forms(tmp_path):
    async with open_api(tmp_path / "data", "") as api:
        visitor = Visitor(api)
        await visitor.sign_in(api.admin)
        shop = await issued(api, "shop.example.com")
        page = (await visitor.get(f"/certificates/{shop}")).text
        assert f"/health-checks/new?certificate_id={shop}&amp;endpoint=shop.example.com%3A443" in page
        form = (await visitor.get(f"{PATH}/new?certificate_id={shop}&endpoint=shop.example.com%3A443")).text
        assert 'value="shop.example.com:443"' in form
        assert f'value="{shop}"' in form

        async def send(path: str, seen: str, **fields: str):
            return await visitor.send(path, FORM | {"once": await visitor.once(seen)} | fields)

        refused = await send(f"{PATH}/new", f"{PATH}/new", endpoint="no port", down_threshold="many", enabled="yes")
        assert refused.status_code == 400
        assert "A whole number" in refused.text
        refused = await send(f"{PATH}/new", f"{PATH}/new", endpoint="no port", enabled="yes")
        assert (refused.status_code, 'id="h-endpoint"' in refused.text) == (400, True)
        unknown = await send(f"{PATH}/new", f"{PATH}/new", endpoint="a.example:1", certificate_id="mc-none")
        assert (unknown.status_code, 'id="h-certificate_id"' in unknown.text) == (400, True)
        # where certctl may look, and nobody listens
        saved = await send(f"{PATH}/new", f"{PATH}/new", endpoint="127.0.0.1:1", certificate_id=shop, enabled="yes")
        assert saved.status_code == 303, saved.text
        at = saved.headers["location"].partition("?")[0]
        await look(api)
        page = (await visitor.get(at)).text
        for told in ("Degraded", "No connection.", "1 bad look in a row; degraded after 1, down after 2"):
            assert told in page, told
        assert "Healthy for 0 % of the last" in page
        assert "No connection" in page
        assert f'href="{at}"' in (await visitor.get(f"{PATH}?status=degraded")).text
        assert f'href="{at}"' not in (await visitor.get(f"{PATH}?status=down")).text
        assert f'href="{at}"' in (await visitor.get(f"/certificates/{shop}")).text
        known = await send(f"{at}/acknowledge", at)
        assert known.headers["location"] == f"{at}?done=acknowledged"
        page = (await visitor.get(at)).text
        assert "Known to" in page
        assert "I know of it" not in page
        # an edit of what was seen before somebody else's is not made
        old = await send(at, f"{at}/edit", endpoint="127.0.0.1:1", row_version="1", enabled="yes", down_threshold="9")
        assert old.status_code == 303
        late = await send(at, f"{at}/edit", endpoint="127.0.0.1:2", row_version="1", enabled="yes", down_threshold="9")
        assert late.status_code == 412
        assert "Somebody changed it while you were writing" in late.text
        off = await send(at, f"{at}/edit", endpoint="127.0.0.1:1", row_version="2", down_threshold="9")
        assert off.status_code == 303
        page = (await visitor.get(at)).text
        assert "Switched off" in page
        nothing = await send(f"{at}/acknowledge", f"{at}/edit")
        assert nothing.status_code == 409
        assert "there is nothing to acknowledge" in nothing.text
        wrong = await send(f"{at}/delete", f"{at}/delete", typed="127.0.0.1", row_version="3")
        assert wrong.status_code == 400
        gone = await send(f"{at}/delete", f"{at}/delete", typed="127.0.0.1:1", row_version="3")
        assert gone.headers["location"] == f"{PATH}?done=deleted"
        assert (await visitor.get(at)).status_code == 404
        await visitor.http.aclose()


async def test_what_a_deployment_says_is_not_asked_and_cannot_be_forced(tmp_path):
    async with open_api(tmp_path / "data", "") as api:
        visitor = Visitor(api)
        await visitor.sign_in(api.admin)
        agent = await api.agent("web-1")
        # the test never looks there
        body = {"name": "web", "type": "nginx", "agent_id": agent.id, "config": NGINX | {"endpoint": "web.invalid:443"}}
        target = (await api.made("/api/v1/targets", body))["id"]
        await api.made("/api/v1/certificates", {"common_name": "web.example.com", "target_ids": [target]})
        await agent.serve()
        (check,) = (await api.get(f"/api/v1/health-checks?target_id={target}"))["data"]
        listed = (await visitor.get(f"{PATH}?target_id={target}")).text
        assert check["expected_fingerprint"][:12] in listed
        assert f'href="/health-checks?target_id={target}"' in (await visitor.get(f"/targets/{target}")).text
        form = (await visitor.get(f"{PATH}/{check['id']}/edit")).text
        assert 'name="down_threshold"' in form
        assert not [name for name in health_checks.FOLLOWED if f'name="{name}"' in form]
        fields = FORM | {"row_version": str(check["row_version"]), "endpoint": "evil.example:443", "enabled": "yes"}
        fields |= {"once": await visitor.once(f"{PATH}/{check['id']}/edit")}
        assert (await visitor.send(f"{PATH}/{check['id']}", fields)).status_code == 303
        now = await api.get(f"/api/v1/health-checks/{check['id']}")
        assert (now["endpoint"], now["down_threshold"]) == (check["endpoint"], 2)
        async with api.house.database.read() as tx:
            assert await health.history(tx, api.house.ctx.scope, check["id"], 5) == []
        assert "Nobody has looked yet." in (await visitor.get(f"{PATH}/{check['id']}")).text
        await visitor.http.aclose()
