"""`certctl intermediates`: the generations of a built-in CA; `certctl issuers intermediates` lists them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from certctl.cli import options, output, records
from certctl.cli.connection import connect
from certctl.cli.exits import UsageFault
from certctl.cli.finding import find_id

app = typer.Typer(no_args_is_help=True, help="Look at, make, retire and revoke generations of a built-in CA.")

Which = Annotated[str, typer.Argument(metavar="CA", help="Id of the CA generation.")]


@app.command("get", hidden=True)
@app.command()
def show(ca: Which, json: options.Json = False) -> None:
    """One CA generation."""
    with connect() as client:
        records.print_record(client.get_intermediate(ca), json=json)


@app.command()
def create(
    issuer: Annotated[str, typer.Argument(help="Id or name of the issuer.")],
    name: Annotated[str, typer.Argument(help="A name for people.")],
    common_name: Annotated[str, typer.Option("--cn", help="Its common name.")],
    parent: Annotated[str, typer.Option("--parent", help="Id of the CA that signs it.")] = "",
    root: Annotated[Path | None, typer.Option("--root", help="PEM file of a root to register instead.")] = None,
    days: Annotated[int, typer.Option("--days", help="How long it lives.")] = 1826,
    json: options.Json = False,
) -> None:
    """Make a child CA, or register a root."""
    from certctl.client import calls
    from certctl.client.models.intermediates import CaSubjectBody, IntermediateWrite

    try:
        root_pem = root.read_text() if root else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageFault(f"{root} cannot be read: {error}") from error
    body = IntermediateWrite(
        name=name,
        subject=CaSubjectBody(common_name=common_name),
        parent_ca_id=parent,
        root_cert_pem=root_pem,
        ttl_days=days,
    )
    with connect() as client:
        made = client.create_intermediate(find_id(client, calls.ISSUERS, issuer, "issuer"), body)
    records.print_record(made, json=json)


@app.command()
def retire(
    ca: Which,
    note: Annotated[str, typer.Option("--note", help="Why, for the record.")] = "",
    confirm: Annotated[bool, typer.Option("--confirm", help="The second step: retired for good.")] = False,
    yes: options.Yes = False,
    json: options.Json = False,
) -> None:
    """It issues no more; with --confirm it is retired once nothing needs it."""
    options.confirm(f"Retire the CA {ca}?", yes=yes)
    with connect() as client:
        answer = client.retire_intermediate(ca, note=note, confirm=confirm)
    if json:
        output.print_data(answer)
        return
    sys.stdout.write(f"{answer.id} {'is retired' if answer.confirmed else 'issues no more; --confirm retires it'}\n")


@app.command()
def revoke(
    ca: Which,
    reason: Annotated[str, typer.Option("--reason", help="Why, as RFC 5280 names it.")] = "caCompromise",
    note: Annotated[str, typer.Option("--note", help="Why, for the record.")] = "",
    confirm: Annotated[bool, typer.Option("--confirm", help="Although certificates need it still.")] = False,
    yes: options.Yes = False,
    json: options.Json = False,
) -> None:
    """The CA above it publishes that it is revoked; nobody trusts what it signed any more."""
    options.confirm(f"Revoke the CA {ca}, and with it everything that it signed?", yes=yes)
    with connect() as client:
        records.print_record(client.revoke_intermediate(ca, reason=reason, note=note, confirm=confirm), json=json)
