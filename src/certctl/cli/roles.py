"""`certctl roles`: what may be given to keys and people. Built-in roles never change."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from certctl.cli import options, output, records, tables
from certctl.cli.connection import connect
from certctl.cli.exits import UsageFault

app = typer.Typer(no_args_is_help=True, help="List, show, make and change roles.")

Which = Annotated[str, typer.Argument(metavar="ROLE", help="Id or name of the role.")]
Permission = Annotated[str, typer.Argument(help="Such as metrics.read; docs/reference/permissions.md has them all.")]
Only = Annotated[str, typer.Option("--only", help="How far: team:ID, profile:ID or issuer:ID; else everything.")]


@app.command("list")
def list_roles(json: options.Json = False) -> None:
    """List roles, the built-in ones first."""
    with connect() as client:
        answer = client.list_roles()
    if json:
        output.print_data(answer)
        return
    records.print_rows(answer.roles, ("name", "built_in", "description", "id"), "No role.")


@app.command()
def show(role: Which, json: options.Json = False) -> None:
    """One role and what it holds."""
    with connect() as client:
        answer = client.get_role(find(client, role))
    if json:
        output.print_data(answer)
        return
    tables.print_facts([(name, tables.safe(getattr(answer.role, name))) for name in ("id", "name", "description")])
    records.print_rows(answer.permissions, ("permission", "scope_type", "scope_id"), "It holds nothing yet.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="A name for people.")],
    permission: Annotated[
        list[str] | None, typer.Option("--permission", "-p", help="What it holds everywhere; again for more.")
    ] = None,
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    json: options.Json = False,
) -> None:
    """Make a role; its permissions can be added now or later."""
    from certctl.client.models.auth import PermissionWrite, RoleWrite

    with connect() as client:
        made = client.create_role(RoleWrite(name=name, description=description))
        for each in permission or []:
            client.add_permission(made.id, PermissionWrite(permission=each))
    if json:
        output.print_data(made)
        return
    sys.stdout.write(f"{made.id}\n")


@app.command()
def allow(role: Which, permission: Permission, only: Only = "") -> None:
    """Put a permission into a role."""
    from certctl.client.models.auth import PermissionWrite

    scope_type, scope_id = reach_of(only)
    with connect() as client:
        wish = PermissionWrite(permission=permission, scope_type=scope_type, scope_id=scope_id or None)
        client.add_permission(find(client, role), wish)
    sys.stdout.write(f"{tables.safe(role)} now holds {tables.safe(permission)}\n")


@app.command()
def forbid(role: Which, permission: Permission, only: Only = "") -> None:
    """Take a permission out of a role."""
    scope_type, scope_id = reach_of(only)
    with connect() as client:
        client.remove_permission(find(client, role), permission, scope_type, scope_id)
    sys.stdout.write(f"{tables.safe(role)} no longer holds {tables.safe(permission)}\n")


@app.command()
def delete(role: Which, yes: options.Yes = False) -> None:
    """Delete a role that nobody has."""
    with connect() as client:
        role_id = find(client, role)
        options.confirm(f"Delete the role {tables.safe(role)} ({role_id})?", yes=yes)
        client.delete_role(role_id)
    sys.stdout.write(f"{tables.safe(role)} ({role_id}) is deleted\n")


def find(client: Any, wanted: str) -> str:
    """The id of the role with this id or name; NotFound otherwise."""
    from certctl.core.errors import NotFound

    found = next((each for each in client.list_roles().roles if wanted in {each.id, each.name}), None)
    if found is None:
        raise NotFound(f"there is no role {wanted}")
    return str(found.id)


def reach_of(only: str) -> tuple[str, str]:
    """`team:ID` as (scope type, id); nothing said is everything."""
    if not only:
        return "global", ""
    scope_type, colon, scope_id = only.partition(":")
    if scope_type not in {"team", "profile", "issuer"} or not colon or not scope_id:
        raise UsageFault(f"--only takes team:ID, profile:ID or issuer:ID, not {only!r}")
    return scope_type, scope_id


@app.command()
def update(
    role: Which,
    name: Annotated[str, typer.Option("--name", help="Another name.")] = "",
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    json: options.Json = False,
) -> None:
    """Change a role's name or description."""
    from certctl.client.models.auth import RoleWrite

    if not name and not description:
        raise UsageFault("give --name or --description")
    with connect() as client:
        changed = client.update_role(find(client, role), RoleWrite(name=name or None, description=description or None))
    records.print_record(changed, json=json)


@app.command("remove-demo-grants")
def remove_demo_grants(json: options.Json = False) -> None:
    """Remove grants of the reference product's demo actor from a migrated database."""
    with connect() as client:
        answer = client.remove_demo_grants()
    records.print_record(answer, json=json)


@app.command()
def permissions(json: options.Json = False) -> None:
    """The catalogue: every permission that a role may hold, and by what a grant of it may be limited."""
    with connect() as client:
        answer = client.list_permissions()
    if json:
        output.print_data(answer)
        return
    records.print_rows(answer.permissions, ("name", "namespace", "limited_by"), "None.")
