from __future__ import annotations

import ssl
from datetime import timedelta

import httpx
import pytest

from certctl.client import AsyncClient, Client, Unreachable, calls
from certctl.client.exchange import check_url, error_of
from certctl.core import errors
from certctl.core.errors import Violation
from certctl.core.secret import Secret
from certctl.doors.errors import STATUSES, refusal

URL = "https://certctl.test"


def answering(*answers):
    """A transport that gives these answers in turn, and notes the requests."""
    left, seen = list(answers), []

    def handle(request):
        seen.append(request)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    transport = httpx.MockTransport(handle)
    return transport, seen


def client(*answers):
    transport, seen = answering(*answers)
    return Client(URL, Secret("key"), transport=transport), seen


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


ME = {
    "actor_id": "a",
    "actor_type": "APIKey",
    "tenant_id": "t",
    "admin": False,
    "roles": [],
    "effective_permissions": [],
}


def test_a_call():
    with client(httpx.Response(200, json=ME))[0] as one:
        assert one.get_me().actor_id == "a"


def test_what_is_sent():
    one, seen = client(httpx.Response(404, json={}))
    with pytest.raises(errors.NotFound):
        one.get_certificate("../a b/c?d")
    assert seen[0].url.raw_path == b"/api/v1/certificates/..%2Fa%20b%2Fc%3Fd"
    assert seen[0].headers["authorization"] == "Bearer key"
    one.close()


@pytest.mark.parametrize(
    "kind", [kind for kind in STATUSES if kind.__subclasses__() == []], ids=lambda kind: kind.__name__
)
def test_the_error_that_was_raised_there_is_raised_here(kind):
    violation = (Violation("rule", "why", "field"),)
    raised = {
        errors.PolicyDenied: lambda: errors.PolicyDenied(violation),
        errors.RateLimited: lambda: errors.RateLimited("why", retry_after=timedelta(seconds=9)),
        errors.Malformed: lambda: errors.Malformed("why", violations=violation),
        errors.Blocked: lambda: errors.Blocked("why", counts={"targets": 2}),
    }.get(kind, lambda: kind("why"))()
    answer = refusal(raised, "id")
    response = httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body)
    got = error_of(response)
    assert type(got) is kind
    assert "why" in got.message
    assert getattr(got, "violations", ()) == getattr(raised, "violations", ())
    assert getattr(got, "counts", {}) == getattr(raised, "counts", {})


@pytest.mark.parametrize(
    ("status", "kind"), [(401, errors.NotAuthenticated), (418, errors.CallerError), (502, errors.Temporary)]
)
def test_answers_without_a_document(status, kind):
    assert isinstance(error_of(httpx.Response(status, content=b"<html>")), kind)


def test_a_get_is_tried_again_and_a_post_never():
    one, seen = client(httpx.Response(503), httpx.ConnectError("refused"), httpx.Response(200, json=ME))
    assert one.get_me().actor_id == "a"
    assert len(seen) == 3
    one, seen = client(httpx.Response(503), httpx.Response(202, json={"status": "x"}))
    with pytest.raises(errors.Temporary):
        one.renew_certificate("c")
    assert len(seen) == 1
    one, seen = client(*[httpx.Response(503, headers={"Retry-After": "60"})] * 3)
    with pytest.raises(errors.Temporary):
        one.get_me()
    assert len(seen) == 1, "a long Retry-After is the caller's to wait for"


def test_a_change_that_broke_off_is_unknown():
    one, _ = client(httpx.ReadError("reset"))
    with pytest.raises(errors.OutcomeUnknown):
        one.renew_certificate("c")
    one, _ = client(httpx.ConnectError("refused"))
    with pytest.raises(Unreachable):
        one.renew_certificate("c")


def test_a_server_that_is_not_trusted_is_told_so():
    error = httpx.ConnectError("bad")
    error.__cause__ = ssl.SSLCertVerificationError(1, "self-signed certificate")
    one, _ = client(error, error, error)
    with pytest.raises(Unreachable, match="not trusted"):
        one.get_me()


def test_an_answer_that_is_none():
    one, _ = client(*[httpx.Response(200, content=b"<html>welcome</html>")] * 3)
    with pytest.raises(Unreachable, match="is it a certctl server"):
        one.get_me()


@pytest.mark.parametrize("url", ["http://a", "a", "", "https://", "ftp://x"])
def test_addresses_that_are_none(url):
    with pytest.raises(errors.Misconfigured):
        check_url(url)


async def test_the_async_client_sends_the_same_calls():
    transport, seen = answering(httpx.Response(200, json=ME))
    async with AsyncClient(URL, Secret("key"), transport=transport) as one:
        assert (await one.send(calls.get_me())).actor_id == "a"
    assert seen[0].url == f"{URL}/api/v1/auth/me"
