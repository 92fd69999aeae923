"""`certctl keys`: API keys. Values are shown once."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from certctl.cli import options, output, records, roles, tables
from certctl.cli.connection import connect

app = typer.Typer(no_args_is_help=True, help="Make, list, rotate and revoke API keys; grant roles to who holds them.")


@app.command("list")
def list_keys(json: options.Json = False) -> None:
    """List API keys, never their values."""
    from certctl.client import calls

    with connect() as client:
        answer = client.send(calls.list_keys())
    if json:
        output.print_data(answer)
        return
    rows = [
        [
            tables.safe(row.name),
            tables.status("revoked") if row.revoked_at else tables.status("ready"),
            ", ".join(row.role_ids),
            tables.moment(row.last_used_at) or "never",
            tables.moment(row.expires_at) or "never",
            row.id,
        ]
        for row in answer.keys
    ]
    tables.print_table(["NAME", "STATE", "ROLES", "USED", "EXPIRES", "ID"], rows)


@app.command()
def show(key: Annotated[str, typer.Argument(help="Id or name of the key.")], json: options.Json = False) -> None:
    """One API key, never its value."""
    with connect() as client:
        records.print_record(client.get_key(key), json=json)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who will hold it; the audit log names it so.")],
    role: Annotated[
        list[str], typer.Option("--role", "-r", help="r-viewer, r-operator, r-admin, ...; again for more.")
    ],
    valid: Annotated[str, typer.Option("--valid", help="How long: 90d, 12h; else without end.")] = "",
    team: Annotated[list[str] | None, typer.Option("--team", help="Limit it to a team; again for more.")] = None,
    profile: Annotated[list[str] | None, typer.Option("--profile", help="Limit it to a profile.")] = None,
    issuer: Annotated[list[str] | None, typer.Option("--issuer", help="Limit it to an issuer.")] = None,
    agent: Annotated[str, typer.Option("--agent", help="Id of the one agent it is for (role r-agent alone).")] = "",
    person: Annotated[str, typer.Option("--person", help="Whose it is, if not yours; they rotate it first.")] = "",
    json: options.Json = False,
) -> None:
    """Make an API key. Its value is shown this once."""
    from certctl.client import calls
    from certctl.client.models.auth import KeyWrite

    wish = KeyWrite(
        name=name,
        role_ids=role,
        expires_at=end_of(valid),
        teams=team or None,
        profiles=profile or None,
        issuers=issuer or None,
        agent_id=agent,
        person=person,
    )
    with connect() as client:
        made = client.send(calls.create_key(wish))
    if json:
        output.print_data(made)
        return
    sys.stdout.write(f"{made.key_value}\n")
    sys.stderr.write(f"This is the key of {tables.safe(made.name)} ({made.id}); keep it, it is not shown again.\n")


def end_of(valid: str) -> datetime | None:
    """When what lasts so long from now ends; None for ever."""
    from certctl.cli.exits import UsageFault
    from certctl.connectors.base.config import parse_duration

    if not valid:
        return None
    try:
        return datetime.now(UTC) + parse_duration(valid)
    except (ValueError, OverflowError) as error:
        raise UsageFault(str(error)) from error


@app.command()
def delete(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Id or name of the key.")], yes: options.Yes = False
) -> None:
    """Revoke an API key at once."""
    from certctl.client import calls
    from certctl.core.errors import NotFound

    with connect() as client:
        found = next((row for row in client.send(calls.list_keys()).keys if key in {row.id, row.name}), None)
        if found is None:
            raise NotFound(f"there is no key {key}")
        options.confirm(f"Revoke the key {tables.safe(found.name)} ({found.id})?", yes=yes)
        client.send(calls.delete_key(found.id))
    sys.stdout.write(f"{tables.safe(found.name)} ({found.id}) is revoked\n")


@app.command()
def rotate(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Id or name of the key.")],
    overlap: Annotated[str, typer.Option("--overlap", help="How long the old value stays good: 1h, 2d.")] = "0s",
    json: options.Json = False,
) -> None:
    """Give a key a new value, shown this once."""
    from certctl.cli.exits import UsageFault
    from certctl.client.models.auth import RotateBody
    from certctl.connectors.base.config import parse_duration

    try:
        seconds = int(parse_duration(overlap).total_seconds())
    except (ValueError, OverflowError) as error:
        raise UsageFault(str(error)) from error
    with connect() as client:
        made = client.rotate_key(key, RotateBody(overlap_seconds=seconds))
    if json:
        output.print_data(made)
        return
    sys.stdout.write(f"{made.key_value}\n")
    sys.stderr.write(f"This is the new key of {tables.safe(made.name)} ({made.id}); it is not shown again.\n")


@app.command()
def grant(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Name of the key: grants go to who holds it.")],
    role: Annotated[str, typer.Argument(help="Id or name of the role.")],
    only: roles.Only = "",
    valid: Annotated[str, typer.Option("--valid", help="How long: 90d, 12h; else without end.")] = "",
) -> None:
    """Give a role to whoever holds a key."""
    from certctl.client.models.auth import GrantWrite

    scope_type, scope_id = roles.reach_of(only)
    with connect() as client:
        role_id = roles.find(client, role)
        wish = GrantWrite(role_id=role_id, scope_type=scope_type, scope_id=scope_id or None, expires_at=end_of(valid))
        client.assign_role(key, wish)
    sys.stdout.write(f"{tables.safe(key)} now has the role {tables.safe(role)}\n")


@app.command("revoke-role")
def revoke_role(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Name of the key.")],
    role: Annotated[str, typer.Argument(help="Id or name of the role.")],
    only: roles.Only = "",
) -> None:
    """Take a role that was granted back."""
    scope_type, scope_id = roles.reach_of(only)
    with connect() as client:
        client.revoke_role(key, roles.find(client, role), scope_type, scope_id)
    sys.stdout.write(f"{tables.safe(key)} no longer has the role {tables.safe(role)}\n")
