"""`certctl intermediates`: the generations of a built-in CA; `certctl issuers intermediates` lists them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from certctl.cli import options, output, records, tables
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
def crls(json: options.Json = False) -> None:
    """The CRL of each CA, its shards and deltas: numbers, ends, and how many revocations it does not tell yet."""
    with connect() as client:
        found = client.show_crls()
    if json:
        output.print_data(found)
        return
    rows: list[list[str]] = []
    for one in found.cache_rows:
        until = tables.moment(one.next_update) if one.next_update else ""
        rows.append(
            [one.ca_certificate_id, "full", str(one.crl_number), until, str(one.revoked_count), str(one.pending)]
        )
        for part in one.parts:
            words = [f"shard {part.shard}"] if part.shard else []
            words += [f"delta since {part.base_number}"] if part.is_delta else []
            until = tables.moment(part.next_update)
            rows.append(
                [one.ca_certificate_id, ", ".join(words), str(part.crl_number), until, str(part.revoked_count), ""]
            )
    tables.print_table(["CA", "PART", "NUMBER", "NEXT UPDATE", "REVOKED", "PENDING"], rows, "No CA.")


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
