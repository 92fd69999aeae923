"""`certctl agents`: look at agents, let new ones in, retire them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from certctl.cli import lists, options, output, tables
from certctl.cli.connection import connect
from certctl.cli.finding import find

app = typer.Typer(no_args_is_help=True, help="Look at agents, let new ones in, retire them.")

Which = Annotated[str, typer.Argument(metavar="AGENT", help="Id or name of the agent.")]


@app.command("list")
def list_agents(
    retired: Annotated[bool, typer.Option("--retired", help="Those that were retired.")] = False,
    status: Annotated[str, typer.Option(help="Online, Offline, ...")] = "",
    search: lists.Search = "",
    only: lists.Filters = None,
    sort: lists.Sort = "",
    page_number: lists.Page = 1,
    limit: lists.Limit = 100,
    every: lists.All = False,
    json: options.Json = False,
) -> None:
    """List agents."""
    from certctl.client import calls

    query = lists.filters(only) | {"status": status, "q": search, "sort": sort}
    resource = calls.RETIRED_AGENTS if retired else calls.AGENTS
    with connect() as client:
        page = lists.fetch(client, resource, page=page_number, limit=limit, every=every, **query)
    if json:
        output.print_data(page)
        return
    rows = [
        [
            tables.safe(row.name),
            tables.status("retired" if row.retired_at else row.status),
            tables.moment(row.last_heartbeat_at),
            tables.safe(row.hostname),
            tables.safe(f"{row.os} {row.architecture}".strip()),
            tables.safe(row.version),
            tables.short(row.id),
        ]
        for row in page.data
    ]
    tables.print_table(
        ["NAME", "STATUS", "HEARD", "HOST", "SYSTEM", "VERSION", "ID"],
        rows,
        "No agents yet. Let one in: certctl agents token --name HOST",
    )


@app.command("get", hidden=True)
@app.command()
def show(agent: Which, json: options.Json = False) -> None:
    """One agent."""
    from certctl.client import calls

    with connect() as client:
        found = find(client, calls.AGENTS, agent, "agent")
    if json:
        output.print_data(found)
        return
    tables.print_facts(
        [
            ("name", tables.safe(found.name)),
            ("id", found.id),
            ("status", tables.status(found.status)),
            ("heard", tables.moment(found.last_heartbeat_at)),
            ("enrolled", tables.moment(found.registered_at)),
            ("host", tables.safe(found.hostname)),
            ("address", tables.safe(found.ip_address)),
            ("system", tables.safe(f"{found.os} {found.architecture}".strip())),
            ("version", tables.safe(found.version)),
            ("group", tables.safe(found.agent_group)),
            ("can", tables.safe(", ".join(found.capabilities))),
            ("retired", " ".join(filter(None, [tables.moment(found.retired_at), tables.safe(found.retired_reason)]))),
        ]
    )


@app.command()
def token(
    name: Annotated[str, typer.Option("--name", help="The agent it is for.")] = "",
    group: Annotated[str, typer.Option("--group", help="Or the group: one agent of it.")] = "",
    valid: Annotated[str, typer.Option("--valid", help="How long: 1h, 30m, 7d.")] = "1h",
    json: options.Json = False,
) -> None:
    """Make a one-time enrolment token. It is shown this once."""
    from certctl.cli.exits import UsageFault
    from certctl.connectors.base.config import parse_duration

    if bool(name) == bool(group):
        raise UsageFault("give --name HOST for one agent, or --group NAME")
    try:
        seconds = int(parse_duration(valid).total_seconds())
    except ValueError as error:
        raise UsageFault(str(error)) from error
    with connect() as client:
        made = client.create_enrolment_token(agent_name=name, agent_group=group, expires_in_seconds=seconds)
        server = client.url
    if json:
        output.print_data(made)
        return
    sys.stdout.write(f"{made.token}\n")
    sys.stderr.write(
        f"Valid once, expires {tables.moment(made.expires_at)}. On the host:\n"
        f"  CERTCTL_SERVER_URL={server} CERTCTL_AGENT_ENROLMENT_TOKEN=... certctl-agent run\n"
    )


@app.command()
def retire(
    agent: Which,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Retire its targets too (needs --reason).")] = False,
    yes: options.Yes = False,
    json: options.Json = False,
) -> None:
    """Retire an agent for good: its credential stops working at once."""
    from certctl.client import calls

    with connect() as client:
        found = find(client, calls.AGENTS, agent, "agent")
        question = f"Retire the agent {tables.safe(found.name)} ({found.id})? This cannot be undone."
        options.confirm(question, yes=yes)
        answer = client.retire_agent(found.id, reason=reason, force=force)
    if json:
        output.print_data(answer)
        return
    sys.stdout.write(f"{tables.safe(found.name)} {'is retired' if answer else 'was retired before'}\n")
