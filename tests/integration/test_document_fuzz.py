"""The document keeps its word: whatever it lets a client send, the API answers as it says, never with a 500.

schemathesis makes calls from the document, good ones and bad ones, half of them on things that exist; with an
administrator's key and a viewer's, on both databases. CERTCTL_FUZZ_EXAMPLES=N plays N calls a route (make fuzz), and
other ones each time.
"""

from __future__ import annotations

import asyncio
import copy
import os
import threading

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from certctl.api.app import openapi_document
from integration.api_house import open_api

DEEP = "CERTCTL_FUZZ_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("CERTCTL_FUZZ_EXAMPLES", "5"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
WAITS = {"wait"}  # a long poll that waits is a test of patience
ENDLESS = {"GET /api/v1/events"}  # a stream, played by tests of its own
MODES = {"good": GenerationMode.POSITIVE, "bad": GenerationMode.NEGATIVE}


class Running:
    """An API on a thread of its own, called from tests that are not async."""

    def __init__(self, data_dir, url):
        self._loop = asyncio.new_event_loop()
        self._ready, self._over = threading.Event(), asyncio.Event()
        self._failure = None
        self.answered = set()
        self._thread = threading.Thread(target=self._run, args=(data_dir, url), daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure:
            raise self._failure

    def _run(self, data_dir, url):
        try:
            self._loop.run_until_complete(self._serve(data_dir, url))
        except BaseException as error:
            self._failure = error
            self._ready.set()
        finally:
            self._loop.close()

    async def _serve(self, data_dir, url):
        async with open_api(data_dir, url) as self.api:
            self.keys = {"admin": self.api.admin, "viewer": await self.api.key("r-viewer")}
            self.known = await self._furnish()
            self._ready.set()
            await self._over.wait()

    async def _furnish(self):
        """One thing of every kind, so that not everything asked for is missing."""
        agent = await self.api.agent()
        target_id = await self.api.target(agent)
        await self.api.made("/api/v1/teams", {"id": "team-a", "name": "A"})
        await self.api.made("/api/v1/owners", {"id": "o-a", "name": "A", "email": "a@example.com", "team_id": "team-a"})
        body = {"id": "mc-a", "common_name": "a.example", "target_ids": [target_id]}
        await self.api.made("/api/v1/certificates", body)
        await agent.serve()
        job = (await self.api.get("/api/v1/jobs"))["data"][0]["id"]
        return {
            "certificate_id": "mc-a",
            "target_id": target_id,
            "job_id": job,
            "agent_id": agent.id,
            "team_id": "team-a",
            "owner_id": "o-a",
            "issuer_id": "iss-local",
        }

    def call(self, method, path, **more):
        answer = self._call(method, path, **more)
        self.answered.add(answer.status_code)
        return answer

    def _call(self, method, path, **more):
        return asyncio.run_coroutine_threadsafe(self.api.http.request(method, path, **more), self._loop).result(60)

    def close(self):
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(60)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def running(request, tmp_path_factory):
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres_server").new_database()
    one = Running(tmp_path_factory.mktemp("fuzz"), url)
    yield one
    one.close()


def operations(mode, document=None):
    config = SchemathesisConfig()
    config.projects.default.generation.update(modes=[mode])
    schema = schemathesis.openapi.from_dict(document or openapi_document(), config=config)
    found = [each.ok() for each in schema.get_all_operations()]
    return [each for each in found if each.label not in ENDLESS]


def play(running, operation, key, examples):
    headers = {"Authorization": f"Bearer {key}"}

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=not DEEP,
        phases=[Phase.generate],
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), existing=st.booleans())
    def check(case, existing):
        if existing:
            case.path_parameters = {
                name: running.known.get(name, value) for name, value in (case.path_parameters or {}).items()
            }
        case.query = {name: value for name, value in (case.query or {}).items() if name not in WAITS}
        sent = case.as_transport_kwargs(base_url="https://certctl.test")
        told = {name: value for name, value in sent.items() if name in {"params", "json"}}
        if "data" in sent:
            told["content"] = sent["data"]
        asked = {name: value for name, value in (sent.get("headers") or {}).items() if name.lower() != "authorization"}
        answer = running.call(sent["method"], sent["url"], headers=asked | headers, **told)
        case.validate_response(answer, checks=CHECKS)

    check()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("who", ["admin", "viewer"])
def test_every_answer_is_in_the_document(running, who, mode):
    faults = []
    for operation in operations(MODES[mode]):
        try:
            play(running, operation, running.keys[who], EXAMPLES if who == "admin" else max(1, EXAMPLES // 3))
        except (Exception, FailureGroup) as error:  # the group is no Exception
            faults.append(f"{operation.label}: {error}")
    assert not faults, "\n\n".join(faults)


def test_an_answer_that_the_document_does_not_tell_is_found(running):
    document = copy.deepcopy(openapi_document())
    path = "/api/v1/teams/{team_id}"
    told = document["paths"][path]["get"]
    del told["responses"]["404"]
    document["paths"] = {path: {"get": told}}
    (operation,) = operations(GenerationMode.POSITIVE, document)
    with pytest.raises(FailureGroup, match="Undocumented status code"):
        play(running, operation, running.keys["admin"], 20)
    assert 404 in running.answered


def test_both_good_and_bad_calls_were_made(running):
    """What was played reached the routes: things were made, changed, not found and refused."""
    for mode in MODES.values():
        (operation,) = [each for each in operations(mode) if each.label == "POST /api/v1/teams"]
        play(running, operation, running.keys["admin"], 20)
    # a name that is no name fits the schema: what is surely good is the document's own example
    told = openapi_document()["paths"]["/api/v1/teams"]["post"]["requestBody"]["content"]["application/json"]["example"]
    key = {"Authorization": f"Bearer {running.keys['admin']}"}
    running.call(
        "POST", "/api/v1/teams", headers=key, json=told | {"id": "t-of-the-document", "name": "of the document"}
    )
    assert running.answered >= {201, 400}
