"""Which problem documents a route can answer with, from what it takes and asks for; one shared answer a status.

A route that can refuse otherwise says so: `opt=needs("...") | refuses(410)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from certctl.api.document.schemas import REFERENCE
from certctl.api.guard import may_be_absent, refused_by
from certctl.client.models.problem import MEDIA_TYPE, TYPE_PREFIX
from certctl.core import errors
from certctl.core.errors import CertctlError
from certctl.doors.errors import STATUSES

_WRITES = {"post", "put", "patch", "delete"}
_WITH_RETRY_AFTER = {429, 503}


def of(
    method: str, path: str, *, public: bool, has_body: bool, parameters: list[dict[str, Any]], opt: Mapping[str, Any]
) -> dict[str, Any]:
    """Status -> reference to the shared answer."""
    names = {each["name"].lower() for each in parameters}
    statuses = {429, 500, *refused_by(opt)}
    statuses |= {400} if parameters or has_body else set()
    statuses |= {503} if not public or has_body else set()
    statuses |= set() if public else {401, 403}
    statuses |= {404} if "{" in path or may_be_absent(opt) else set()
    if method in _WRITES:
        statuses |= {409, 413, 502}
        statuses |= {422} if method != "delete" else set()
    statuses |= {413, 415} if has_body else set()
    statuses |= {412} if "if-match" in names else set()
    known = _kinds()
    return {str(status): {"$ref": f"#/components/responses/{known[status][0]}"} for status in sorted(statuses)}


def components() -> dict[str, Any]:
    """Every refusal by the name of the error behind it."""
    return {name: _answer(status, title, code) for status, (name, title, code) in sorted(_kinds().items())}


def _kinds() -> dict[int, tuple[str, str, str]]:
    """Status -> name, title and code of the error that speaks for it: the first of the map."""
    found: dict[int, tuple[str, str, str]] = {}
    for kind, (status, title) in STATUSES.items():
        found.setdefault(status, (kind.__name__, title, kind.code))
    found[500] = ("Internal", STATUSES[CertctlError][1], "internal")
    outside = errors.ConnectorError
    found[STATUSES[outside][0]] = (outside.__name__, STATUSES[outside][1], outside.code)
    return found


def _answer(status: int, title: str, code: str) -> dict[str, Any]:
    phrase = HTTPStatus(status).phrase
    example: dict[str, Any] = {
        "type": TYPE_PREFIX + code,
        "title": title,
        "status": status,
        "detail": _SENTENCES.get(status, title),
        "code": code,
        "error": phrase,
        "message": _SENTENCES.get(status, title),
        "request_id": "0198c5b2-7d1e-7c3a-9f00-2f6a1d7b9c11",
    }
    if status in _VIOLATIONS:
        example["violations"] = [_VIOLATIONS[status]]
    headers: dict[str, Any] = {
        "X-Request-ID": {"description": "finds the call in the log", "schema": {"type": "string"}}
    }
    if status in _WITH_RETRY_AFTER:
        headers["Retry-After"] = {"description": "seconds", "schema": {"type": "integer"}}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = {"description": "how to sign in", "schema": {"type": "string"}}
    content = {"schema": {"$ref": f"{REFERENCE}Problem"}, "example": example}
    return {"description": title, "headers": headers, "content": {MEDIA_TYPE: content}}


_SENTENCES = {
    400: "page must be 1 to 10000000, not 0",
    401: "send a key: Authorization: Bearer <key>",
    403: "your key may not cert.revoke",
    404: "there is no certificate mc-shop",
    409: "certificate mc-shop is archived",
    413: "the body may have at most 1048576 bytes",
    415: "send the body as application/json",
    422: "RSA keys need at least 3072 bits here",
    429: "too many requests, try again in 1 second",
    500: "Something went wrong here; the request id finds it in the log",
}
_VIOLATIONS = {
    400: {"rule": "page_out_of_range", "message": _SENTENCES[400], "field": "page"},
    422: {"rule": "key_is_too_small", "message": _SENTENCES[422], "field": "csr_pem"},
}
