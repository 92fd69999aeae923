"""ACME's problem documents (RFC 8555 6.7, RFC 9457): the error types, subproblems, and the one exception that is one.

Pure: shapes and words. `detail` is shown to whoever asked, so it never holds a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from certctl.core.errors import CallerError

MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:ietf:params:acme:error:"


class ProblemType(StrEnum):
    """RFC 8555 6.7; `alreadyReplaced` RFC 9773 7.4; `invalidProfile` of the profiles extension."""

    ACCOUNT_DOES_NOT_EXIST = "accountDoesNotExist"
    ALREADY_REPLACED = "alreadyReplaced"
    ALREADY_REVOKED = "alreadyRevoked"
    BAD_CSR = "badCSR"
    BAD_NONCE = "badNonce"
    BAD_PUBLIC_KEY = "badPublicKey"
    BAD_REVOCATION_REASON = "badRevocationReason"
    BAD_SIGNATURE_ALGORITHM = "badSignatureAlgorithm"
    CAA = "caa"
    COMPOUND = "compound"
    CONNECTION = "connection"
    DNS = "dns"
    EXTERNAL_ACCOUNT_REQUIRED = "externalAccountRequired"
    INCORRECT_RESPONSE = "incorrectResponse"
    INVALID_CONTACT = "invalidContact"
    INVALID_PROFILE = "invalidProfile"
    MALFORMED = "malformed"
    ORDER_NOT_READY = "orderNotReady"
    RATE_LIMITED = "rateLimited"
    REJECTED_IDENTIFIER = "rejectedIdentifier"
    SERVER_INTERNAL = "serverInternal"
    TLS = "tls"
    UNAUTHORIZED = "unauthorized"
    UNSUPPORTED_CONTACT = "unsupportedContact"
    UNSUPPORTED_IDENTIFIER = "unsupportedIdentifier"
    USER_ACTION_REQUIRED = "userActionRequired"


# the status that goes with a type unless something else is said
STATUSES: dict[ProblemType, int] = {
    ProblemType.ALREADY_REPLACED: 409,
    ProblemType.CAA: 403,
    ProblemType.EXTERNAL_ACCOUNT_REQUIRED: 403,
    ProblemType.INCORRECT_RESPONSE: 403,
    ProblemType.ORDER_NOT_READY: 403,
    ProblemType.RATE_LIMITED: 429,
    ProblemType.SERVER_INTERNAL: 500,
    ProblemType.UNAUTHORIZED: 403,
    ProblemType.USER_ACTION_REQUIRED: 403,
}


class Subproblem(Struct, frozen=True):
    """What is wrong with one identifier (`type`, `value`) of several."""

    type: ProblemType
    detail: str
    identifier: tuple[str, str] | None = None

    def document(self) -> dict[str, Any]:
        """As it stands in JSON."""
        told: dict[str, Any] = {"type": PREFIX + self.type, "detail": self.detail}
        if self.identifier is not None:
            told["identifier"] = {"type": self.identifier[0], "value": self.identifier[1]}
        return told


class AcmeRefusal(CallerError):
    """A request that ends in a problem document. `algorithms` goes with badSignatureAlgorithm (RFC 8555 6.2),
    `instance` with userActionRequired (7.3.3): where a person is told what to do.
    """

    code = "acme_refused"

    def __init__(
        self,
        kind: ProblemType,
        detail: str,
        *,
        status: int = 0,
        subproblems: Sequence[Subproblem] = (),
        retry_after: timedelta | None = None,
        algorithms: Sequence[str] = (),
        headers: Sequence[tuple[str, str]] = (),
        instance: str = "",
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.status = status or STATUSES.get(kind, 400)
        self.subproblems = tuple(subproblems)
        self.retry_after = retry_after
        self.algorithms = tuple(algorithms)
        self.headers = tuple(headers)
        self.instance = instance

    def document(self) -> dict[str, Any]:
        """As it stands in JSON; also what an order or a challenge keeps of its failure."""
        told: dict[str, Any] = {"type": PREFIX + self.kind, "detail": self.message, "status": self.status}
        if self.subproblems:
            told["subproblems"] = [each.document() for each in self.subproblems]
        if self.algorithms:
            told["algorithms"] = list(self.algorithms)
        if self.instance:
            told["instance"] = self.instance
        return told

    def body(self) -> bytes:
        """The document, encoded."""
        return msgspec.json.encode(self.document())
