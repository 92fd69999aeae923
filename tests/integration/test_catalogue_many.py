"""Many records by their ids at once: those of the tenant that the asker may see, and no other."""

from __future__ import annotations

import pytest

from certctl.core.catalogue import Profile
from certctl.core.scope import Reach, Scope
from certctl.store import catalogue
from integration.api_house import open_api


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def test_many_are_those_that_the_scope_may_see(api):
    ids = tuple([(await api.made("/api/v1/profiles", {"name": name}))["id"] for name in ("one", "two", "three")])
    ctx = api.house.ctx

    async def seen(scope: Scope, *wanted: str) -> set[str]:
        async with ctx.database.read() as tx:
            found = await catalogue.many(tx, scope, Profile, wanted)
        assert all(record.id == record_id for record_id, record in found.items())
        return set(found)

    assert await seen(ctx.scope, *ids[:2], "nobody") == set(ids[:2])
    limited = Scope(ctx.scope.tenant_id, (Reach(profiles=ids[1:]),))
    assert await seen(limited, *ids) == set(ids[1:])
    assert await seen(limited, ids[0]) == set()
    assert await seen(Scope(ctx.scope.tenant_id, ()), *ids) == set()
    assert await seen(Scope.whole("t-other"), *ids) == set()
