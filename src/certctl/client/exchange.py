"""One call from beginning to end without a socket: what to send, how long to wait, what came of it.

Both clients drive `converse`; they differ in how they send and sleep alone. A GET is repeated when it failed for the
moment; so is a POST, under the Idempotency-Key that it had the first time: the server acts once and keeps its answer.
Must never put a header or a body of ours into an error.
"""

from __future__ import annotations

import ssl
from collections.abc import Generator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx
import msgspec

from certctl import __version__
from certctl.client.calls import Call, Resource, encode_body
from certctl.client.models.page import PageOf
from certctl.client.models.problem import Problem
from certctl.core import errors
from certctl.core.errors import CertctlError, Misconfigured, OutcomeUnknown, Temporary, Violation
from certctl.core.ids import uuid7
from certctl.core.secret import Secret

AnswerT = TypeVar("AnswerT")

CALL_SECONDS = 30.0
ATTEMPTS = 3
_LONGEST_PAUSE_SECONDS = 5.0


class Unreachable(Temporary):
    """Nothing answers there, or what answers cannot be trusted."""

    code = "unreachable"


class Unreadable(Unreachable):
    """Something answered, in no words of ours: whatever was asked of it may have been done."""


_Passing = Temporary | errors.RateLimited | errors.StillRunning | OutcomeUnknown
# a PUT, PATCH or DELETE is repeated for nothing
_REPEATED = frozenset({"GET", "POST"})


def tls_context(ca_path: Path | None) -> ssl.SSLContext:
    """A verifying context (TLS 1.2 or newer); `ca_path` (PEM) replaces the system's roots. Raises Misconfigured."""
    try:
        return ssl.create_default_context(cafile=str(ca_path) if ca_path is not None else None)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(f"the CA bundle {ca_path} cannot be read: {error.strerror or error}") from error


def check_url(url: str) -> str:
    """The server's address without a trailing slash; Misconfigured unless it is an https URL."""
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
        raise Misconfigured(f"{url!r} is no URL; write https://host:port") from error
    if parsed.scheme != "https" or not parsed.host:
        raise Misconfigured(f"{url!r} is no https URL; write https://host:port")
    return str(parsed).rstrip("/")


def converse(
    call: Call[AnswerT], key: Secret, url: str, seconds: float = CALL_SECONDS
) -> Generator[dict[str, Any] | float, httpx.Response | None, AnswerT]:
    """Yields what to send (and takes the response, or the httpx.HTTPError thrown in) and how many seconds to wait."""
    request = request_of(call, key, seconds)
    attempt = 0
    while True:
        attempt += 1
        try:
            response = yield request
            if response is not None:
                return answer_of(call, response)
            raise TypeError("a request is answered with a response")
        except httpx.HTTPError as error:
            failure = unanswered(call, error, url)
            failure.__cause__ = error
        except CertctlError as error:
            failure = error
        pause = pause_before_retry(call, failure, attempt)
        if pause is None:
            raise failure
        yield pause


def walk(
    resource: Resource[AnswerT], query: Mapping[str, str], page_size: int = 500
) -> Generator[Call[PageOf[AnswerT]], PageOf[AnswerT], None]:
    """Yields the calls that read a whole list, each from what the last one answered."""
    page = yield resource.after(page_size=page_size, **query)
    while page.next_cursor:
        page = yield resource.after(page.next_cursor, page_size, **query)


def request_of(call: Call[Any], key: Secret, seconds: float = CALL_SECONDS) -> dict[str, Any]:
    """The keyword arguments of httpx's `request`; a POST gets an Idempotency-Key of its own."""
    content = encode_body(call.body)
    headers = {"Accept": "application/json", "User-Agent": f"certctl/{__version__}"}
    if key:
        headers["Authorization"] = f"Bearer {key.reveal()}"
    if content is not None:
        headers["Content-Type"] = "application/json"
    if call.method == "POST":
        headers["Idempotency-Key"] = uuid7()
    if call.if_match:
        headers["If-Match"] = call.if_match
    return {
        "method": call.method,
        "url": call.path,
        "params": call.query or None,
        "content": content,
        "headers": headers,
        "timeout": seconds + call.patience_seconds,
    }


def answer_of(call: Call[AnswerT], response: httpx.Response) -> AnswerT:
    """The data of a good answer; raises the error that any other one tells."""
    if not response.is_success:
        raise error_of(response)
    if call.answer is bytes:
        return cast("AnswerT", response.content)
    if not response.content:
        return cast("AnswerT", None)
    try:
        return msgspec.json.decode(response.content, type=call.answer)
    except msgspec.MsgspecError as error:
        raise Unreadable(
            f"{response.url.host} answered what certctl {__version__} cannot read: is it a certctl server?",
            detail=str(error),
        ) from error


def unanswered(call: Call[Any], error: httpx.HTTPError, url: str) -> CertctlError:
    """A change that may have been made is said to be unknown."""
    sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    if sent and call.method != "GET":
        return OutcomeUnknown(
            f"the connection to {url} broke while a change was under way; look whether it happened before asking again",
            reference=call.path,
            detail=str(error),
        )
    return transport_error(error, url)


def transport_error(error: httpx.HTTPError, base_url: str) -> CertctlError:
    """What kept a call from being answered, in a sentence that says what to do."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Unreachable(
                f"the certificate of {base_url} is not trusted ({getattr(cause, 'verify_message', None) or cause}); "
                "name the CA that signed it with --ca-bundle or CERTCTL_SERVER_CA_BUNDLE_PATH"
            )
        cause = cause.__cause__ or cause.__context__
    return Unreachable(f"{base_url} does not answer: {str(error) or type(error).__name__}")


def pause_before_retry(call: Call[Any], error: CertctlError, attempt: int) -> float | None:
    """Seconds to wait before a call is sent again, or None.

    A GET and a POST may be: one changes nothing, the other has its key. PUT, PATCH and DELETE are the caller's to
    repeat: somebody else may have written since.
    """
    if call.method not in _REPEATED or attempt >= ATTEMPTS or not isinstance(error, _Passing):
        return None
    if call.method != "GET" and isinstance(error, Unreadable):
        return None
    if not isinstance(error, OutcomeUnknown) and error.retry_after is not None:
        pause = error.retry_after.total_seconds()
        return pause if pause <= _LONGEST_PAUSE_SECONDS else None
    return float(0.2 * 2**attempt)


def error_of(response: httpx.Response) -> CertctlError:
    """The error that a problem document (RFC 9457) tells, else the one its status means."""
    problem = _problem(response)
    message = problem.message if problem else f"the server answered {response.status_code} {response.reason_phrase}"
    if problem and problem.request_id and response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        message = f"{message} (request id {problem.request_id})"
    kind = _BY_CODE.get(problem.code if problem else "") or _BY_STATUS.get(response.status_code)
    if kind is None:
        kind = Temporary if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR else errors.CallerError
    violations = tuple(
        Violation(each.rule, each.message, each.field) for each in (problem.violations if problem else ())
    )
    if kind is errors.Blocked and problem:
        return errors.Blocked(message, counts=problem.counts)
    return _make(kind, message, violations, _retry_after(response.headers))


def _make(
    kind: type[CertctlError], message: str, violations: tuple[Violation, ...], retry_after: timedelta | None
) -> CertctlError:
    if kind is errors.PolicyDenied:
        return errors.PolicyDenied(violations or (Violation("policy_denied", message),))
    if kind is errors.Malformed:
        return errors.Malformed(message, violations=violations)
    if kind is errors.RateLimited:
        return errors.RateLimited(message, retry_after=retry_after or timedelta(seconds=1))
    if kind is Temporary:
        return Temporary(message, retry_after=retry_after)
    return kind(message)


def _problem(response: httpx.Response) -> Problem | None:
    try:
        return msgspec.json.decode(response.content, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _retry_after(headers: Mapping[str, str]) -> timedelta | None:
    text = headers.get("Retry-After", "")
    return timedelta(seconds=int(text)) if text.isascii() and text.isdigit() and len(text) < 7 else None


def _leaves(kind: type[CertctlError]) -> list[type[CertctlError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in _leaves(child))]


_BY_CODE: dict[str, type[CertctlError]] = {
    kind.code: kind for kind in _leaves(CertctlError) if not issubclass(kind, Unreachable)
}
_BY_STATUS: dict[int, type[CertctlError]] = {
    400: errors.Malformed,
    401: errors.NotAuthenticated,
    403: errors.NotAllowed,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.Gone,
    412: errors.PreconditionFailed,
    413: errors.TooLarge,
    415: errors.UnsupportedMediaType,
    422: errors.PolicyDenied,
    429: errors.RateLimited,
}
