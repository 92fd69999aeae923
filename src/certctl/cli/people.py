"""`certctl sessions|users|breakglass`: who is signed in, who may be, and the door for when nothing else works."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from certctl.cli import lists, options, output, records, tables
from certctl.cli.connection import connect, read_secret

sessions = typer.Typer(no_args_is_help=True, help="List and end browser sessions.")
users = typer.Typer(no_args_is_help=True, help="List people of an identity provider; shut them out, let them in again.")
breakglass = typer.Typer(no_args_is_help=True, help="Break-glass passwords, where the server has them switched on.")

SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="Id of the session.")]
UserId = Annotated[str, typer.Argument(metavar="USER", help="Id of the user.")]
ActorId = Annotated[str, typer.Argument(metavar="ACTOR", help="Who it is for.")]


@sessions.command("list")
def list_sessions(
    actor: Annotated[str, typer.Option("--actor", help="Another's sessions; * for everybody's.")] = "",
    actor_type: Annotated[str, typer.Option("--actor-type", help="User or APIKey.")] = "",
    search: lists.Search = "",
    only: lists.Filters = None,
    sort: lists.Sort = "",
    json: options.Json = False,
) -> None:
    """Sessions that last, newest first: your own unless --actor names another."""
    query = {"q": search, "sort": sort} | lists.filters(only)
    with connect() as client:
        answer = client.list_sessions(actor_id=actor, actor_type=actor_type, **_said(query))
    columns = ("actor_id", "method", "ip_address", "user_agent", "last_seen_at", "idle_expires_at", "current", "id")
    _print(answer, answer.sessions, columns, "No session lasts.", json=json)


@sessions.command("revoke")
def revoke_session(session: SessionId) -> None:
    """End one session at once."""
    with connect() as client:
        client.revoke_session(session)
    sys.stdout.write(f"session {tables.safe(session)} has ended\n")


@sessions.command("revoke-all")
def revoke_sessions(yes: options.Yes = False, json: options.Json = False) -> None:
    """End all sessions of whoever calls."""
    options.confirm("End all of your sessions?", yes=yes)
    with connect() as client:
        answer = client.revoke_sessions()
    if json:
        output.print_data(answer)
        return
    sys.stdout.write(f"{answer.revoked_count} sessions have ended\n")


@users.command("list")
def list_users(
    search: lists.Search = "", only: lists.Filters = None, sort: lists.Sort = "", json: options.Json = False
) -> None:
    """People whom an identity provider named, by name."""
    query = {"q": search, "sort": sort} | lists.filters(only)
    with connect() as client:
        answer = client.list_users(**_said(query))
    columns = ("display_name", "email", "oidc_provider_id", "last_login_at", "deactivated_at", "id")
    _print(answer, answer.users, columns, "Nobody has signed in through an identity provider.", json=json)


@users.command()
def deactivate(user: UserId, yes: options.Yes = False) -> None:
    """Shut a user out: their sessions end at once."""
    options.confirm(f"Deactivate {tables.safe(user)}? Their sessions end at once.", yes=yes)
    with connect() as client:
        client.deactivate_user(user)
    sys.stdout.write(f"user {tables.safe(user)} is deactivated\n")


@users.command()
def reactivate(user: UserId) -> None:
    """Let a user sign in again."""
    with connect() as client:
        client.reactivate_user(user)
    sys.stdout.write(f"user {tables.safe(user)} may sign in again\n")


@breakglass.command("list")
def list_credentials(
    search: lists.Search = "", only: lists.Filters = None, sort: lists.Sort = "", json: options.Json = False
) -> None:
    """Who has a break-glass password, and how attempts went."""
    query = {"q": search, "sort": sort} | lists.filters(only)
    with connect() as client:
        answer = client.list_breakglass_credentials(**_said(query))
    columns = ("actor_id", "created_by", "last_password_change_at", "failure_count", "locked_until")
    _print(answer, answer.credentials, columns, "Nobody has one.", json=json)


@breakglass.command("set")
def set_password(
    actor: ActorId,
    file: Annotated[Path | None, typer.Option("--password-file", help="File with the password.")] = None,
    stdin: Annotated[bool, typer.Option("--password-stdin", help="Read it from standard input.")] = False,
    json: options.Json = False,
) -> None:
    """Set a password of 12 to 256 bytes: whoever knows it becomes an administrator. Never an argument."""
    from certctl.client.models.sessions import BreakglassWrite

    password = read_secret("password", file=file, stdin=stdin, spaces=True)
    with connect() as client:
        made = client.set_breakglass_password(BreakglassWrite(actor_id=actor, password=password))
    if json:
        output.print_data(made)
        return
    sys.stdout.write(f"{tables.safe(made.actor_id)} has a break-glass password; keep it where it is found in need\n")


@breakglass.command()
def unlock(actor: ActorId) -> None:
    """Forget the failures of a credential that is locked."""
    with connect() as client:
        client.unlock_breakglass_credential(actor)
    sys.stdout.write(f"the credential of {tables.safe(actor)} is unlocked\n")


@breakglass.command()
def delete(actor: ActorId, yes: options.Yes = False) -> None:
    """Take an actor's break-glass password away; sessions begun with it end."""
    options.confirm(f"Delete the break-glass password of {tables.safe(actor)}?", yes=yes)
    with connect() as client:
        client.delete_breakglass_credential(actor)
    sys.stdout.write(f"{tables.safe(actor)} has no break-glass password any more\n")


def settings(json: options.Json = False) -> None:
    """The server's settings in force, by variable; no secrets."""
    with connect() as client:
        answer = client.get_runtime_config()
    if json:
        output.print_data(answer)
        return
    tables.print_facts(sorted(answer.runtime_config.items()))


def _said(query: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in query.items() if value}


def _print(answer: Any, rows: Sequence[Any], columns: Sequence[str], empty: str, *, json: bool) -> None:
    if json:
        output.print_data(answer)
        return
    records.print_rows(rows, columns, empty)
