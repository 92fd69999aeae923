"""`certctl external-keys`: keys of external accounts, with which ACME clients bind an account (RFC 8555 7.3.4)."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from certctl.cli import keys, lists, options, output, records, tables
from certctl.cli.connection import connect

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke keys of external accounts for ACME.")


@app.command("list")
def list_keys(
    search: lists.Search = "",
    only: lists.Filters = None,
    sort: lists.Sort = "",
    page_number: lists.Page = 1,
    limit: lists.Limit = 100,
    every: lists.All = False,
    json: options.Json = False,
) -> None:
    """List them by name, never their secrets."""
    from certctl.client import acts

    query = lists.filters(only) | {"q": search, "sort": sort}
    with connect() as client:
        page = lists.fetch(client, acts.EXTERNAL_KEYS, page=page_number, limit=limit, every=every, **query)
    if json:
        output.print_data(page)
        return
    columns = ("name", "profile_id", "allowed_names", "reusable", "bound_account_id", "expires_at", "revoked_at", "id")
    records.print_rows(page.data, columns, "None yet.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="A name for people.")],
    profile: Annotated[str, typer.Option("--profile", help="Id of the profile it issues under.")],
    allow: Annotated[list[str] | None, typer.Option("--allow", help="A domain, =name or network; again.")] = None,
    owner: Annotated[str, typer.Option("--owner", help="Id of the owner of what it issues.")] = "",
    team: Annotated[str, typer.Option("--team", help="Id of the team of what it issues.")] = "",
    reusable: Annotated[bool, typer.Option("--reusable", help="More than one account may be bound with it.")] = False,
    valid: Annotated[str, typer.Option("--valid", help="How long: 90d, 12h; else without end.")] = "",
    json: options.Json = False,
) -> None:
    """Make one. Its secret is shown this once."""
    from certctl.client.models.acme import ExternalKeyWrite

    body = ExternalKeyWrite(
        name=name,
        profile_id=profile,
        owner_id=owner,
        team_id=team,
        allowed_names=allow or [],
        reusable=reusable,
        expires_at=keys.end_of(valid),
    )
    with connect() as client:
        made = client.create_external_key(body)
    records.print_record(made, json=json)


@app.command()
def delete(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Id of the key (kid).")], yes: options.Yes = False
) -> None:
    """Revoke one at once: no further account is bound with it."""
    options.confirm(f"Revoke {tables.safe(key)}?", yes=yes)
    with connect() as client:
        client.delete_external_key(key)
    sys.stdout.write(f"{tables.safe(key)} is revoked\n")
