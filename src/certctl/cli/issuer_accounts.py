"""`certctl issuers account|dry-run|roll-key|resume`: our account at another CA, its budget, what is lost or paused."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from certctl.cli import options, output, tables
from certctl.cli.connection import connect
from certctl.cli.exits import StageFailed
from certctl.cli.finding import find_id

Which = Annotated[str, typer.Argument(metavar="ISSUER", help="Id or name of the issuer.")]


def account(thing: Which, json: options.Json = False) -> None:
    """The account, the CA's limits, lost orders and paused names."""
    from certctl.client import calls

    with connect() as client:
        found = client.get_issuer_account(find_id(client, calls.ISSUERS, thing, "issuer"))
    if json:
        output.print_data(found)
        return
    lines = [f"{tables.safe(found.directory_url)}: {tables.safe(found.account_url) or 'no account yet'}"]
    if found.key_change_open:
        lines.append("a key change broke off; roll-key brings it to its end")
    lines += [f"{each.limit}: {each.used} used" for each in found.limits]
    if found.limits_source:
        lines.append(f"limits by {found.limits_source}, {found.limits_as_of}")
    lines += [f"lost at {each.asked_at:%Y-%m-%d %H:%M}: {tables.safe(each.names)}" for each in found.lost_orders]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    rows = [
        [each.names, each.certificate_id, str(each.failures), f"{each.paused_at:%Y-%m-%d %H:%M}", each.reason]
        for each in found.pauses
    ]
    tables.print_table(["NAMES", "CERTIFICATE", "FAILURES", "PAUSED AT", "REASON"], rows, "Nothing is paused.")


def dry_run(
    thing: Which,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="What to have issued there.")],
    timeout: Annotated[int, typer.Option("--timeout", help="Seconds that it may take.", min=10, max=300)] = 120,
    json: options.Json = False,
) -> None:
    """The same names through the CA's directory for trials, step by step; the certificate is thrown away."""
    from certctl.client import calls

    with connect() as client:
        issuer_id = find_id(client, calls.ISSUERS, thing, "issuer")
        answer = client.dry_run_issuer(issuer_id, names, timeout_seconds=timeout)
    if json:
        output.print_data(answer)
    else:
        rows = [[one.step, one.outcome, f"{one.seconds:.1f}", one.message] for one in answer.steps]
        tables.print_table(["STEP", "OUTCOME", "SECONDS", "SAID"], rows, "Nothing was done.")
    if answer.outcome != "passed":
        raise StageFailed(f"the dry run failed at {answer.directory_url}")


def roll_key(thing: Which, yes: options.Yes = False) -> None:
    """Change the account's key at the CA."""
    from certctl.client import calls

    with connect() as client:
        issuer_id = find_id(client, calls.ISSUERS, thing, "issuer")
        options.confirm(f"Change the key of the account of {tables.safe(issuer_id)} at its CA?", yes=yes)
        answer = client.roll_issuer_key(issuer_id)
    sys.stdout.write(f"{tables.safe(answer.message)}\n")


def resume(
    thing: Which,
    certificate: Annotated[str, typer.Option("--certificate", help="Id of one certificate; all without.")] = "",
) -> None:
    """Ask the CA again for names that it refused too often."""
    from certctl.client import calls

    with connect() as client:
        issuer_id = find_id(client, calls.ISSUERS, thing, "issuer")
        answer = client.resume_issuer(issuer_id, certificate_id=certificate)
    sys.stdout.write(f"{answer.resumed} resumed and asked for again\n" if answer.resumed else "Nothing was paused.\n")
