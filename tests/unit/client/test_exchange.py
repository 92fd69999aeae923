from __future__ import annotations

import ssl
from datetime import timedelta

import httpx
import pytest

from certctl.client import AsyncClient, Client, Unreachable, calls
from certctl.client.exchange import check_url, error_of
from certctl.client.models.people import TeamWrite
from certctl.client.surface import Sent, Surface
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
    async def no_time(_seconds):
        pass

    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    monkeypatch.setattr("asyncio.sleep", no_time)


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


def test_a_get_is_tried_again():
    one, seen = client(httpx.Response(503), httpx.ConnectError("refused"), httpx.Response(200, json=ME))
    assert one.get_me().actor_id == "a"
    assert len(seen) == 3
    one, seen = client(*[httpx.Response(503, headers={"Retry-After": "60"})] * 3)
    with pytest.raises(errors.Temporary):
        one.get_me()
    assert len(seen) == 1, "a long Retry-After is the caller's to wait for"


def test_a_post_is_tried_again_under_the_key_it_had():
    good = httpx.Response(202, json={"status": "x"})
    one, seen = client(httpx.Response(503), httpx.ReadError("reset"), good)
    assert one.renew_certificate("c").status == "x"
    keys = [request.headers["idempotency-key"] for request in seen]
    assert len(keys) == 3 and len(set(keys)) == 1
    assert [request.content for request in seen] == [seen[0].content] * 3
    one, seen = client(good, good)
    one.renew_certificate("c")
    one.renew_certificate("c")
    assert seen[0].headers["idempotency-key"] != seen[1].headers["idempotency-key"], "two calls are two"


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
def test_a_refusal_is_final(status):
    one, seen = client(httpx.Response(status, json={}))
    with pytest.raises(errors.CertctlError):
        one.renew_certificate("c")
    assert len(seen) == 1


@pytest.mark.parametrize(
    "call",
    [
        calls.TEAMS.update("a", TeamWrite(name="x")),
        calls.TEAMS.patch("a", {"description": None}),
        calls.TEAMS.delete("a"),
    ],
)
def test_a_put_and_a_delete_are_the_callers_to_repeat(call):
    for answer, kind in ((httpx.Response(503), errors.Temporary), (httpx.ReadError("reset"), errors.OutcomeUnknown)):
        one, seen = client(answer)
        with pytest.raises(kind):
            one.send(call)
        assert len(seen) == 1 and "idempotency-key" not in seen[0].headers


def test_a_post_that_keeps_breaking_off_is_unknown():
    one, seen = client(*[httpx.ReadError("reset")] * 3)
    with pytest.raises(errors.OutcomeUnknown):
        one.renew_certificate("c")
    assert len(seen) == 3
    one, seen = client(httpx.Response(202, content=b"<html>"))
    with pytest.raises(Unreachable):
        one.renew_certificate("c")
    assert len(seen) == 1, "what answers is no server of ours: it keeps no keys"
    one, _ = client(*[httpx.ConnectError("refused")] * 3)
    with pytest.raises(Unreachable):
        one.renew_certificate("c")


def test_a_change_may_ask_for_the_thing_as_it_was():
    one, seen = client(httpx.Response(412, json={}))
    with pytest.raises(errors.CallerError):
        one.update_team("a", TeamWrite(name="x"), if_match='"7"')
    assert seen[0].headers["if-match"] == '"7"'


def page(*names, cursor=""):
    rows = [{"id": n, "name": n, "description": "", "created_at": MOMENT, "updated_at": MOMENT} for n in names]
    more = {"next_cursor": cursor} if cursor else {}
    return httpx.Response(200, json={"data": rows, "total": 3, "page_size": 2} | more)


MOMENT = "2026-01-01T00:00:00Z"


def test_a_list_is_read_to_its_end_by_cursor():
    one, seen = client(page("a", "b", cursor="next"), page("c"))
    assert [row.id for row in one.each(calls.TEAMS, q="x")] == ["a", "b", "c"]
    asked = [dict(request.url.params) for request in seen]
    assert asked == [
        {"cursor": "", "page_size": "500", "q": "x"},
        {"cursor": "next", "page_size": "500", "q": "x"},
    ]


async def test_both_clients_read_lists_alike():
    transport, seen = answering(page("a", "b", cursor="next"), httpx.Response(503), page("c"))
    async with AsyncClient(URL, Secret("key"), transport=transport) as one:
        assert [row.id async for row in one.each(calls.TEAMS)] == ["a", "b", "c"]
    assert len(seen) == 3


def test_a_limit_of_time_is_kept():
    seen = []

    def handle(request):
        seen.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, json=JOB)

    with Client(URL, Secret("key"), seconds=7, transport=httpx.MockTransport(handle)) as one:
        one.get_job("j", wait_seconds=20)
    assert seen == [27]


JOB = {
    "id": "j",
    "type": "Issuance",
    "certificate_id": "c",
    "status": "Running",
    "attempts": 0,
    "max_attempts": 3,
    "scheduled_at": MOMENT,
    "created_at": MOMENT,
    "verification_status": "",
}


def test_both_clients_have_the_same_methods():
    def methods(kind):
        return {name for name in dir(kind) if not name.startswith("_")}

    assert methods(Client) - {"close"} == methods(AsyncClient) - {"aclose"}
    assert {name for name, value in vars(Surface).items() if isinstance(value, Sent)} <= methods(Client)


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
        assert (await one.get_me()).actor_id == "a"
    assert seen[0].url == f"{URL}/api/v1/auth/me"


def stream(*blocks):
    return httpx.Response(
        200, headers={"Content-Type": "text/event-stream"}, text="".join(f"{each}\n\n" for each in blocks)
    )


def told(number):
    data = f'{{"type":"job_ended","subject_type":"job","subject_id":"j{number}","at":"{MOMENT}"}}'
    return f"id: {number}\nevent: job_ended\ndata: {data}"


def test_a_stream_is_taken_up_again_behind_the_last_id():
    one, seen = client(
        stream("retry: 2000\nid: 0", told(1), ": keep-alive\nid: 5"),
        httpx.ReadError("reset"),
        stream(told(6)),
        httpx.Response(401, json={}),
    )
    heard = []
    with pytest.raises(errors.NotAuthenticated):
        for event in one.follow():
            heard += [event.id]
    assert heard == ["1", "6"]
    assert [request.headers.get("last-event-id") for request in seen] == [None, "5", "5", "6"]


async def test_both_clients_follow_alike():
    transport, _ = answering(stream(told(1), told(2)), httpx.Response(403, json={}))
    heard = []
    async with AsyncClient(URL, Secret("key"), transport=transport) as one:
        with pytest.raises(errors.NotAllowed):
            async for event in one.follow("0"):
                heard += [(event.id, event.change.subject_id)]
    assert heard == [("1", "j1"), ("2", "j2")]


def test_a_stream_that_only_breaks_is_given_up():
    one, seen = client(*[httpx.ConnectError("refused")] * 9)
    with pytest.raises(Unreachable):
        next(one.follow())
    assert len(seen) == 5
