"""`certctl certs`: request, look at, renew, deploy, revoke, wait for and export certificates."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from certctl.cli import lists, options, output, plans, tables
from certctl.cli.connection import connect
from certctl.cli.exits import UsageFault
from certctl.cli.finding import find, find_id

if TYPE_CHECKING:
    from certctl.client import Client
    from certctl.client.models.certificates import CertificateView, VersionView
    from certctl.client.models.jobs import JobView

app = typer.Typer(no_args_is_help=True, help="Request, look at, renew, deploy, revoke and export certificates.")

Which = Annotated[str, typer.Argument(metavar="CERT", help="Id or name of the certificate.")]
_WAIT_SECONDS = 300.0


@app.command("list")
def list_certificates(
    status: Annotated[str, typer.Option(help="Active, Expiring, Failed, ...")] = "",
    search: lists.Search = "",
    owner: Annotated[str, typer.Option(help="Id of the owner.")] = "",
    team: Annotated[str, typer.Option(help="Id of the team.")] = "",
    issuer: Annotated[str, typer.Option(help="Id of the issuer.")] = "",
    only: lists.Filters = None,
    sort: lists.Sort = "expiresAt",
    page_number: lists.Page = 1,
    limit: lists.Limit = 100,
    every: lists.All = False,
    json: options.Json = False,
) -> None:
    """List certificates, those that end first on top."""
    from certctl.client import calls

    named = {"status": status, "owner_id": owner, "team_id": team, "issuer_id": issuer}
    query = named | lists.filters(only) | {"q": search, "sort": sort}
    with connect() as client:
        page = lists.fetch(client, calls.CERTIFICATES, page=page_number, limit=limit, every=every, **query)
    if json:
        output.print_data(page)
        return
    rows = [
        [
            tables.safe(row.name),
            tables.status(row.status),
            tables.moment(row.expires_at),
            str(len(row.target_ids)),
            tables.short(row.issuer_id),
            tables.short(row.id),
        ]
        for row in page.data
    ]
    tables.print_table(
        ["NAME", "STATUS", "EXPIRES", "TARGETS", "ISSUER", "ID"],
        rows,
        "No certificates yet. Ask for one: certctl certs request NAME --target TARGET",
    )
    if page.total > len(page.data) and tables.is_terminal():
        sys.stdout.write(f"{len(page.data)} of {page.total}; narrow with --status or --search\n")


@app.command("get", hidden=True)
@app.command()
def show(certificate: Which, json: options.Json = False) -> None:
    """Everything about one certificate: its state, where it is deployed, what was seen there."""
    from certctl.client import calls

    with connect() as client:
        found = find(client, calls.CERTIFICATES, certificate, "certificate")
        if json:
            output.print_data(found)
            return
        deployments = client.list_deployments(found.id).data
        versions = client.list_versions(found.id).data
    tables.print_facts([*_facts(found), *(fact for version in versions for fact in _key_facts(version))])
    if deployments:
        sys.stdout.write("\n")
        tables.print_table(
            ["TARGET", "TYPE", "DEPLOYMENT", "SEEN", "AGENT", "NOTE"],
            [
                [
                    tables.safe(row.name),
                    row.type,
                    tables.status(row.deployment.status if row.deployment else "none"),
                    tables.moment(row.deployment.verified_at if row.deployment else None),
                    tables.short(row.agent_id),
                    tables.safe(row.deployment.error if row.deployment else ""),
                ]
                for row in deployments
            ],
        )


def _facts(found: CertificateView) -> list[tuple[str, str]]:
    reason = f" ({tables.safe(found.status_reason)})" if found.status_reason else ""
    return [
        ("name", tables.safe(found.name)),
        ("id", found.id),
        ("status", tables.status(found.status) + reason),
        ("names", ", ".join(found.sans)),
        ("expires", tables.moment(found.expires_at)),
        ("looked at next", tables.moment(found.next_check_at)),
        ("issuer", found.issuer_id),
        ("profile", found.certificate_profile_id),
        ("renewal policy", found.renewal_policy_id),
        ("owner", found.owner_id),
        ("team", found.team_id),
        ("environment", tables.safe(found.environment)),
        ("tags", tables.safe(", ".join(f"{name}={value}" for name, value in found.tags.items()))),
        ("renewed", tables.moment(found.last_renewal_at)),
        ("deployed", tables.moment(found.last_deployment_at)),
        ("revoked", " ".join(filter(None, [tables.moment(found.revoked_at), found.revocation_reason]))),
    ]


def _key_facts(version: VersionView) -> list[tuple[str, str]]:
    if version.status != "current":
        return []
    return [
        ("serial", version.serial_number),
        ("fingerprint", version.fingerprint_sha256),
        ("key", f"{version.key_algorithm} {version.key_size} held by {version.holder_id}"),
    ]


@app.command()
def request(
    common_name: Annotated[str, typer.Argument(metavar="NAME", help="The name it is for: shop.example.com")],
    san: Annotated[list[str] | None, typer.Option("--san", help="A further name; again for more.")] = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", "-t", help="Id or name of a target; again for more.")
    ] = None,
    csr: Annotated[Path | None, typer.Option("--csr", help="PEM file: keep the key yourself.")] = None,
    lifetime: Annotated[str, typer.Option(help="How long it lives: 30d, 12h.")] = "",
    id: Annotated[str, typer.Option("--id", help="An id of your own.")] = "",  # noqa: A002 - the API's word
    label: Annotated[str, typer.Option("--label", help="A name for people, if not the first name.")] = "",
    issuer: Annotated[str, typer.Option(help="Id of the issuer.")] = "",
    profile: Annotated[str, typer.Option(help="Id of the profile.")] = "",
    policy: Annotated[str, typer.Option(help="Id of the renewal policy.")] = "",
    owner: Annotated[str, typer.Option(help="Id of the owner.")] = "",
    team: Annotated[str, typer.Option(help="Id of the team.")] = "",
    environment: Annotated[str, typer.Option(help="production, staging, ...")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="name=value; again for more.")] = None,
    wait: options.Wait = True,
    timeout: options.Timeout = _WAIT_SECONDS,
    json: options.Json = False,
) -> None:
    """Request a certificate and follow it until every target is seen to serve it."""
    from certctl.client import calls
    from certctl.client.models.certificates import CertificateWrite

    with connect() as client:
        wanted = CertificateWrite(
            common_name=common_name,
            sans=san or None,
            target_ids=[find_id(client, calls.TARGETS, text, "target") for text in target or []] or None,
            csr_pem=_read(csr) if csr else None,
            validity_seconds=_seconds(lifetime),
            id=id or None,
            name=label or None,
            issuer_id=issuer or None,
            certificate_profile_id=profile or None,
            renewal_policy_id=policy or None,
            owner_id=owner or None,
            team_id=team or None,
            environment=environment or None,
            tags=_tags(tag or []) or None,
        )
        made = client.create_certificate(wanted)
        if wait:
            _follow(client, made.id, set(), timeout, quiet=json)
        _tell(client, made.id, json=json, waited=wait)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageFault(f"{path} cannot be read: {error}") from error


def _seconds(lifetime: str) -> int | None:
    from certctl.connectors.base.config import parse_duration

    if not lifetime:
        return None
    try:
        return int(parse_duration(lifetime).total_seconds())
    except ValueError as error:
        raise UsageFault(str(error)) from error


def _tags(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if any(not name or not sign for name, sign, _ in pairs):
        raise UsageFault("a tag is written name=value")
    return {name: value for name, _, value in pairs}


def _follow(client: Client, certificate_id: str, known: set[str], timeout: float, *, quiet: bool) -> list[JobView]:
    from certctl.cli.progress import Follower, refuse_failures

    targets = client.list_deployments(certificate_id).data
    agents = client.list_agents().data
    names = {row.id: row.name for row in agents} | {row.id: row.name for row in targets}
    follower = Follower(client, quiet=quiet, names=names)
    jobs = follower.follow_certificate(certificate_id, known, timeout)
    refuse_failures(jobs)
    return jobs


def _tell(client: Client, certificate_id: str, *, json: bool, waited: bool) -> None:
    """How it stands now, in one line."""
    now = client.get_certificate(certificate_id)
    if json:
        output.print_data(now)
        return
    places = client.list_deployments(certificate_id).data
    verified = [row for row in places if row.deployment and row.deployment.status == "verified"]
    where = f", verified on {len(verified)} of {len(places)} targets" if places else ", deployed nowhere"
    if now.status == "Revoked":
        where = f", and was last seen served on {len(verified)} targets: replace it there" if verified else ""
    ends = f", expires {tables.moment(now.expires_at)}" if now.expires_at else ""
    sys.stdout.write(f"{tables.safe(now.name)} ({now.id}) is {tables.status(now.status)}{where}{ends}\n")
    if now.status == "Pending" and now.status_reason:
        sys.stdout.write(f"  {tables.safe(now.status_reason)}\n")
    if not waited:
        sys.stdout.write(f"  follow it: certctl certs wait {now.id}\n")


def _known_jobs(client: Client, certificate_id: str) -> set[str]:
    return {job.id for job in client.list_jobs(certificate_id=certificate_id).data}


@app.command()
def renew(
    certificate: Which,
    force: Annotated[bool, typer.Option("--force", help="Replace an issuance under way.")] = False,
    wait: options.Wait = True,
    timeout: options.Timeout = _WAIT_SECONDS,
    json: options.Json = False,
) -> None:
    """Renew now: every key holder makes a new key."""
    from certctl.client import calls

    with connect() as client:
        certificate_id = find_id(client, calls.CERTIFICATES, certificate, "certificate")
        known = _known_jobs(client, certificate_id)
        client.renew_certificate(certificate_id, force=force)
        if wait:
            _follow(client, certificate_id, known, timeout, quiet=json)
        _tell(client, certificate_id, json=json, waited=wait)


@app.command()
def deploy(
    certificate: Which,
    target: Annotated[str, typer.Option("--target", "-t", help="One target; else all.")] = "",
    version: Annotated[str, typer.Option(help="An older version: a rollback.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done on each host.")] = False,
    wait: options.Wait = True,
    timeout: options.Timeout = _WAIT_SECONDS,
    json: options.Json = False,
) -> None:
    """Deploy now: the current version, or a named older one."""
    from certctl.client import calls

    with connect() as client:
        certificate_id = find_id(client, calls.CERTIFICATES, certificate, "certificate")
        target_id = find_id(client, calls.TARGETS, target, "target") if target else ""
        if dry_run:
            asked = client.deploy_certificate(certificate_id, target_id=target_id, version_id=version, dry_run=True)
            plans.show(client, asked.job_ids, timeout, json=json)
            return
        known = _known_jobs(client, certificate_id)
        client.deploy_certificate(certificate_id, target_id=target_id, version_id=version)
        if wait:
            _follow(client, certificate_id, known, timeout, quiet=json)
        _tell(client, certificate_id, json=json, waited=wait)


@app.command()
def revoke(
    certificate: Which,
    reason: Annotated[str, typer.Option(help="keyCompromise, superseded, cessationOfOperation, ...")] = "unspecified",
    version: Annotated[str, typer.Option(help="One version; else every one that could still be trusted.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Have each key holder make a new key at once.")] = False,
    yes: options.Yes = False,
    wait: options.Wait = True,
    timeout: options.Timeout = _WAIT_SECONDS,
    json: options.Json = False,
) -> None:
    """Revoke for good. OCSP and CRL say so at once."""
    from certctl.client import calls

    with connect() as client:
        found = find(client, calls.CERTIFICATES, certificate, "certificate")
        options.confirm(f"Revoke {tables.safe(found.name)} ({found.id})? This cannot be undone.", yes=yes)
        known = _known_jobs(client, found.id)
        client.revoke_certificate(found.id, reason=reason, version_id=version, replace=replace)
        if wait:
            _follow(client, found.id, known, timeout, quiet=json)
        _tell(client, found.id, json=json, waited=wait)


@app.command()
def rollback(
    certificate: Which,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Id of the version to go back to.")],
    wait: options.Wait = True,
    timeout: options.Timeout = _WAIT_SECONDS,
    json: options.Json = False,
) -> None:
    """Deploy an older version again."""
    from certctl.client import calls

    with connect() as client:
        certificate_id = find_id(client, calls.CERTIFICATES, certificate, "certificate")
        known = _known_jobs(client, certificate_id)
        client.roll_back(certificate_id, version)
        if wait:
            _follow(client, certificate_id, known, timeout, quiet=json)
        _tell(client, certificate_id, json=json, waited=wait)


@app.command()
def wait(certificate: Which, timeout: options.Timeout = _WAIT_SECONDS, json: options.Json = False) -> None:
    """Wait until nothing is under way for a certificate; fails when it did not come out well."""
    from certctl.client import calls

    with connect() as client:
        certificate_id = find_id(client, calls.CERTIFICATES, certificate, "certificate")
        listed = client.list_jobs(certificate_id=certificate_id).data
        ended = {job.id for job in listed if job.completed_at is not None}
        _follow(client, certificate_id, ended, timeout, quiet=json)
        _tell(client, certificate_id, json=json, waited=True)


@app.command()
def versions(certificate: Which, json: options.Json = False) -> None:
    """Every version that was issued, newest first."""
    from certctl.client import calls

    with connect() as client:
        certificate_id = find_id(client, calls.CERTIFICATES, certificate, "certificate")
        page = client.list_versions(certificate_id)
    if json:
        output.print_data(page)
        return
    tables.print_table(
        ["STATUS", "SERIAL", "ENDS", "KEY", "HOLDER", "ID"],
        [
            [
                tables.status(row.status),
                row.serial_number,
                tables.moment(row.not_after),
                f"{row.key_algorithm} {row.key_size}",
                tables.short(row.holder_id),
                row.id,
            ]
            for row in page.data
        ],
        "Nothing has been issued yet.",
    )


@app.command()
def export(
    certificate: Which,
    version: Annotated[str, typer.Option(help="A version's id; else the current one.")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to a file instead of standard output.")] = None,
    leaf: Annotated[bool, typer.Option("--leaf", help="The certificate alone, without its chain.")] = False,
    pkcs12: Annotated[bool, typer.Option("--pkcs12", help="A trust store in PKCS #12.")] = False,
    json: options.Json = False,
) -> None:
    """Print a certificate and its chain in PEM. Keys never leave their holders."""
    from certctl.client import calls

    with connect() as client:
        certificate_id = find_id(client, calls.CERTIFICATES, certificate, "certificate")
        if pkcs12:
            _write_pkcs12(client, certificate_id, version, out)
            return
        pem = client.export_pem(certificate_id, version)
    if json:
        output.print_data(pem)
        return
    text = pem.cert_pem if leaf else pem.full_pem
    if out is None:
        sys.stdout.write(text)
        return
    try:
        out.write_text(text)
    except OSError as error:
        raise UsageFault(f"{out} cannot be written: {error.strerror}") from error


def _write_pkcs12(client: Client, certificate_id: str, version: str, out: Path | None) -> None:
    from certctl.client.models.certificates import Pkcs12Body

    if out is None:
        raise UsageFault("PKCS #12 is no text: name a file with --out")
    content = client.export_pkcs12(certificate_id, Pkcs12Body(version_id=version))
    try:
        out.write_bytes(content)
    except OSError as error:
        raise UsageFault(f"{out} cannot be written: {error.strerror}") from error


@app.command()
def archive(certificate: Which, yes: options.Yes = False) -> None:
    """Stop looking after a certificate. What was issued stays valid until it is revoked."""
    from certctl.client import calls

    with connect() as client:
        found = find(client, calls.CERTIFICATES, certificate, "certificate")
        question = f"Archive {tables.safe(found.name)} ({found.id})? It will not be renewed any more."
        options.confirm(question, yes=yes)
        client.archive_certificate(found.id)
    sys.stdout.write(f"{tables.safe(found.name)} ({found.id}) is archived\n")
