"""What people read: aligned columns, relative times, colours where a terminal takes them; scripts get --json.

On a pipe nothing is shortened, coloured or wrapped. NO_COLOR is honoured (no-color.org).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TextIO

_SHORT_ID = 12
_TAIL = 8
_COLOURS = {
    "green": ("Active", "Online", "Completed", "success", "verified", "current", "done", "ready", "true", "healthy"),
    "yellow": (
        "Pending", "Expiring", "RenewalInProgress", "AwaitingCSR", "AwaitingApproval", "Running", "Degraded", "pending",
        "applying", "applied", "leased", "untested", "Unknown", "Offline",
    ),
    "red": ("Failed", "Expired", "Revoked", "failed", "drifted", "revoked"),
    "dim": ("Archived", "Cancelled", "superseded", "cancelled", "retired", "false"),
}  # fmt: skip
_ANSI = {"green": "32", "yellow": "33", "red": "31", "dim": "2", "bold": "1"}
_COLOUR_OF = {word: colour for colour, words in _COLOURS.items() for word in words}


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether a person is looking."""
    return (stream or sys.stdout).isatty()


def colours(stream: TextIO | None = None) -> bool:
    """Whether to colour."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """`text` in a colour, where colours are taken."""
    return f"\x1b[{_ANSI[colour]}m{text}\x1b[0m" if colours(stream) else text


def status(word: str) -> str:
    """A status word in its colour."""
    colour = _COLOUR_OF.get(word)
    return paint(word, colour) if colour else word


def short(thing_id: str) -> str:
    """An id as a terminal has room for: its prefix and its tail, which commands take as well; whole on a pipe."""
    if not is_terminal() or len(thing_id) <= _SHORT_ID + _TAIL:
        return thing_id
    return f"{thing_id.partition('-')[0]}\u2026{thing_id[-_TAIL:]}"


def moment(value: datetime | None, now: datetime | None = None) -> str:
    """`in 89 days`, `3 minutes ago`; RFC 3339 on a pipe; empty for None."""
    if value is None:
        return ""
    if not is_terminal():
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return relative(value - (now or datetime.now(UTC)))


def relative(distance: timedelta) -> str:
    """A distance in time in words, its largest unit only."""
    seconds = distance.total_seconds()
    size = abs(seconds)
    if size < 1:
        return "now"
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if size >= 2 * length or unit == "second":
            count = int(size // length)
            words = f"{count} {unit}{'' if count == 1 else 's'}"
            return f"in {words}" if seconds > 0 else f"{words} ago"
    return "now"


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str = "nothing to show") -> None:
    """Aligned columns with a header; one sentence when there are no rows (on a terminal only)."""
    listed = [list(row) for row in rows]
    if not listed:
        if is_terminal():
            sys.stdout.write(f"{empty}\n")
        return
    widths = [max(_width(cell) for cell in column) for column in zip(columns, *listed, strict=True)]
    _print_row([paint(name, "bold") for name in columns], widths)
    for row in listed:
        _print_row(row, widths)


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """`name   value` lines; empty values are left out."""
    shown = [(name, value) for name, value in facts if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        sys.stdout.write(f"{paint(name.ljust(width), 'dim')}  {value}\n")


def _print_row(cells: Sequence[str], widths: Sequence[int]) -> None:
    padded = [cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)]
    sys.stdout.write("  ".join(padded).rstrip() + "\n")


def _width(cell: str) -> int:
    """How wide a cell looks: escape codes take no room."""
    while "\x1b[" in cell:
        start = cell.index("\x1b[")
        cell = cell[:start] + cell[cell.index("m", start) + 1 :]
    return len(cell)


def safe(text: str) -> str:
    """Text from the server without control characters: nothing there may steer the terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
