"""Options that many commands share, spelled once."""

from __future__ import annotations

from typing import Annotated

import typer

from certctl.cli.exits import LocalRefusal, UsageFault
from certctl.cli.tables import is_terminal

Json = Annotated[bool, typer.Option("--json", help="Print JSON, as the API has it, for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it until it is done.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds to wait at most.", min=0)]


def confirm(question: str, *, yes: bool) -> None:
    """Ask before what cannot be undone; without a terminal only --yes says yes."""
    if yes:
        return
    if not is_terminal() or not _stdin_is_terminal():
        raise UsageFault(f"{question} Say --yes to do it without being asked.")
    if not typer.confirm(question):
        raise LocalRefusal("nothing was changed")


def _stdin_is_terminal() -> bool:
    import sys

    return sys.stdin.isatty()
