"""`doctor`: a row of named checks, each says ok, warn or fail in a sentence, and what to do next.

Shared by `certctl doctor`, `certctl-server doctor` and `certctl-agent doctor`, so it imports little. Checks look and
change nothing. A check that meets an error is a finding itself: nobody gets a stack trace. Exit code 1 when one fails.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from certctl.core.errors import CertctlError, NotAllowed

SubjectT = TypeVar("SubjectT")
_MARKS = {"ok": "32", "warn": "33", "fail": "31"}
_CLOCK_WARN, _CLOCK_FAIL = timedelta(seconds=5), timedelta(seconds=60)


class Finding(Struct, frozen=True, kw_only=True):
    """What one check found. `next` says what to do; empty when there is nothing to be done."""

    check: str = ""
    status: Literal["ok", "warn", "fail"]
    message: str
    next: str = ""


Found = Finding | Sequence[Finding]
Check = Callable[[SubjectT], "Found | Awaitable[Found]"]


def ok(message: str) -> Finding:
    """All is well."""
    return Finding(status="ok", message=message)


def warn(message: str, next_step: str) -> Finding:
    """It works, or will for a while."""
    return Finding(status="warn", message=message, next=next_step)


def fail(message: str, next_step: str) -> Finding:
    """It does not work."""
    return Finding(status="fail", message=message, next=next_step)


def examine(
    checks: Sequence[Check[SubjectT]], subject: SubjectT, vital: Sequence[Check[SubjectT]] = ()
) -> list[Finding]:
    """Run `checks` in order; when one of the `vital` ones fails the rest could only repeat it and is left out."""
    return asyncio.run(_examine(checks, subject, vital))


async def _examine(
    checks: Sequence[Check[SubjectT]], subject: SubjectT, vital: Sequence[Check[SubjectT]]
) -> list[Finding]:
    findings: list[Finding] = []
    for number, check in enumerate(checks):
        found = await _run(check, subject)
        findings += [msgspec.structs.replace(each, check=name_of(check)) for each in found]
        if check in vital and any(each.status == "fail" for each in found):
            left = ", ".join(name_of(later) for later in checks[number + 1 :])
            if left:
                rest = warn(f"not looked at: {left}", "mend the above, then ask again")
                findings.append(msgspec.structs.replace(rest, check="the rest"))
            break
    return findings


async def _run(check: Check[SubjectT], subject: SubjectT) -> list[Finding]:
    try:
        found = check(subject)
        if inspect.isawaitable(found):
            found = await found
    except NotAllowed as error:
        return [warn(f"not looked at: {error.message}", "ask with a key that may read it")]
    except CertctlError as error:
        return [fail(error.message, "")]
    except OSError as error:
        return [fail(f"{error.filename or 'system'}: {error.strerror or error}", "look at its owner and mode")]
    except Exception as error:  # a bug of ours must not end the examination, nor show a trace
        return [fail(f"this check met an unexpected {type(error).__name__}", "please report it, with --json's output")]
    return [found] if isinstance(found, Finding) else list(found)


def name_of(check: Callable[..., object]) -> str:
    """A check's name for people: that of its function."""
    return getattr(check, "__name__", "check").removeprefix("check_").replace("_", " ")


def tell(findings: Sequence[Finding], *, as_json: bool) -> int:
    """Print the findings; returns the exit code."""
    if as_json:
        from certctl.cli import output  # typer: only where it is asked for

        output.print_data(findings)
    else:
        width = max((len(each.check) for each in findings), default=0)
        for each in findings:
            sys.stdout.write(f"{_mark(each.status)}  {each.check.ljust(width)}  {_plain(each.message)}\n")
            if each.next:
                sys.stdout.write(f"{' ' * (width + 8)}-> {_plain(each.next)}\n")
        sys.stdout.write(_sum(findings))
    return 1 if any(each.status == "fail" for each in findings) else 0


def _sum(findings: Sequence[Finding]) -> str:
    failed = sum(each.status == "fail" for each in findings)
    warned = sum(each.status == "warn" for each in findings)
    if not failed and not warned:
        return "all is well\n"
    return f"{failed} to mend, {warned} to look at\n"


def _mark(status: str) -> str:
    text = status.ljust(4)
    return f"\x1b[{_MARKS[status]}m{text}\x1b[0m" if sys.stdout.isatty() else text


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def judge_clock(theirs: datetime, before: datetime, after: datetime, whose: str) -> Finding:
    """Compare another clock, read between two looks at ours."""
    middle = before + (after - before) / 2
    off = theirs - middle
    far = max(abs(off) - (after - before) / 2, timedelta(0))
    said = f"{abs(off.total_seconds()):.1f} s {'ahead of' if off > timedelta(0) else 'behind'} this machine's"
    if far >= _CLOCK_FAIL:
        return fail(f"{whose} clock is {said}", "set both clocks right (chrony, systemd-timesyncd)")
    if far >= _CLOCK_WARN:
        return warn(f"{whose} clock is {said}", "set both clocks right (chrony, systemd-timesyncd)")
    return ok(f"{whose} clock agrees with this machine's")


def judge_end(what: str, not_after: datetime, now: datetime, life: timedelta, next_step: str) -> Finding:
    """How long a certificate still lives: less than a third of its life is told, less than a tenth is bad."""
    left = not_after - now
    if left <= timedelta(0):
        return fail(f"{what} expired on {not_after:%Y-%m-%d %H:%M} UTC", next_step)
    said = f"{what} is good until {not_after:%Y-%m-%d %H:%M} UTC"
    if left < life / 10:
        return fail(f"{said}: {_span(left)} left", next_step)
    if left < life / 4:
        return warn(f"{said}: {_span(left)} left", next_step)
    return ok(said)


def _span(left: timedelta) -> str:
    return f"{left.days} days" if left.days >= 2 else f"{left.total_seconds() / 3600:.1f} hours"
