"""Views that people keep: from a list by a form, above it and in the palette from then on; nobody else's; both databases."""

from __future__ import annotations

import pytest

from certctl.control import saved_views
from certctl.core.errors import Conflict, NotFound
from certctl.store import saved_views as store
from integration.api_house import open_api
from integration.test_web import Visitor, issued

LIST = "/certificates?status=Active&environment=production"


async def test_a_view_is_kept_found_renamed_and_taken_away_by_its_owner_alone(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as api:
        visitor = Visitor(api)
        await visitor.sign_in(api.admin)
        await issued(api, "shop.example.com", environment="production")
        page = (await visitor.get(f"{LIST}&cursor=")).text
        new = "/views?path=%2Fcertificates&amp;query=status%3DActive%26environment%3Dproduction"
        assert f'href="{new}"' in page
        assert "Keep this view" not in (await visitor.get("/certificates")).text
        form = (await visitor.get(new.replace("&amp;", "&"))).text
        assert "production" in form

        async def send(to: str, **fields: str):
            return await visitor.send(to, fields | {"once": await visitor.once(new.replace("&amp;", "&"))})

        wanted = {"path": "/certificates", "query": "status=Active&environment=production"}
        kept = await send("/views", name="<b>ours</b>", **wanted)
        assert kept.headers["location"] == LIST
        page = (await visitor.get(LIST)).text
        assert "&lt;b&gt;ours&lt;/b&gt;" in page
        assert "<b>ours" not in page
        assert "Keep this view" not in page
        assert LIST.replace("&", "&amp;") in (await visitor.get("/find?q=%3E+ours")).text
        # the same name again, names that hide something, lists that are none, filters that nobody can read
        for name, path, query, status in (
            ("<b>ours</b>", "/certificates", "q=a", 409),
            ("", "/certificates", "q=a", 409),
            ("x\u202ey", "/certificates", "q=a", 409),
            ("z" * 81, "/certificates", "q=a", 409),
            ("away", "//evil.example", "", 400),
            ("away", "/settings", "", 400),
            ("long", "/certificates", "q=" + "a" * 2000, 409),
        ):
            answer = await send("/views", name=name, path=path, query=query)
            assert answer.status_code == status, (name[:9], path, answer.text)
        (view,) = await listed(api, "admin")
        other = Visitor(api)
        await other.sign_in(await api.key("r-viewer"))
        assert "ours" not in (await other.get("/views")).text
        assert "ours" not in (await other.get(LIST)).text
        for path in (f"/views/{view.id}", f"/views/{view.id}/remove"):
            fields = {"name": "theirs", "once": "f" * 32}
            assert (await other.send(path, fields)).status_code == 404
        await other.http.aclose()
        assert (await send(f"/views/{view.id}", name="mine")).headers["location"] == "/views?done=saved"
        assert "mine" in (await visitor.get("/views")).text
        assert (await send(f"/views/{view.id}/remove")).status_code == 303
        assert await listed(api, "admin") == []
        told = [each for each in await api.events("config_updated") if each["subject_type"] == "saved_view"]
        assert [each["details"]["fields"] for each in told] == [["name"]]
        await visitor.http.aclose()


async def listed(api, actor_id: str):
    async with api.house.database.read() as tx:
        return await store.of_actor(tx, api.house.ctx.scope, actor_id)


async def test_names_are_ones_own_and_there_is_an_end_to_them(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as api:
        ctx, one = api.house.ctx, api.house.ctx.actor
        first = await saved_views.keep(ctx, one, "/jobs", "mine", "?status=Failed&cursor=x&done=saved")
        assert first.query == "status=Failed"
        second = await saved_views.keep(ctx, one, "/jobs", "other", "")
        with pytest.raises(Conflict):
            await saved_views.rename(ctx, one, second.id, "mine")
        with pytest.raises(NotFound):
            await saved_views.forget(ctx, one, "view-none")
        # the same name for another list is another view
        await saved_views.keep(ctx, one, "/agents", "mine", "")
        for number in range(saved_views.MOST - 3):
            await saved_views.keep(ctx, one, "/jobs", f"view {number}", "")
        with pytest.raises(Conflict, match="take one away first"):
            await saved_views.keep(ctx, one, "/jobs", "one more", "")
