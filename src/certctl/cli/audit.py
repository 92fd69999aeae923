"""`certctl audit`: who did what, exports of any length, and whether any of it was changed since."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from certctl.cli import lists, options, output, records
from certctl.cli.connection import connect
from certctl.cli.exits import UsageFault

app = typer.Typer(no_args_is_help=True, help="Read, export and verify the audit log.")

Since = Annotated[str, typer.Option("--from", "--since", help="From this time on (2026-01-31T00:00:00Z).")]
Until = Annotated[str, typer.Option("--to", "--until", help="Until before this time.")]
_COLUMNS = ("timestamp", "actor", "action", "resource_type", "resource_id")


@app.command("list")
def list_events(
    search: lists.Search = "",
    filter_: lists.Filters = None,
    since: Since = "",
    until: Until = "",
    sort: lists.Sort = "",
    page: lists.Page = 1,
    every: lists.All = False,
    limit: lists.Limit = 50,
    json: options.Json = False,
) -> None:
    """Newest first; narrow it with --filter actor=..., action=, resource_type=, resource_id=, category=."""
    from certctl.client import audits

    query = lists.filters(filter_) | {"q": search, "sort": sort, "since": since, "until": until}
    with connect() as client:
        found = lists.fetch(client, audits.AUDIT, page=page, limit=limit, every=every, **query)
    if json:
        output.print_data(found)
        return
    records.print_rows(found.data, _COLUMNS, "No events.")


@app.command("get", hidden=True)
@app.command()
def show(event: Annotated[str, typer.Argument(help="Id of the event.")], json: options.Json = False) -> None:
    """One event, whole."""
    with connect() as client:
        records.print_record(client.get_audit_event(event), json=json)


@app.command()
def export(
    since: Since = "",
    until: Until = "",
    category: Annotated[str, typer.Option("--category", help="Only cert_lifecycle, auth or config.")] = "",
    sealed: Annotated[bool, typer.Option("--sealed", help="With all that `certctl audit verify` needs.")] = False,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Where to; standard output without it.")] = None,
) -> None:
    """One JSON object a line, oldest first, however long."""
    from certctl.client import audits

    call = audits.export_audit(since, until, category, seal=sealed)
    with connect() as client:
        if file is None:
            for line in client.lines(call):
                sys.stdout.buffer.write(line + b"\n")
            return
        number = _write_whole(file, client.lines(call))
    sys.stderr.write(f"{number} lines in {file}\n")


def _write_whole(path: Path, lines: Iterable[bytes]) -> int:
    """The file is there when all of it is; a broken connection leaves what was there before."""
    unfinished = path.with_name(f"{path.name}.part")
    number = 0
    try:
        with unfinished.open("wb") as written:
            for line in lines:
                written.write(line + b"\n")
                number += 1
        unfinished.replace(path)
    except OSError as error:
        raise UsageFault(f"{path} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return number


@app.command()
def seal(
    checkpoint: Annotated[
        bool, typer.Option("--checkpoint", help="Only the signed head, to be kept elsewhere.")
    ] = False,
    key: Annotated[bool, typer.Option("--key", help="Only the key that verifies the heads.")] = False,
    json: options.Json = False,
) -> None:
    """How the seal stands."""
    with connect() as client:
        found = client.get_audit_seal()
    if checkpoint or key:
        sys.stdout.write(found.checkpoint if checkpoint else f"{found.verifier_key}\n")
        return
    records.print_record(found, json=json)


@app.command()
def push(json: options.Json = False) -> None:
    """How far each receiver off the box has come."""
    with connect() as client:
        found = client.get_audit_push()
    if json:
        output.print_data(found)
        return
    columns = ("name", "address", "behind", "sent", "sent_at", "failures", "error")
    records.print_rows(found.receivers, columns, "The audit log is pushed nowhere.")


@app.command()
def verify(
    file: Annotated[
        Path | None,
        typer.Argument(help="A sealed export, or a receiver's file; without one the server verifies its log."),
    ] = None,
    key: Annotated[str, typer.Option("--key", help="The log's verifier key, from `certctl audit seal --key`.")] = "",
    head: Annotated[list[Path] | None, typer.Option("--head", help="A head kept from before; again for more.")] = None,
    json: options.Json = False,
) -> None:
    """Whether the log is what was sealed; the first bad row is named. A file is checked here, without any server."""
    from certctl.client.pushed import is_pushed
    from certctl.client.sealed import NotIntact, verify_export

    if file is None:
        with connect() as client:
            told = client.verify_audit_seal()
        if json:
            output.print_data(told)
        elif told.intact:
            pruned = f"; of the first {told.pruned}, which were pruned, their hashes" if told.pruned else ""
            sys.stdout.write(f"intact: {told.size} events are what was sealed{pruned}\n")
        if not told.intact:
            raise NotIntact(f"event {told.broken_at} of the log does not hold: {told.broken}")
        return
    try:
        older = [each.read_text(encoding="utf-8") for each in head or []]
        with file.open("rb") as lines:
            if is_pushed(lines.readline()):
                lines.seek(0)
                _verify_pushed(lines, key, older)
                return
            lines.seek(0)
            found = verify_export(lines, key, older)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageFault(f"the file cannot be read: {error}") from error
    at = f"{found.head.at:%Y-%m-%d %H:%M:%S} UTC"
    sys.stdout.write(f"intact: events {found.start} to {found.end} of {found.head.size}, under the head of {at}\n")
    if not key:
        sys.stderr.write(f"The key came with the export. Keep it, and name it next time: --key {found.verifier_key}\n")


def _verify_pushed(lines: Iterable[bytes], key: str, older: list[str]) -> None:
    """What a receiver has holds under a key that somebody kept: a file brings none that could be believed."""
    from certctl.client.pushed import verify_pushed

    if not key:
        raise UsageFault("a receiver's file needs --key, from `certctl audit seal --key` on the first day")
    found = verify_pushed(lines, key, older)
    behind = f"; {found.behind} more came since, which no head covers yet" if found.behind else ""
    at = f"{found.head.at:%Y-%m-%d %H:%M:%S} UTC"
    said = f"intact: the first {found.head.size} events, held against {found.heads} heads, the newest of {at}"
    sys.stdout.write(f"{said}{behind}\n")


@app.command()
def proof(event: Annotated[str, typer.Argument(help="Id of the event.")]) -> None:
    """The proof that one event is under the seal, as JSON."""
    with connect() as client:
        output.print_data(client.get_audit_proof(event))


@app.command()
def consistency(
    first: Annotated[int, typer.Argument(help="How many events an older head tells of.", min=1)],
    second: Annotated[int, typer.Argument(help="How many a newer one tells of; 0: the newest.", min=0)] = 0,
) -> None:
    """The proof that the log only grew between two heads, as JSON."""
    with connect() as client:
        output.print_data(client.get_audit_consistency(first, second))
