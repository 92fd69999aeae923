"""The one map from certctl's errors to HTTP: status, title and an RFC 9457 document for the API's edge.

What is no CertctlError is a bug: 500, its text hidden, its trace logged once. Must never show `detail` of an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus

import msgspec
from msgspec import Struct

from certctl.client.models.problem import MEDIA_TYPE, TYPE_PREFIX, Problem, ProblemViolation
from certctl.core import errors
from certctl.core.errors import CertctlError, Violation
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

_SOON = timedelta(seconds=5)

STATUSES: Mapping[type[CertctlError], tuple[int, str]] = {
    errors.Malformed: (400, "The request cannot be understood"),
    errors.NotAuthenticated: (401, "Who is calling is not known"),
    errors.NotAllowed: (403, "This is not allowed"),
    errors.NotFound: (404, "There is no such thing"),
    errors.Conflict: (409, "The state of things does not allow this"),
    errors.Blocked: (409, "Something depends on it"),
    errors.StaleFence: (409, "The lease has passed on"),
    errors.StillRunning: (409, "The first such request is under way"),
    errors.AnswerLost: (409, "It was done, and the answer was lost"),
    errors.Gone: (410, "It is gone for good"),
    errors.PreconditionFailed: (412, "It was changed meanwhile"),
    errors.TooLarge: (413, "The request is too large"),
    errors.UnsupportedMediaType: (415, "The body's media type is not supported"),
    errors.IdempotencyKeyReused: (422, "The idempotency key belongs to another request"),
    errors.PolicyDenied: (422, "Profile or policy forbids this"),
    errors.RateLimited: (429, "Too many requests"),
    errors.CallerError: (400, "The request cannot be carried out"),
    errors.Temporary: (503, "Not possible right now"),
    errors.Rejected: (502, "The other side refused"),
    errors.Misconfigured: (502, "The configuration for the other side is wrong"),
    errors.Unsupported: (502, "The other side cannot do this"),
    errors.OutcomeUnknown: (502, "The outcome is not known yet"),
    errors.ConnectorError: (502, "The other side did not do what was asked"),
    errors.TrustError: (502, "What came back cannot be trusted"),
    CertctlError: (500, "Something went wrong"),
}


class Refusal(Struct, frozen=True, kw_only=True):
    """An HTTP answer that carries a problem document; `code` is the error's."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    code: str
    message: str


def refusal(error: BaseException, request_id: str) -> Refusal:
    """The answer to any exception."""
    if not isinstance(error, CertctlError):
        log.error("request_failed", request_id=request_id, exc_info=error)
        return plain_refusal(
            500, "internal", "Something went wrong here; the request id finds it in the log", request_id
        )
    status, title = _status_of(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request_refused", request_id=request_id, error=error)
    return plain_refusal(
        status,
        error.code,
        error.message,
        request_id,
        title=title,
        violations=getattr(error, "violations", ()),
        counts=getattr(error, "counts", None),
        headers=_headers(error),
    )


def plain_refusal(
    status: int,
    code: str,
    message: str,
    request_id: str,
    *,
    title: str = "",
    violations: Sequence[Violation] = (),
    counts: Mapping[str, int] | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Refusal:
    """An answer for what is no CertctlError: an unknown path, a wrong method."""
    phrase = HTTPStatus(status).phrase
    problem = Problem(
        type=TYPE_PREFIX + code,
        title=title or phrase,
        status=status,
        detail=message,
        code=code,
        # the reference product's clients know this one by its word
        error=code if counts is not None else phrase,
        message=message,
        request_id=request_id,
        violations=[ProblemViolation(each.rule, each.message, each.field) for each in violations],
        counts=dict(counts or {}),
    )
    return Refusal(
        status=status,
        headers=(("Content-Type", MEDIA_TYPE), ("Cache-Control", "no-store"), *headers),
        body=msgspec.json.encode(problem),
        code=code,
        message=message,
    )


def _status_of(error: CertctlError) -> tuple[int, str]:
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def _headers(error: CertctlError) -> tuple[tuple[str, str], ...]:
    if isinstance(error, errors.NotAuthenticated):
        return (("WWW-Authenticate", 'Bearer realm="certctl"'),)
    if isinstance(error, errors.RateLimited | errors.Temporary | errors.StillRunning):
        wait = error.retry_after or _SOON
        return (("Retry-After", str(max(1, math.ceil(wait.total_seconds())))),)
    return ()
