"""Reasons for revoking, in the spelling of RFC 5280 5.3.1, and their CRL codes.

certificateHold is known, so that CRLs of others can be read, but refused: certctl cannot lift a hold, and a revocation
that reads as temporary and is not would be a lie.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from certctl.core.errors import Malformed, Violation


class RevocationReason(StrEnum):
    """Why a certificate was revoked."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    CA_COMPROMISE = "caCompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    CERTIFICATE_HOLD = "certificateHold"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"

    @property
    def crl_code(self) -> int:
        """The CRLReason number (RFC 5280 5.3.1)."""
        return _CRL_CODES[self]


_CRL_CODES = {
    RevocationReason.UNSPECIFIED: 0,
    RevocationReason.KEY_COMPROMISE: 1,
    RevocationReason.CA_COMPROMISE: 2,
    RevocationReason.AFFILIATION_CHANGED: 3,
    RevocationReason.SUPERSEDED: 4,
    RevocationReason.CESSATION_OF_OPERATION: 5,
    RevocationReason.CERTIFICATE_HOLD: 6,
    RevocationReason.PRIVILEGE_WITHDRAWN: 9,
}
_OF_FOLDED = {reason.value.lower(): reason for reason in RevocationReason}
USABLE = tuple(reason for reason in RevocationReason if reason is not RevocationReason.CERTIFICATE_HOLD)


# a CRL of so many entries at most is made whenever it is asked for
MADE_AT_ONCE = 1_000
# beyond, it stands a second for so many of its entries: making it takes a twentieth of one processor at most
_ENTRIES_A_SECOND = 10_000


def crl_pause(entries: int, longest: timedelta) -> timedelta:
    """How long a CRL of so many entries stands at least before what was revoked since is told by the next."""
    return timedelta(0) if entries <= MADE_AT_ONCE else min(longest, timedelta(seconds=entries / _ENTRIES_A_SECOND))


def parse_reason(text: str) -> RevocationReason:
    """The reason that `text` names, in any case, with or without `_` and `-`. Raises Malformed naming the known."""
    reason = _OF_FOLDED.get(text.strip().lower().replace("_", "").replace("-", ""))
    if reason is None:
        raise _fault("reason_is_unknown", f"{text[:64]!r} is no revocation reason; known are {', '.join(USABLE)}")
    if reason is RevocationReason.CERTIFICATE_HOLD:
        message = "certificateHold is not offered: a hold cannot be lifted here, so it would be a revocation for good"
        raise _fault("reason_is_not_offered", f"{message}; use {', '.join(USABLE)}")
    return reason


def _fault(rule: str, message: str) -> Malformed:
    return Malformed(message, violations=(Violation(rule, message, "reason"),))
