"""`certctl jobs`: look at, wait for and cancel what is under way."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from certctl.cli import lists, options, output, plans, records, tables
from certctl.cli.connection import connect
from certctl.cli.finding import find, find_id

app = typer.Typer(no_args_is_help=True, help="Look at, wait for and cancel what is under way.")

Which = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, or its tail as tables show it.")]


@app.command("list")
def list_jobs(
    status: Annotated[str, typer.Option(help="Running, Failed, ...")] = "",
    type: Annotated[str, typer.Option("--type", help="Issuance, Renewal, Deployment, Revocation.")] = "",  # noqa: A002 - the API's word
    certificate: Annotated[str, typer.Option("--cert", help="Id or name of a certificate.")] = "",
    search: lists.Search = "",
    only: lists.Filters = None,
    sort: lists.Sort = "",
    page_number: lists.Page = 1,
    limit: lists.Limit = 50,
    every: lists.All = False,
    json: options.Json = False,
) -> None:
    """List jobs, newest first."""
    from certctl.client import calls

    with connect() as client:
        certificate_id = find_id(client, calls.CERTIFICATES, certificate, "certificate") if certificate else ""
        named = {"status": status, "type": type, "certificate_id": certificate_id}
        query = named | lists.filters(only) | {"q": search, "sort": sort}
        page = lists.fetch(client, calls.JOBS, page=page_number, limit=limit, every=every, **query)
    if json:
        output.print_data(page)
        return
    rows = [
        [
            row.type,
            tables.status(row.status),
            tables.short(row.certificate_id),
            tables.short(row.target_id or row.agent_id),
            tables.moment(row.created_at),
            tables.short(row.id),
            tables.safe(row.last_error)[:60],
        ]
        for row in page.data
    ]
    tables.print_table(["TYPE", "STATUS", "CERTIFICATE", "WHERE", "BEGUN", "ID", "NOTE"], rows, "No jobs.")


@app.command("get", hidden=True)
@app.command()
def show(job: Which, json: options.Json = False) -> None:
    """One job with its steps."""
    from certctl.client import calls

    with connect() as client:
        found = find(client, calls.JOBS, job, "job")
    if json:
        output.print_data(found)
        return
    tables.print_facts(
        [
            ("id", found.id),
            ("type", found.type),
            ("status", tables.status(found.status)),
            ("certificate", found.certificate_id),
            ("target", found.target_id),
            ("agent", found.agent_id),
            ("asked by", tables.safe(found.requested_by)),
            ("begun", tables.moment(found.created_at)),
            ("ended", tables.moment(found.completed_at)),
            ("verification", tables.status(found.verification_status)),
            ("tries", f"{found.attempts} of {found.max_attempts}" if found.attempts else ""),
            ("last error", tables.safe(found.last_error)),
        ]
    )
    plans.print_plan(found, "plan")
    sys.stdout.write("\n")
    tables.print_table(
        ["STEP", "STATUS", "TRIES", "ENDED", "NOTE"],
        [
            [
                step.kind,
                tables.status(step.status),
                str(step.attempts),
                tables.moment(step.ended_at),
                tables.safe(step.error),
            ]
            for step in found.steps
        ],
    )


@app.command()
def wait(job: Which, timeout: options.Timeout = 300.0, json: options.Json = False) -> None:
    """Wait until a job has ended; fails when it failed."""
    from certctl.cli.progress import Follower, refuse_failures
    from certctl.client import calls

    with connect() as client:
        job_id = find_id(client, calls.JOBS, job, "job")
        ended = Follower(client, quiet=json).follow_job(job_id, timeout)
    if json:
        output.print_data(ended)
    else:
        sys.stdout.write(f"{ended.id} is {tables.status(ended.status)}\n")
    refuse_failures([ended])


@app.command()
def approve(
    job: Which,
    note: Annotated[str, typer.Option("--note", help="Why, for the record.")] = "",
    json: options.Json = False,
) -> None:
    """Say yes to a job that waits for a second person."""
    from certctl.client import calls

    with connect() as client:
        job_id = find_id(client, calls.JOBS, job, "job")
        answer = client.approve_job(job_id, note)
    if json:
        output.print_data(answer)
    else:
        sys.stdout.write(f"{job_id} is approved\n")


@app.command()
def reject(
    job: Which,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")] = "",
    json: options.Json = False,
) -> None:
    """Say no to a job that waits for a second person."""
    from certctl.client import calls

    with connect() as client:
        job_id = find_id(client, calls.JOBS, job, "job")
        answer = client.reject_job(job_id, reason)
    if json:
        output.print_data(answer)
    else:
        sys.stdout.write(f"{job_id} is rejected\n")


@app.command()
def verification(job: Which, json: options.Json = False) -> None:
    """What the target of a deployment was last seen to serve."""
    from certctl.client import calls

    with connect() as client:
        found = client.get_verification(find_id(client, calls.JOBS, job, "job"))
    records.print_record(found, json=json)


@app.command()
def cancel(job: Which, yes: options.Yes = False) -> None:
    """Cancel a job that has not ended."""
    from certctl.client import calls

    with connect() as client:
        found = find(client, calls.JOBS, job, "job")
        options.confirm(f"Cancel the {found.type.lower()} {found.id}?", yes=yes)
        client.cancel_job(found.id)
    sys.stdout.write(f"{found.id} is cancelled\n")
