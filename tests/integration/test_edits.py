"""Conditional requests and merge patches: nobody overwrites what another has just changed; on both databases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from integration.api_house import NGINX, Api, open_api


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def change(api: Api, method: str, path: str, body: Any = None, tag: str | None = None, **more: Any):
    headers = {"If-Match": tag} if tag is not None else {}
    return await api.call(method, path, body, headers=headers | more.pop("headers", {}), **more)


async def resources(api: Api) -> dict[str, str]:
    """One of each kind that has a PUT: its path, and a field of text to change."""
    agent = await api.agent()
    team = (await api.made("/api/v1/teams", {"name": "team"}))["id"]
    owner = (await api.made("/api/v1/owners", {"name": "owner", "team_id": team}))["id"]
    profile = (await api.made("/api/v1/profiles", {"name": "profile"}))["id"]
    group = (await api.made("/api/v1/agent-groups", {"name": "group", "match_os": "linux"}))["id"]
    policy = (await api.made("/api/v1/renewal-policies", {"name": "policy"}))["id"]
    target = await api.target(agent)
    certificate = await api.made("/api/v1/certificates", {"name": "c", "common_name": "c.example", "tags": {"a": "1"}})
    return {
        "teams": team,
        "agent-groups": group,
        "owners": owner,
        "profiles": profile,
        "renewal-policies": policy,
        "issuers": "iss-local",
        "targets": target,
        "certificates": certificate["id"],
    }


async def test_every_answer_to_a_get_has_a_tag_and_is_not_sent_twice(api):
    made = await resources(api)
    paths = [f"/api/v1/{kind}/{thing}" for kind, thing in made.items()]
    paths += [f"/api/v1/{kind}" for kind in made] + ["/api/v1/jobs", "/api/v1/agents", "/api/v1/auth/me"]
    for path in paths:
        first = await api.call("GET", path)
        tag = first.headers["etag"]
        assert tag.startswith('"') and tag.endswith('"') and first.headers["cache-control"] == "private, no-cache"
        for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            again = await api.call("GET", path, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), path
            assert again.headers["x-request-id"]
        for unknown in ('"other"', "", "no tag at all", tag[:-2]):
            assert (await api.call("GET", path, headers={"If-None-Match": unknown})).status_code == 200


async def test_each_change_makes_another_version_and_an_old_one_changes_nothing(api):
    for kind, thing in (await resources(api)).items():
        path = f"/api/v1/{kind}/{thing}"
        first = await api.call("GET", path)
        tag, version = first.headers["etag"], first.json()["row_version"]
        assert tag.startswith(f'"{version}-')
        renamed = await change(api, "PUT", path, {"name": f"{kind}-2"}, tag)
        assert renamed.status_code == 200, renamed.text
        assert renamed.json()["row_version"] > version
        for method, body in (("PUT", {"name": "late"}), ("PATCH", {"name": "late"}), ("DELETE", None)):
            for old in (
                tag,
                f'"{version}"',
                f'"x", "{version}"',
                f'W/"{renamed.json()["row_version"]}"',
                '"no-version"',
            ):
                late = await change(api, method, path, body, old)
                assert late.status_code == 412, (method, path, late.text)
                assert late.json()["code"] == "precondition_failed"
            for wrong in ("nothing in quotes", '"open', "7"):
                assert (await change(api, method, path, body, wrong)).status_code == 400
        now = await api.get(path)
        assert now["name"] == f"{kind}-2"
        patched = await change(api, "PATCH", path, {"name": f"{kind}-3"}, f'"{now["row_version"]}"')
        assert (patched.status_code, patched.json()["name"]) == (200, f"{kind}-3")
        assert (await change(api, "PUT", path, {"name": f"{kind}-4"}, "*")).status_code == 200
        assert (await change(api, "PUT", path, {"name": f"{kind}-5"})).status_code == 200, "never required"
        assert (await change(api, "PUT", f"{path}x", {"name": "none"}, "*")).status_code == 404


async def test_of_two_edits_of_one_version_exactly_one_is_made(api):
    made = await resources(api)
    for kind in ("teams", "certificates"):
        path = f"/api/v1/{kind}/{made[kind]}"
        for turn in range(3):
            tag = (await api.call("GET", path)).headers["etag"]
            answers = await asyncio.gather(
                *(change(api, ("PUT", "PATCH")[n % 2], path, {"name": f"{kind}-{turn}-{n}"}, tag) for n in range(6))
            )
            assert sorted(answer.status_code for answer in answers) == [200, *[412] * 5]
            (winner,) = (answer.json()["name"] for answer in answers if answer.status_code == 200)
            assert (await api.get(path))["name"] == winner


async def test_merges_that_meet_are_both_made(api):
    made = await resources(api)
    path = f"/api/v1/certificates/{made['certificates']}"
    answers = await asyncio.gather(*(change(api, "PATCH", path, {"tags": {f"t{n}": str(n)}}) for n in range(4)))
    assert {answer.status_code for answer in answers} == {200}
    assert (await api.get(path))["tags"] == {"a": "1"} | {f"t{n}": str(n) for n in range(4)}


async def test_a_merge_patch_sets_merges_and_clears(api):
    made = await resources(api)
    owner = f"/api/v1/owners/{made['owners']}"
    body = (await change(api, "PATCH", owner, {"email": "a@b.example"})).json()
    assert (body["email"], body["team_id"], body["name"]) == ("a@b.example", made["teams"], "owner")
    body = (await change(api, "PATCH", owner, {"team_id": None, "email": None})).json()
    assert (body.get("team_id", ""), body.get("email", "")) == ("", "")
    target = f"/api/v1/targets/{made['targets']}"
    body = (await change(api, "PATCH", target, {"config": {"chain_path": "/etc/nginx/tls/chain.crt"}})).json()
    assert body["config"] == NGINX | {"chain_path": "/etc/nginx/tls/chain.crt"}
    body = (await change(api, "PATCH", target, {"config": {"chain_path": None}})).json()
    assert body["config"] == NGINX
    certificate = f"/api/v1/certificates/{made['certificates']}"
    assert (await change(api, "PATCH", certificate, {"validity_seconds": 3600})).json()["validity_seconds"] == 3600
    assert "validity_seconds" not in (await change(api, "PATCH", certificate, {"validity_seconds": None})).json()
    body = (await change(api, "PATCH", certificate, {"tags": {"a": None, "b": "2"}})).json()
    assert body["tags"] == {"b": "2"}
    policy = f"/api/v1/renewal-policies/{made['renewal-policies']}"
    body = (await change(api, "PATCH", policy, {"renewal_window_fraction": 0.5, "renewal_window_days": None})).json()
    assert body["renewal_window_fraction"] == 0.5 and body.get("renewal_window_days") is None


async def test_what_a_merge_patch_refuses(api):
    made = await resources(api)
    for kind, thing in made.items():
        path = f"/api/v1/{kind}/{thing}"
        before = await api.get(path)
        answer = await change(api, "PATCH", path, {"name": None, "id": None})
        assert answer.status_code == 400
        assert {each["field"] for each in answer.json()["violations"]} == {"name", "id"}
        for wrong in ({"name": 5}, {"nme": "x"}, {"name": ["x"]}, {"name": {"a": 1}}, {"id": "other"}, [], "x", None):
            answer = await api.call("PATCH", path, headers={"Content-Type": "application/json"}, content=_json(wrong))
            assert answer.status_code == 400, (kind, wrong, answer.text)
        assert (await api.get(path)) == before
    path = f"/api/v1/teams/{made['teams']}"
    both = await change(
        api, "PATCH", f"/api/v1/renewal-policies/{made['renewal-policies']}", {"renewal_window_days": None}
    )
    assert both.status_code == 400, "a policy without a window renews nothing"
    for media_type, status in (
        ("application/merge-patch+json", 200),
        ("application/merge-patch+json; charset=utf-8", 200),
        ("application/json;charset=UTF-8", 200),
        ("application/json-patch+json", 415),
        ("text/plain", 415),
    ):
        answer = await api.call("PATCH", path, headers={"Content-Type": media_type}, content=b'{"description": "d"}')
        assert answer.status_code == status, answer.text
    assert (await api.call("PATCH", "/api/v1/teams/none", {"name": "x"})).status_code == 404
    viewer = await api.key("r-viewer")
    assert (await api.call("PATCH", path, {"name": "x"}, key=viewer)).status_code == 403


async def test_a_condition_that_is_not_judged_is_refused(api):
    agent = await api.agent()
    answer = await change(api, "DELETE", f"/api/v1/agents/{agent.id}", None, '"1"')
    assert answer.status_code == 400
    assert answer.json()["violations"][0]["rule"] == "if_match_not_supported"
    assert (await api.get(f"/api/v1/agents/{agent.id}")).get("retired_at") is None
    act = await change(api, "POST", "/api/v1/certificates/mc-none/renew", None, '"1"')
    assert (act.status_code, act.json()["violations"][0]["rule"]) == (400, "if_match_not_supported")


async def test_of_two_rotations_of_one_key_as_it_was_seen_one_is_made(api):
    """Whose answer was lost asks again with what they saw, and does not end the value that another has just got."""
    made = await api.made("/api/v1/auth/keys", {"name": "robot", "role_ids": ["r-viewer"]})
    path = f"/api/v1/auth/keys/{made['id']}"
    seen = (await api.call("GET", path)).headers["etag"]
    rotate = f"{path}/rotate"
    answers = await asyncio.gather(*(change(api, "POST", rotate, {}, seen) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [200, 412]
    (good,) = (answer.json()["key_value"] for answer in answers if answer.status_code == 200)
    assert (await change(api, "POST", rotate, {}, '"99"')).status_code == 412
    assert (await api.call("GET", "/api/v1/jobs", key=good)).status_code == 200
    assert (await api.call("GET", "/api/v1/jobs", key=made["key_value"])).status_code == 401
    again = await change(api, "POST", rotate, {}, (await api.call("GET", path)).headers["etag"])
    assert again.status_code == 200, again.text
    assert len(await api.events("key_rotated")) == 2


def _json(value: Any) -> bytes:
    import msgspec

    return msgspec.json.encode(value)
