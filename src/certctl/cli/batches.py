"""`certctl batches` and `certctl certs bulk-*`: one action over any number of certificates."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from certctl.cli import lists, options, output, records, tables
from certctl.cli.connection import connect
from certctl.cli.exits import StageFailed, TimedOut, UsageFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from certctl.client import Client
    from certctl.client.models.approvals import BatchDecisionAnswer
    from certctl.client.models.batches import BatchView

app = typer.Typer(no_args_is_help=True, help="Look at, wait for, halt and cancel bulk operations.")

Which = Annotated[str, typer.Argument(metavar="BATCH", help="Id of the batch.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[IDS]", help="Ids of certificates.")]
ProfileId = Annotated[str, typer.Option("--profile-id", "--profile", help="Under this profile.")]
OwnerId = Annotated[str, typer.Option("--owner-id", "--owner", help="Of this owner.")]
AgentId = Annotated[str, typer.Option("--agent-id", "--agent", help="On this agent's host.")]
IssuerId = Annotated[str, typer.Option("--issuer-id", "--issuer", help="Of this issuer.")]
TeamId = Annotated[str, typer.Option("--team-id", "--team", help="Of this team.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]
Note = Annotated[str, typer.Option("--note", help="Why, for the record.")]
MaxFailures = Annotated[int | None, typer.Option(min=0, help="Halt when more than so many have failed.")]

_LONGEST_WAIT_SECONDS = 30.0
_COLUMNS = ("action", "status", "total", "done", "skipped", "failed", "requested_by", "created_at", "id")
_COUNTED = ("approved", "rejected", "given", "refused")
_ITEM_COLUMNS = ("seq", "certificate_id", "status", "reason")


@app.command("list")
def list_batches(
    only: lists.Filters = None,
    page_number: lists.Page = 1,
    limit: lists.Limit = 50,
    json: options.Json = False,
) -> None:
    """List batches, newest first."""
    from certctl.client import acts

    with connect() as client:
        page = lists.fetch(client, acts.BATCHES, page=page_number, limit=limit, every=False, **lists.filters(only))
    if json:
        output.print_data(page)
        return
    records.print_rows(page.data, _COLUMNS, "No batches.")


@app.command("get", hidden=True)
@app.command()
def show(batch: Which, json: options.Json = False) -> None:
    """One batch."""
    with connect() as client:
        records.print_record(client.get_batch(batch), json=json)


@app.command()
def items(
    batch: Which,
    status: Annotated[str, typer.Option(help="failed, done, skipped, ...")] = "",
    page_number: lists.Page = 1,
    limit: lists.Limit = 100,
    json: options.Json = False,
) -> None:
    """What has become of each certificate."""
    with connect() as client:
        page = client.list_batch_items(batch, page_number, limit, status)
    if json:
        output.print_data(page)
        return
    records.print_rows(page.data, _ITEM_COLUMNS, "No items.")


@app.command()
def wait(batch: Which, timeout: options.Timeout = 3600.0, json: options.Json = False) -> None:
    """Wait until a batch has ended; fails when items failed."""
    with connect() as client:
        ended = _wait(client, batch, timeout)
    records.print_record(ended, json=json)
    if ended.failed or ended.status == "halted":
        raise StageFailed(f"{ended.failed} of {ended.total} failed: certctl batches items {ended.id} --status failed")


def _wait(client: Client, batch_id: str, timeout: float) -> BatchView:
    import time

    deadline = time.monotonic() + timeout
    while True:
        left = deadline - time.monotonic()
        found = client.get_batch(batch_id, max(0.0, min(left, _LONGEST_WAIT_SECONDS)))
        if found.ended_at is not None:
            return found
        if left <= 0:
            raise TimedOut(f"batch {batch_id} goes on: {found.waiting} of {found.total} wait")


@app.command()
def cancel(batch: Which, yes: options.Yes = False, json: options.Json = False) -> None:
    """Begin nothing more; what was done stays done."""
    options.confirm(f"Cancel the batch {batch}?", yes=yes)
    with connect() as client:
        records.print_record(client.cancel_batch(batch), json=json)


@app.command()
def halt(batch: Which, json: options.Json = False) -> None:
    """Begin nothing more until it is resumed."""
    with connect() as client:
        records.print_record(client.halt_batch(batch), json=json)


@app.command()
def resume(batch: Which, max_failures: MaxFailures = None, json: options.Json = False) -> None:
    """Go on with a batch that was halted, or halted by itself."""
    with connect() as client:
        records.print_record(client.resume_batch(batch, max_failures), json=json)


@app.command()
def approve(batch: Which, note: Note = "", yes: options.Yes = False, json: options.Json = False) -> None:
    """Say yes to every request of a batch that waits for people; whoever asked for it may not."""
    options.confirm(f"Approve all that batch {batch} asked for?", yes=yes)
    with connect() as client:
        _decide(lambda after: client.approve_batch(batch, note, after), json=json)


@app.command()
def reject(batch: Which, note: Note = "", yes: options.Yes = False, json: options.Json = False) -> None:
    """Say no to every request of a batch that waits for people."""
    options.confirm(f"Reject all that batch {batch} asked for?", yes=yes)
    with connect() as client:
        _decide(lambda after: client.reject_batch(batch, note, after), json=json)


def _decide(say: Callable[[str], BatchDecisionAnswer], *, json: bool) -> None:
    """Say it until it is over, and print what all of it came to."""
    import msgspec

    told = say("")
    while not told.is_over:
        more = say(told.after)
        counts = {name: getattr(told, name) + getattr(more, name) for name in _COUNTED}
        reasons = list(dict.fromkeys([*told.reasons, *more.reasons]))
        told = msgspec.structs.replace(more, reasons=reasons, **counts)
    records.print_record(told, json=json)


def bulk_renew(
    ids: Ids = None,
    profile_id: ProfileId = "",
    owner_id: OwnerId = "",
    agent_id: AgentId = "",
    issuer_id: IssuerId = "",
    team_id: TeamId = "",
    force: Annotated[bool, typer.Option("--force", help="Replace what is under way.")] = False,
    max_failures: MaxFailures = None,
    wave_size: Annotated[int, typer.Option(min=0, help="So many at a time; 0: all.")] = 0,
    wave_pause: Annotated[int, typer.Option(min=0, help="Seconds of rest between two waves.")] = 0,
    dry_run: DryRun = False,
    json: options.Json = False,
) -> None:
    """Renew many: every condition given must hold."""
    from certctl.client.models.batches import BulkRenewBody

    chosen = _chosen(ids, profile_id, owner_id, agent_id, issuer_id, team_id)
    with connect() as client:
        answer = client.bulk_renew(
            BulkRenewBody(
                **chosen,
                force=force,
                dry_run=dry_run,
                max_failures=max_failures,
                wave_size=wave_size,
                wave_pause_seconds=wave_pause,
            )
        )
    _tell(answer, "Enqueued", answer.total_enqueued, json=json)


def bulk_revoke(
    ids: Ids = None,
    reason: Annotated[str, typer.Option(help="keyCompromise, superseded, ...")] = "unspecified",
    profile_id: ProfileId = "",
    owner_id: OwnerId = "",
    agent_id: AgentId = "",
    issuer_id: IssuerId = "",
    team_id: TeamId = "",
    dry_run: DryRun = False,
    yes: options.Yes = False,
    json: options.Json = False,
) -> None:
    """Revoke many for good: every condition given must hold."""
    from certctl.client.models.batches import BulkRevokeBody

    chosen = _chosen(ids, profile_id, owner_id, agent_id, issuer_id, team_id)
    with connect() as client:
        if not dry_run:
            matched = client.bulk_revoke(BulkRevokeBody(**chosen, reason=reason, dry_run=True)).total_matched
            options.confirm(f"Revoke {matched} certificates? This cannot be undone.", yes=yes)
        answer = client.bulk_revoke(BulkRevokeBody(**chosen, reason=reason, dry_run=dry_run))
    _tell(answer, "Revoked", answer.total_revoked, json=json)


def bulk_reassign(
    owner_id: Annotated[str, typer.Option("--owner-id", "--owner", help="To whom they go.")],
    ids: Annotated[list[str], typer.Argument(metavar="IDS", help="Ids of certificates.")],
    team_id: Annotated[str, typer.Option("--team-id", "--team", help="And to which team.")] = "",
    dry_run: DryRun = False,
    json: options.Json = False,
) -> None:
    """Give many to another owner."""
    from certctl.client.models.batches import BulkReassignBody

    with connect() as client:
        body = BulkReassignBody(owner_id=owner_id, team_id=team_id, certificate_ids=ids, dry_run=dry_run)
        answer = client.bulk_reassign(body)
    _tell(answer, "Reassigned", answer.total_reassigned, json=json)


def _chosen(ids: list[str] | None, profile: str, owner: str, agent: str, issuer: str, team: str) -> dict[str, Any]:
    named = {"profile_id": profile, "owner_id": owner, "agent_id": agent, "issuer_id": issuer, "team_id": team}
    if not ids and not any(named.values()):
        raise UsageFault("say which: ids, or --profile-id, --owner-id, --agent-id, --issuer-id, --team-id")
    return named | {"certificate_ids": ids or None}


def _tell(answer: Any, word: str, done: int, *, json: bool) -> None:
    if json:
        output.print_data(answer)
    else:
        tables.print_facts(
            [
                ("Matched", str(answer.total_matched)),
                (word, str(done)),
                ("Skipped", str(answer.total_skipped)),
                ("Failed", str(answer.total_failed)),
                ("Batch", answer.batch_id),
                ("Status", tables.status(answer.status)),
            ]
        )
        for fault in answer.errors:
            sys.stderr.write(f"  {fault.certificate_id}: {tables.safe(fault.error)}\n")
    if answer.total_failed:
        raise StageFailed(f"{answer.total_failed} of {answer.total_matched} failed")
