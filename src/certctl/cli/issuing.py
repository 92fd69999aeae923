"""`certctl certs bulk-issue`: certificates for CSRs that lie here; their keys stay where they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from certctl.cli import options, output, tables
from certctl.cli.adopting import Tags, pairs
from certctl.cli.connection import connect
from certctl.cli.exits import UsageFault
from certctl.core.errors import Malformed

if TYPE_CHECKING:
    from certctl.client.models.issuances import BulkIssueAnswer, IssueItem, IssueResult

_MOST_A_CALL = 500


def bulk_issue(
    csrs: Annotated[list[Path], typer.Argument(metavar="CSR...", help="PEM files; the keys stay with you.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for NAME.pem, certificate and chain, each.")] = None,
    owner: Annotated[str, typer.Option("--owner", help="Id of the owner.")] = "",
    team: Annotated[str, typer.Option("--team", help="Id of the team.")] = "",
    issuer: Annotated[str, typer.Option("--issuer", help="Id of the issuer.")] = "",
    profile: Annotated[str, typer.Option("--profile", help="Id of the profile.")] = "",
    environment: Annotated[str, typer.Option("--environment", help="Where they are used.")] = "",
    tag: Tags = None,
    json: options.Json = False,
) -> None:
    """Issue a certificate for each CSR, by the names that it asks for. Fails when one was refused."""
    from certctl.client.models.issuances import BulkIssueBody

    said = {
        "owner_id": owner,
        "team_id": team,
        "issuer_id": issuer,
        "certificate_profile_id": profile,
        "environment": environment,
        "tags": pairs(tag),
    }
    items = [_item(path, said) for path in csrs]
    parts = [items[start : start + _MOST_A_CALL] for start in range(0, len(items), _MOST_A_CALL)]
    with connect() as client:
        answers = [client.bulk_issue(BulkIssueBody(certificates=part)) for part in parts]
    told = [
        (csrs[number * _MOST_A_CALL + row.index], answer, row)
        for number, answer in enumerate(answers)
        for row in answer.results
    ]
    if out is not None:
        for path, answer, row in told:
            _keep(out / f"{path.stem}.pem", answer, row)
    if json:
        output.print_data(answers[0] if len(answers) == 1 else answers)
    else:
        rows = [
            [tables.safe(str(path)), row.status, row.certificate_id, tables.safe(row.error)] for path, _, row in told
        ]
        tables.print_table(["CSR", "STATUS", "CERTIFICATE", "ERROR"], rows)
    if any(row.status == "failed" for _, _, row in told):
        raise typer.Exit(1)


def _item(path: Path, said: Mapping[str, object]) -> IssueItem:
    from certctl.client.models.issuances import IssueItem
    from certctl.core.names import spelled
    from certctl.pki.csr import read_csr

    try:
        text = path.read_text()
        csr = read_csr(text)
    except (OSError, UnicodeDecodeError, Malformed) as error:
        raise UsageFault(f"{path} is no CSR: {error}") from error
    names = [spelled(name) for name in csr.names]
    if not csr.common_name and not names:
        raise UsageFault(f"{path} asks for no name")
    return IssueItem(common_name=csr.common_name or csr.names[0].value, sans=names, csr_pem=text, **said)  # type: ignore[arg-type]  # options


def _keep(path: Path, answer: BulkIssueAnswer, row: IssueResult) -> None:
    if row.cert_pem:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(row.cert_pem + answer.chains.get(row.ca_certificate_id, ""))
