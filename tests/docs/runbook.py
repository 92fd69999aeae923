"""Runbooks as they are read: their console lines, run one after the other in a place prepared for them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "operator" / "runbooks"
# checked against the chart's render elsewhere: no cluster runs here
NOT_RUN = ("helm", "kubectl")


class Line(NamedTuple):
    """One command, with the heading that it stands under."""

    heading: str
    command: str


def lines(name: str) -> list[Line]:
    """The `$ ` lines of the console blocks of a runbook; a line that ends in a backslash goes on in the next."""
    heading, inside, found, open_line = "", False, [], ""
    for raw in (FOLDER / f"{name}.md").read_text().splitlines():
        text = raw.strip()
        if text.startswith("```"):
            inside = not inside and text == "```console"
        elif text.startswith("#") and not inside:
            heading = text.lstrip("# ")
        elif inside and (open_line or text.startswith("$ ")):
            open_line += text.removeprefix("$ ") if not open_line else f" {text}"
            if open_line.endswith("\\"):
                open_line = open_line[:-1].rstrip()
                continue
            found.append(Line(heading, open_line))
            open_line = ""
    return found


def run(line: Line, folder: Path, environ: dict[str, str]) -> str:
    """Run one line as a reader's shell would; what it printed. AssertionError with everything when it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line.command],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{line.heading}: {line.command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def placeholders(command: str) -> list[str]:
    """Words that a reader has to replace, such as <certificate>: none may be left in what is run."""
    return re.findall(r"<[a-z-]+>", command)
