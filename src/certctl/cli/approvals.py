"""`certctl approvals`: what waits for a second person's word."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from certctl.cli import lists, options, output, records, tables
from certctl.cli.connection import connect

app = typer.Typer(no_args_is_help=True, help="Look at and decide what waits for a second person.")

Which = Annotated[str, typer.Argument(metavar="APPROVAL", help="Id of the approval.")]
Note = Annotated[str, typer.Option("--note", help="Why, for the record.")]
Hash = Annotated[str, typer.Option("--decision-hash", help="Bind the word to what was shown.")]


@app.command("list")
def list_approvals(
    state: Annotated[str, typer.Option(help="pending, approved, rejected or expired.")] = "",
    only: lists.Filters = None,
    page_number: lists.Page = 1,
    limit: lists.Limit = 50,
    json: options.Json = False,
) -> None:
    """List approvals, newest first."""
    from certctl.client import acts

    query = {"state": state} | lists.filters(only)
    with connect() as client:
        page = lists.fetch(client, acts.APPROVALS, page=page_number, limit=limit, every=False, **query)
    if json:
        output.print_data(page)
        return
    columns = ("kind", "state", "given", "required", "certificate_id", "profile_id", "requested_by", "created_at", "id")
    records.print_rows(page.data, columns, "Nothing waits.")


@app.command("get", hidden=True)
@app.command()
def show(approval: Which, json: options.Json = False) -> None:
    """One approval and what it is about."""
    with connect() as client:
        records.print_record(client.get_approval(approval), json=json)


@app.command()
def approve(approval: Which, note: Note = "", decision_hash: Hash = "", json: options.Json = False) -> None:
    """Say yes; nobody approves what they asked for."""
    with connect() as client:
        answer = client.approve(approval, note, decision_hash)
    if json:
        output.print_data(answer)
        return
    if answer.action == "pending":
        sys.stdout.write(f"{answer.id}: {tables.safe(answer.decided_by)} said yes; others have to say so, too\n")
        return
    sys.stdout.write(f"{answer.id} is approved by {tables.safe(answer.decided_by)}\n")


@app.command()
def reject(approval: Which, note: Note = "", decision_hash: Hash = "", json: options.Json = False) -> None:
    """Say no."""
    with connect() as client:
        answer = client.reject(approval, note, decision_hash)
    if json:
        output.print_data(answer)
        return
    sys.stdout.write(f"{answer.id} is rejected by {tables.safe(answer.decided_by)}\n")
