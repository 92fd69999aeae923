"""`certctl stats` and `certctl metrics`: counts over all that the key may see."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from certctl.cli import options, output, records
from certctl.cli.connection import connect

app = typer.Typer(no_args_is_help=True, help="Counts: certificates, expirations, jobs, issuance.")

Days = Annotated[int, typer.Option("--days", help="How many days.", min=1)]


@app.command()
def summary(json: options.Json = False) -> None:
    """How things stand."""
    with connect() as client:
        records.print_record(client.get_summary(), json=json)


@app.command()
def certificates(json: options.Json = False) -> None:
    """Certificates by status."""
    with connect() as client:
        found = client.count_certificates()
    if json:
        output.print_data(found)
        return
    records.print_rows(found, ("status", "count"), "No certificates.")


@app.command()
def expirations(days: Days = 30, json: options.Json = False) -> None:
    """How many certificates end on each day."""
    with connect() as client:
        found = client.list_expirations(days)
    if json:
        output.print_data(found)
        return
    records.print_rows(found, ("date", "count"), "None.")


@app.command("job-trends")
def job_trends(days: Days = 30, json: options.Json = False) -> None:
    """How jobs ended on each day."""
    with connect() as client:
        found = client.list_job_trends(days)
    if json:
        output.print_data(found)
        return
    records.print_rows(found, ("date", "completed_count", "failed_count", "success_rate"), "None.")


@app.command()
def issuances(days: Days = 30, json: options.Json = False) -> None:
    """How many versions were signed on each day."""
    with connect() as client:
        found = client.list_issuances(days)
    if json:
        output.print_data(found)
        return
    records.print_rows(found, ("date", "issued_count"), "None.")


def metrics(
    prometheus: Annotated[bool, typer.Option("--prometheus", help="As Prometheus reads them.")] = False,
    json: options.Json = False,
) -> None:
    """The fleet's figures."""
    with connect() as client:
        if prometheus:
            sys.stdout.write(client.get_prometheus().decode())
            return
        records.print_record(client.get_metrics(), json=json)
