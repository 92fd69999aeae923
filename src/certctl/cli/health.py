"""`certctl health-checks`: endpoints that are looked at, and what was seen there."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from certctl.cli import lists, options, output, records, tables
from certctl.cli.connection import connect

app = typer.Typer(no_args_is_help=True, help="Look at how endpoints stand; watch others; acknowledge what is wrong.")

Which = Annotated[str, typer.Argument(metavar="CHECK", help="Id of the health check.")]
_COLUMNS = ("status", "endpoint", "server_name", "failure_kind", "acknowledged_by", "last_checked_at", "source", "id")
_ENTRY = ("status", "failure_kind", "checked_at", "last_checked_at", "looks", "response_time_ms", "failure_reason")
# its body for `records`, which reads and checks --set
CHECK = records.Kind("health check", "HEALTH_CHECKS", "health.HealthCheckWrite", _COLUMNS)


@app.command("list")
def list_checks(
    status: Annotated[str, typer.Option(help="healthy, degraded, down, cert_mismatch or unknown.")] = "",
    search: lists.Search = "",
    only: lists.Filters = None,
    sort: lists.Sort = "",
    page_number: lists.Page = 1,
    limit: lists.Limit = 100,
    every: lists.All = False,
    json: options.Json = False,
) -> None:
    """List health checks, by endpoint."""
    from certctl.client import acts

    query = {"status": status, "q": search, "sort": sort} | lists.filters(only)
    with connect() as client:
        page = lists.fetch(client, acts.HEALTH_CHECKS, page=page_number, limit=limit, every=every, **query)
    if json:
        output.print_data(page)
        return
    records.print_rows(page.data, _COLUMNS, "No endpoint is watched.")


@app.command("get", hidden=True)
@app.command()
def show(check: Which, json: options.Json = False) -> None:
    """One check, as it was seen last."""
    with connect() as client:
        records.print_record(client.get_health_check(check), json=json)


@app.command()
def summary(json: options.Json = False) -> None:
    """How many endpoints read what."""
    with connect() as client:
        records.print_record(client.get_health_summary(), json=json)


@app.command()
def create(
    endpoint: Annotated[str, typer.Argument(help="What is looked at: host:port, an IPv6 address in brackets.")],
    settings: records.Settings = None,
    file: records.Body = None,
    json: options.Json = False,
) -> None:
    """Watch an endpoint: fields by --set, or JSON by --file."""
    values = records.values_of(settings or [], file) | {"endpoint": endpoint}
    with connect() as client:
        made = client.create_health_check(records.body_of(CHECK, values))
    records.print_record(made, json=json)


@app.command()
def update(
    check: Which, settings: records.Settings = None, file: records.Body = None, json: options.Json = False
) -> None:
    """Change a check: what is not given stays."""
    from certctl.cli.exits import UsageFault

    values = records.values_of(settings or [], file)
    if not values:
        raise UsageFault("say what changes: --set field=value, or --file FILE")
    with connect() as client:
        made = client.update_health_check(check, records.body_of(CHECK, values))
    records.print_record(made, json=json)


@app.command()
def delete(check: Which, yes: options.Yes = False) -> None:
    """Watch an endpoint no more, and forget what was seen there."""
    with connect() as client:
        found = client.get_health_check(check)
        options.confirm(f"Delete the health check of {tables.safe(found.endpoint)} ({found.id})?", yes=yes)
        client.delete_health_check(found.id)
    sys.stdout.write(f"{tables.safe(found.endpoint)} ({found.id}) is watched no more\n")


@app.command()
def history(
    check: Which,
    limit: Annotated[int, typer.Option(help="Entries, at most 1000.")] = 100,
    json: options.Json = False,
) -> None:
    """What the last looks found, newest first."""
    with connect() as client:
        found = client.get_health_history(check, limit)
    if json:
        output.print_data(found)
        return
    records.print_rows(found, _ENTRY, "Nobody has looked yet.")


@app.command()
def acknowledge(check: Which) -> None:
    """Say that somebody knows of it; holds until its state changes."""
    with connect() as client:
        client.acknowledge_health_check(check)
    sys.stdout.write(f"{check} is acknowledged\n")
