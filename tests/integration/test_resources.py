"""What operators configure answers alike, kind by kind: the reference's fields, and clear refusals that change nothing."""

from __future__ import annotations

from typing import Any

import pytest

from integration.api_house import NGINX, Api, open_api

# kind -> (prefix of ids, what a new one needs beside its name, what may be changed, one wrong value a field)
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "teams": ("team", {}, {"description": "x"}, {"description": 5}),
    "owners": ("owner", {}, {"email": "a@example.com"}, {"email": "nobody", "team_id": "team-none"}),
    "agent-groups": ("ag", {}, {"match_os": "linux"}, {"match_ip_cidr": "x", "enabled": "yes"}),
    "policies": (
        "pr",
        {"type": "CertificateLifetime", "config": {"max_days": 9}},
        {"severity": "Error"},
        {"type": "None", "config": {"max_day": 9}, "severity": "Bad"},
    ),
    "profiles": (
        "prof",
        {},
        {"max_ttl_seconds": 86400},
        {
            "max_ttl_seconds": -1,
            "allowed_key_algorithms": [{"algorithm": "DSA"}],
            "allowed_ekus": ["everything"],
            "required_san_patterns": ["re:(a*)*"],
            "acme_auth_mode": "none",
        },
    ),
    "renewal-policies": (
        "rp",
        {},
        {"renewal_window_days": 14},
        {
            "renewal_window_days": 0,
            "max_retries": 11,
            "retry_interval_seconds": 59,
            "alert_thresholds_days": [366],
            "alert_channels": {"critical": ["Pigeon"]},
            "certificate_profile_id": "prof-none",
        },
    ),
    "targets": (
        "target",
        {"type": "NGINX", "config": NGINX},
        {"enabled": False},
        {"type": "cobol", "agent_id": "agent-none", "config": {"cert_path": 5}},
    ),
}


@pytest.fixture
async def api(tmp_path):
    async with open_api(tmp_path / "data") as fresh:
        yield fresh


async def body_of(api: Api, kind: str) -> dict[str, Any]:
    more = {"agent_id": (await api.agent()).id} if kind == "targets" else {}
    return {"id": "thing-1", "name": "Thing one"} | KINDS[kind][1] | more


@pytest.mark.parametrize("kind", KINDS)
async def test_a_life_of_one(api, kind):
    path, body = f"/api/v1/{kind}", await body_of(api, kind)
    _, _, change, _ = KINDS[kind]
    made = await api.made(path, body)
    assert {name: made[name] for name in body} == body
    assert await api.get(f"{path}/thing-1") == made
    listed = await api.get(path)
    assert made in listed["data"] and {"total", "page", "per_page"} <= set(listed)
    # what was read may be sent back whole: what only the server writes is ignored, what is absent stays
    answer = await api.call("PUT", f"{path}/thing-1", made | change)
    assert answer.status_code == 200, answer.text
    assert {name: answer.json()[name] for name in change} == change
    assert answer.json()["created_at"] == made["created_at"]
    answer = await api.call("PUT", f"{path}/thing-1", {"name": "Thing two"})
    assert answer.json()["name"] == "Thing two"
    assert {name: answer.json()[name] for name in change} == change
    made_by_us = await api.made(
        path, {"name": "No id"} | {name: body[name] for name in body if name not in {"id", "name"}}
    )
    assert made_by_us["id"].startswith(f"{KINDS[kind][0]}-")
    answer = await api.call("DELETE", f"{path}/thing-1")
    assert (answer.status_code, answer.content) == (204, b"")
    for method, more in (("GET", None), ("PUT", {"name": "x"}), ("DELETE", None)):
        answer = await api.call(method, f"{path}/thing-1", more)
        assert answer.status_code == 404, f"{method} {kind}: {answer.text}"
        assert answer.json()["code"] == "not_found"


@pytest.mark.parametrize("kind", KINDS)
async def test_what_cannot_be_changes_nothing(api, kind):
    path, body = f"/api/v1/{kind}", await body_of(api, kind)
    await api.made(path, body)
    before = await api.get(path)
    for other, status, field in (
        ({"name": "Another"}, 409, ""),
        ({"id": "thing-2"}, 409, ""),
        ({"id": "thing-2", "name": " "}, 400, "name"),
        ({"id": "thing-2", "name": "a\nb"}, 400, "name"),
        ({"id": "thing-2", "name": "x" * 256}, 400, "name"),
        ({"id": "a/b", "name": "x"}, 400, "id"),
        ({"id": "..", "name": "x"}, 400, "id"),
        ({"id": "thing-2", "name": "x", "nmae": "y"}, 400, "nmae"),
    ):
        answer = await api.call("POST", path, body | other)
        assert answer.status_code == status, f"{other}: {answer.text}"
        if field:
            assert answer.json()["violations"][0]["field"] == field
    for field, wrong in KINDS[kind][3].items():
        for method, at, more in (("POST", path, body | {"id": "thing-2", "name": "x"}), ("PUT", f"{path}/thing-1", {})):
            answer = await api.call(method, at, more | {field: wrong})
            assert answer.status_code == 400, f"{method} {field}: {answer.text}"
            told = answer.json()["violations"]
            assert told and told[0]["field"].partition("[")[0].partition(".")[0] == field, told
    answer = await api.call("PUT", f"{path}/thing-1", {"id": "thing-2"})
    assert answer.status_code == 400
    assert await api.get(path) == before


@pytest.mark.parametrize("kind", KINDS)
async def test_a_viewer_reads_and_an_agent_not_even_that(api, kind):
    path, body = f"/api/v1/{kind}", await body_of(api, kind)
    viewer, agent = await api.key("r-viewer"), await api.agent("other")
    assert (await api.call("GET", path, key=viewer)).status_code == 200
    for method, at in (("POST", path), ("PUT", f"{path}/thing-1"), ("DELETE", f"{path}/thing-1")):
        assert (await api.call(method, at, body, key=viewer)).status_code == 403
    for method, at in (("GET", path), ("GET", f"{path}/thing-1"), ("POST", path)):
        assert (await agent.call(method, at, body if method == "POST" else None)).status_code == 403
