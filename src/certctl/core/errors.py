"""Every error certctl raises on purpose.

    CertctlError                 code (stable), message (safe to show), detail (logs only)
    |- CallerError               Malformed NotFound Conflict (Blocked) NotAuthenticated NotAllowed RateLimited TooLarge
    |                            UnsupportedMediaType PolicyDenied(violations)
    |- ConnectorError            Temporary(retry_after) Rejected Misconfigured Unsupported OutcomeUnknown(reference)
    '- TrustError                what came back is wrong: stop, page a human

Anything else is a bug. No HTTP status lives here: each edge has one mapping of its own.
"""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct


class Violation(Struct, frozen=True):
    """One named reason why something is refused. `field` is the request's field it speaks of, or empty."""

    rule: str
    message: str
    field: str = ""


class CertctlError(Exception):
    """Base of all errors raised on purpose. `message` is safe to show, `detail` goes to logs only."""

    code = "error"

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class CallerError(CertctlError):
    """The caller can mend it."""

    code = "caller_error"


class Malformed(CallerError):
    """The input cannot be read or breaks a rule of form; names every field at fault."""

    code = "malformed"

    def __init__(self, message: str, *, violations: tuple[Violation, ...] = (), detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.violations = violations


class NotFound(CallerError):
    """No such thing within the caller's scope."""

    code = "not_found"


class Conflict(CallerError):
    """The thing is in another state than the call needs, or the name is taken."""

    code = "conflict"


class Blocked(Conflict):
    """Something still depends on the thing; `counts` says how many of what."""

    code = "blocked_by_dependencies"

    def __init__(self, message: str, *, counts: dict[str, int] | None = None, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.counts = counts or {}


class PreconditionFailed(CallerError):
    """The thing is no longer the one that the caller's `If-Match` speaks of: somebody changed it meanwhile."""

    code = "precondition_failed"


class IdempotencyKeyReused(CallerError):
    """The caller's idempotency key belongs to another request."""

    code = "idempotency_key_reused"


class StillRunning(CallerError):
    """The first request with this idempotency key is under way; `retry_after` says when to look again."""

    code = "still_running"

    def __init__(self, message: str, *, retry_after: timedelta = timedelta(seconds=1), detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.retry_after = retry_after


class AnswerLost(CallerError):
    """The first request with this idempotency key did act, and its answer is lost; `subject_id` is what it wrote."""

    code = "answer_lost"

    def __init__(self, message: str, *, subject_id: str = "", detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.subject_id = subject_id


class Gone(CallerError):
    """It was there and will not come back (a retired agent, a used bootstrap)."""

    code = "gone"


class NotAuthenticated(CallerError):
    """Who is calling is not known."""

    code = "not_authenticated"


class NotAllowed(CallerError):
    """Who is calling is known and may not do this."""

    code = "not_allowed"


class RateLimited(CallerError):
    """Too many calls; `retry_after` says when to come back."""

    code = "rate_limited"

    def __init__(self, message: str, *, retry_after: timedelta, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.retry_after = retry_after


class TooLarge(CallerError):
    """The body exceeds the limit."""

    code = "too_large"


class UnsupportedMediaType(CallerError):
    """The body's content type is not one this route reads."""

    code = "unsupported_media_type"


class PolicyDenied(CallerError):
    """The profile or a policy forbids it; carries every violation, not the first."""

    code = "policy_denied"

    def __init__(self, violations: tuple[Violation, ...], *, detail: str = "") -> None:
        super().__init__("; ".join(v.message for v in violations) or "refused by policy", detail=detail)
        self.violations = violations


class ConnectorError(CertctlError):
    """Something outside certctl (a CA, a server, a host) did not do what was asked.

    `cause` is the word that failures are counted under: timeout, auth, rate_limited, validation, upstream_5xx,
    upstream_4xx, network or other.
    """

    code = "connector_error"
    cause = "other"


class Temporary(ConnectorError):
    """Worth trying again, not before `retry_after` when it is given."""

    code = "temporary"

    def __init__(self, message: str, *, retry_after: timedelta | None = None, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.retry_after = retry_after


class Rejected(ConnectorError):
    """The other side understood and said no; asking again unchanged is useless."""

    code = "rejected"
    cause = "validation"


class Misconfigured(ConnectorError):
    """Our own configuration for the other side is wrong; a person must mend it."""

    code = "misconfigured"


class Unsupported(ConnectorError):
    """The connector has no such ability."""

    code = "unsupported"


class OutcomeUnknown(ConnectorError):
    """It may or may not have happened; `reference` is how to find out. Never act again blindly."""

    code = "outcome_unknown"

    def __init__(self, message: str, *, reference: str = "", detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.reference = reference


class TrustError(CertctlError):
    """What came back is wrong (another key, a chain that does not verify): stop and page a human."""

    code = "trust_error"


class StaleFence(CallerError):
    """The lease this result was made under has passed to another; the result is refused."""

    code = "stale_fence"
