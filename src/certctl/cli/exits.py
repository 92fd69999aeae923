"""How `certctl` ends: one sentence for people, one number for scripts."""

from __future__ import annotations

from certctl.core import errors
from certctl.core.errors import CertctlError, Malformed, PolicyDenied

OK, FAILED, USAGE, NOT_FOUND, REFUSED, UNREACHABLE, TIMED_OUT = range(7)

MEANINGS = {
    OK: "done",
    FAILED: "failed",
    USAGE: "wrong usage",
    NOT_FOUND: "not found",
    REFUSED: "refused or denied",
    UNREACHABLE: "server unreachable",
    TIMED_OUT: "timed out waiting",
}
EXITS = f"Exit codes: {', '.join(f'{code} {meaning}' for code, meaning in MEANINGS.items())}."


class UsageFault(CertctlError):
    """The command line, a file or an environment variable is at fault."""

    code = "usage"


class TimedOut(CertctlError):
    """What was waited for had not ended in time; it goes on at the server."""

    code = "timed_out"


class StageFailed(CertctlError):
    """What was asked for was tried and failed."""

    code = "stage_failed"


class LocalRefusal(CertctlError):
    """A person said no."""

    code = "not_confirmed"


_CODES: tuple[tuple[type[CertctlError] | tuple[type[CertctlError], ...], int], ...] = (
    ((UsageFault, errors.Misconfigured), USAGE),
    (TimedOut, TIMED_OUT),
    (errors.NotFound, NOT_FOUND),
    (errors.Temporary, UNREACHABLE),
    ((errors.CallerError, errors.Rejected, LocalRefusal), REFUSED),
)


def exit_code(error: CertctlError) -> int:
    """The number that goes with an error."""
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), FAILED)


def sentence(error: CertctlError) -> str:
    """What happened, every violation on a line of its own, and what to do next."""
    lines = [error.message]
    if isinstance(error, Malformed | PolicyDenied) and len(error.violations) > 1:
        lines = ["the server refused this:", *(f"  - {each.message}" for each in error.violations)]
    hint = _hint(error)
    return "\n".join([*lines, hint] if hint else lines)


def _hint(error: CertctlError) -> str:
    if isinstance(error, errors.NotAuthenticated):
        return "Sign in again: certctl login --server URL --key-stdin"
    if isinstance(error, errors.NotAllowed):
        return "See what your key may do: certctl status"
    if error.code == "unreachable":
        return "Check the address and that the server runs: certctl status"
    if isinstance(error, TimedOut):
        return "It goes on at the server: certctl jobs list"
    return ""
