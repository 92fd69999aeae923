"""`certctl-server config check|docs`: what this environment means to the server, before it is started with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from certctl.settings import SECTIONS, VARIABLES, read
from certctl.settings.variables import Variable

NOTHING_WRONG, WRONG = 0, 4


def run(environ: Mapping[str, str], action: str, *, as_json: bool) -> int:
    """`check` this environment, or print the `docs`; returns the exit code."""
    if action == "check":
        return check(environ, as_json=as_json)
    sys.stdout.write(tables() + "\n")
    return NOTHING_WRONG


def check(environ: Mapping[str, str], *, as_json: bool) -> int:
    """Say what is wrong and what does nothing; 4 when the server would refuse to start, as it then does."""
    found = read(environ)
    if as_json:
        told = {"faults": found.faults, "idle": found.idle, "set": sorted(_given(environ))}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return WRONG if found.faults else NOTHING_WRONG
    for fault in found.faults:
        sys.stdout.write(f"wrong  {fault}\n")
    for name in found.idle:
        sys.stdout.write(f"idle   {name}: the reference product reads it, this release does not\n")
    for variable in _given(environ).values():
        shown = "(secret)" if variable.secret else environ[variable.name]
        sys.stdout.write(f"set    {variable.name} = {shown}\n")
    sys.stdout.write("the server would refuse to start\n" if found.faults else "the server would start with this\n")
    return WRONG if found.faults else NOTHING_WRONG


def _given(environ: Mapping[str, str]) -> dict[str, Variable]:
    return {variable.name: variable for variable in VARIABLES.values() if environ.get(variable.name)}


def tables() -> str:
    """Every variable by section, as Markdown."""
    parts: list[str] = []
    for title, section in SECTIONS.items():
        parts += [f"### {title}", "", "| variable | value | default | meaning |", "|---|---|---|---|"]
        parts += [f"| `{v.name}` | {v.kind} | {_default(v)} | {v.meaning} |" for v in section.values()]
        parts.append("")
    return "\n".join(parts).rstrip()


def _default(variable: Variable) -> str:
    if variable.shown:
        return variable.shown
    return f"`{variable.default}`" if variable.default else ""
