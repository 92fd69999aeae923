"""`certctl certs import|claim|reissue|submit-csr`: certificates from elsewhere brought in, taken over, issued anew."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from certctl.cli import certs, options, output, tables
from certctl.cli.connection import connect
from certctl.cli.exits import UsageFault
from certctl.cli.finding import find_id

if TYPE_CHECKING:
    from certctl.client.models.imports import ImportItem
    from certctl.client.models.page import StatusAnswer

_MOST_A_CALL = 500

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="PEM, DER or PKCS #7; never a key.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="name=value; again for more.")]


def import_files(
    files: Files,
    owner: Annotated[str, typer.Option("--owner", help="Id of the owner.")] = "",
    team: Annotated[str, typer.Option("--team", help="Id of the team.")] = "",
    environment: Annotated[str, typer.Option("--environment", help="Where they are used.")] = "",
    tag: Tags = None,
    json: options.Json = False,
) -> None:
    """Take certificates into the inventory, a file each with its chain. Fails when one could not be read."""
    from certctl.client.models.imports import ImportBody

    tags = pairs(tag)
    items = [_item(path, owner, team, environment, tags) for path in files]
    failed, answers = 0, []
    with connect() as client:
        for start in range(0, len(items), _MOST_A_CALL):
            answers.append(client.import_certificates(ImportBody(certificates=items[start : start + _MOST_A_CALL])))
            failed += answers[-1].total_failed
    if json:
        output.print_data(answers[0] if len(answers) == 1 else answers)
    else:
        rows = [
            [
                tables.safe(str(files[number * _MOST_A_CALL + row.index])),
                row.status,
                row.certificate_id,
                tables.safe(row.error),
            ]
            for number, answer in enumerate(answers)
            for row in answer.results
        ]
        tables.print_table(["FILE", "STATUS", "CERTIFICATE", "ERROR"], rows)
    if failed:
        raise typer.Exit(1)


def _item(path: Path, owner: str, team: str, environment: str, tags: dict[str, str]) -> ImportItem:
    from certctl.client.models.imports import ImportItem

    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageFault(f"{path} cannot be read: {error.strerror}") from error
    if b"PRIVATE KEY-----" in content:
        raise UsageFault(f"{path} holds a private key; keys stay on their hosts: give the certificate alone")
    item = ImportItem(owner_id=owner, team_id=team, environment=environment, tags=tags)
    if content.lstrip().startswith(b"-----BEGIN") or b"\n-----BEGIN" in content:
        try:
            return msgspec.structs.replace(item, pem=content.decode())
        except UnicodeDecodeError as error:
            raise UsageFault(f"{path} is neither PEM nor DER") from error
    return msgspec.structs.replace(item, der=content)


def claim(
    certificate: certs.Which,
    owner: Annotated[str, typer.Option("--owner", help="Id of the owner.")] = "",
    team: Annotated[str, typer.Option("--team", help="Id of the team.")] = "",
    issuer: Annotated[str, typer.Option("--issuer", help="Id of the issuer that renews it from now on.")] = "",
    profile: Annotated[str, typer.Option("--profile", help="Id of the profile.")] = "",
    policy: Annotated[str, typer.Option("--renewal-policy", help="Id of the renewal policy.")] = "",
    target: Annotated[list[str] | None, typer.Option("--target", help="Id of a target; again for more.")] = None,
    json: options.Json = False,
) -> None:
    """Take over an imported certificate: from now on certctl renews it."""
    from certctl.client import calls
    from certctl.client.models.imports import ClaimBody

    body = ClaimBody(
        owner_id=owner or None,
        team_id=team or None,
        issuer_id=issuer or None,
        certificate_profile_id=profile or None,
        renewal_policy_id=policy or None,
        target_ids=target or None,
    )
    with connect() as client:
        certificate_id = find_id(client, calls.CERTIFICATES, certificate, "certificate")
        claimed = client.claim_certificate(certificate_id, body)
    if json:
        output.print_data(claimed)
        return
    sys.stdout.write(f"{tables.safe(claimed.name)} ({claimed.id}) is looked after by certctl now\n")


def reissue(
    certificate: certs.Which,
    revoke_old: Annotated[
        bool, typer.Option("--revoke-old", help="Revoke each old version once it is replaced.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why it is revoked (superseded).")] = "",
    force: Annotated[bool, typer.Option("--force", help="Even while an issuance is under way.")] = False,
    json: options.Json = False,
) -> None:
    """A new key and certificate on every host that holds one."""
    from certctl.client import calls

    with connect() as client:
        certificate_id = find_id(client, calls.CERTIFICATES, certificate, "certificate")
        answer = client.reissue_certificate(certificate_id, revoke_old=revoke_old, reason=reason, force=force)
    _tell(answer, json=json)


def submit_csr(
    certificate: certs.Which,
    csr: Annotated[Path, typer.Argument(metavar="CSR", help="PEM file; the key stays with you.")],
    json: options.Json = False,
) -> None:
    """Ask for a version for a key of your own."""
    from certctl.client import calls

    try:
        csr_pem = csr.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageFault(f"{csr} cannot be read: {error}") from error
    with connect() as client:
        certificate_id = find_id(client, calls.CERTIFICATES, certificate, "certificate")
        answer = client.submit_csr(certificate_id, csr_pem)
    _tell(answer, json=json)


def _tell(answer: StatusAnswer, *, json: bool) -> None:
    if json:
        output.print_data(answer)
        return
    sys.stdout.write(
        f"{answer.status}: {', '.join(filter(None, [answer.job_id, *answer.job_ids])) or 'nothing to do'}\n"
    )


def pairs(given: list[str] | None) -> dict[str, str]:
    """Of `--tag name=value`."""
    found = [text.partition("=") for text in given or []]
    if any(not name or not sign for name, sign, _ in found):
        raise UsageFault("--tag takes name=value")
    return {name: value for name, _, value in found}
