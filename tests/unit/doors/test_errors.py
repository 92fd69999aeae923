from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from certctl.core import errors
from certctl.core.errors import CertctlError, Violation
from certctl.doors.errors import STATUSES, plain_refusal, refusal


def leaves(kind: type[CertctlError]) -> list[type[CertctlError]]:
    children = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return [leaf for child in children for leaf in leaves(child)] or [kind]


@pytest.mark.parametrize("kind", leaves(CertctlError), ids=lambda kind: kind.__name__)
def test_every_leaf_is_mapped_by_itself(kind):
    assert kind in STATUSES
    assert 400 <= STATUSES[kind][0] < 600


def test_codes_are_unlike():
    codes = [kind.code for kind in STATUSES]
    assert len(codes) == len(set(codes))


def test_a_refusal_tells_what_happened_and_hides_detail():
    error = errors.Malformed("bad", violations=(Violation("r", "m", "f"),), detail="secret")
    answer = refusal(error, "id-1")
    body = msgspec.json.decode(answer.body)
    assert answer.status == body["status"] == 400
    assert body["type"] == "urn:certctl:problem:malformed"
    assert body["error"] == "Bad Request"
    assert body["message"] == body["detail"] == "bad"
    assert body["request_id"] == "id-1"
    assert body["violations"] == [{"rule": "r", "message": "m", "field": "f"}]
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    ("error", "header"),
    [
        (errors.NotAuthenticated("who"), ("WWW-Authenticate", 'Bearer realm="certctl"')),
        (errors.RateLimited("slow", retry_after=timedelta(seconds=1.2)), ("Retry-After", "2")),
        (errors.Temporary("later"), ("Retry-After", "5")),
        (errors.Temporary("later", retry_after=timedelta(0)), ("Retry-After", "5")),
    ],
)
def test_headers_that_say_what_to_do(error, header):
    assert header in refusal(error, "").headers


def test_a_bug_is_hidden():
    answer = refusal(ValueError("the password"), "id-2")
    assert answer.status == 500
    assert b"password" not in answer.body


def test_a_subclass_is_what_its_base_is():
    class Own(errors.Temporary):
        code = "own"

    assert refusal(Own("x"), "").status == 503


def test_a_plain_refusal():
    assert plain_refusal(405, "method_not_allowed", "no", "", headers=(("Allow", "GET"),)).headers[-1] == (
        "Allow",
        "GET",
    )
