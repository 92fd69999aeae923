"""The one shape of every refusal: RFC 9457 members, with the reference product's `error`, `message`, `request_id`."""

from __future__ import annotations

from msgspec import Struct

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:certctl:problem:"


class ProblemViolation(Struct, frozen=True, omit_defaults=True):
    """One named reason. `field` is the request's field it speaks of."""

    rule: str
    message: str
    field: str = ""


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document. `code` is stable; `detail` and `message` say the same sentence.

    `counts` says what still depends on a thing (409 `blocked_by_dependencies`).
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    error: str
    message: str
    request_id: str = ""
    violations: list[ProblemViolation] = []
    counts: dict[str, int] = {}
