"""`certctl notifications`: what people were told, and what became of it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from certctl.cli import lists, options, output, records
from certctl.cli.connection import connect

app = typer.Typer(no_args_is_help=True, help="Look at what people were told; send again what did not arrive.")

Which = Annotated[str, typer.Argument(metavar="NOTIFICATION", help="Id of the notification.")]


@app.command("list")
def list_notifications(
    status: Annotated[str, typer.Option(help="pending, sent, failed, dead, read or skipped.")] = "",
    only: lists.Filters = None,
    page_number: lists.Page = 1,
    limit: lists.Limit = 50,
    json: options.Json = False,
) -> None:
    """List notifications, newest first."""
    from certctl.client import acts

    query = {"status": status} | lists.filters(only)
    with connect() as client:
        page = lists.fetch(client, acts.NOTIFICATIONS, page=page_number, limit=limit, every=False, **query)
    if json:
        output.print_data(page)
        return
    columns = ("status", "severity", "type", "channel", "message", "created_at", "id")
    records.print_rows(page.data, columns, "Nobody was told anything.")


@app.command("get", hidden=True)
@app.command()
def show(notification: Which, json: options.Json = False) -> None:
    """One notification and what became of it."""
    with connect() as client:
        records.print_record(client.get_notification(notification), json=json)


@app.command()
def read(notification: Which) -> None:
    """Say that it was read."""
    with connect() as client:
        client.mark_notification_read(notification)
    sys.stdout.write(f"{notification} is marked as read\n")


@app.command()
def requeue(notification: Which) -> None:
    """Send again what was given up, skipped, or waits for its next try."""
    with connect() as client:
        client.requeue_notification(notification)
    sys.stdout.write(f"{notification} is sent again\n")


@app.command()
def kinds(json: options.Json = False) -> None:
    """Kinds of channels and the fields of their configuration."""
    with connect() as client:
        answer = client.list_channel_kinds()
    if json:
        output.print_data(answer)
        return
    for kind in answer.kinds:
        (fields,) = (each["properties"] for each in kind.config_schema["$defs"].values())
        told = (f"{name} (secret)" if name in kind.secrets else name for name in fields)
        sys.stdout.write(f"{kind.type}: {', '.join(told)}\n")


@app.command()
def digest(
    send: Annotated[bool, typer.Option("--send", help="Send it now instead of showing it.")] = False,
    json: options.Json = False,
) -> None:
    """The daily digest as a page, or sent at once."""
    with connect() as client:
        if not send:
            sys.stdout.write(client.preview_digest().decode())
            return
        answer = client.send_digest()
    if json:
        output.print_data(answer)
        return
    sys.stdout.write(f"the digest is {answer.status}\n")
