"""`certctl events follow`: what changes, as it changes."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer

from certctl.cli import options, tables
from certctl.cli.connection import connect

app = typer.Typer(no_args_is_help=True, help="Follow what changes.")


@app.command()
def follow(
    since: Annotated[str, typer.Option("--since", help="Go on behind this event's id.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", help="End after so many; 0 never ends.", min=0)] = 0,
    json: options.Json = False,
) -> None:
    """One line an event, JSON with -o json; until interrupted."""
    told = 0
    with connect() as client:
        try:
            for event in client.follow(since):
                change = event.change
                if json:
                    line = msgspec.json.encode({"id": event.id, **msgspec.structs.asdict(change)}).decode()
                else:
                    words = (tables.moment(change.at), change.type, change.subject_type, change.subject_id)
                    line = "  ".join(tables.safe(each) for each in words)
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
                told += 1
                if told == limit:
                    return
        except KeyboardInterrupt:
            return
