"""`certctl`: the control plane from a terminal. Imports little, so that `--help` comes at once.

Every failure is one sentence on standard error and an exit code; keys are read from standard input, a file or the
environment, never from an argument.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from certctl import __version__
from certctl.cli import (
    adopting,
    agents,
    approvals,
    audit,
    batches,
    certs,
    events,
    external_keys,
    forecast,
    health,
    hierarchy,
    issuing,
    jobs,
    keys,
    notifications,
    options,
    output,
    overview,
    people,
    records,
    roles,
    tables,
)
from certctl.cli.connection import Profile, connect, load_profile, profile_path, read_secret, save_profile
from certctl.cli.exits import EXITS, UsageFault, exit_code, sentence
from certctl.core.errors import CertctlError

app = typer.Typer(
    no_args_is_help=True,
    epilog=EXITS,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(certs.app, name="certs")
app.add_typer(jobs.app, name="jobs")
app.add_typer(agents.app, name="agents")
for _kind in records.KINDS:
    app.add_typer(records.app_of(_kind), name=_kind)
app.add_typer(keys.app, name="keys")
app.add_typer(roles.app, name="roles")
app.add_typer(approvals.app, name="approvals")
app.add_typer(batches.app, name="batches")
app.add_typer(overview.app, name="stats")
app.add_typer(hierarchy.app, name="intermediates")
app.add_typer(events.app, name="events")
app.add_typer(external_keys.app, name="external-keys")
app.add_typer(people.sessions, name="sessions")
app.add_typer(people.users, name="users")
app.add_typer(people.breakglass, name="breakglass")
app.add_typer(audit.app, name="audit")
app.add_typer(notifications.app, name="notifications")
app.add_typer(health.app, name="health-checks")
app.command("metrics")(overview.metrics)
app.command("forecast")(forecast.forecast)
app.command("settings")(people.settings)
certs.app.command("import")(adopting.import_files)
certs.app.command("claim")(adopting.claim)
certs.app.command("bulk-issue")(issuing.bulk_issue)
certs.app.command("reissue")(adopting.reissue)
certs.app.command("submit-csr")(adopting.submit_csr)
certs.app.command("update", help="Change a certificate's record: what is not given stays.")(
    records.updater_of_certificates()
)
certs.app.command("bulk-renew")(batches.bulk_renew)
certs.app.command("bulk-revoke")(batches.bulk_revoke)
certs.app.command("bulk-reassign")(batches.bulk_reassign)

# kept out of sight: the reference product's flags before the command, so that its users' scripts go on
_GlobalServer = Annotated[str, typer.Option("--server", hidden=True)]
_GlobalCaBundle = Annotated[str, typer.Option("--ca-bundle", hidden=True)]
_GlobalFormat = Annotated[output.Form | None, typer.Option("--format", hidden=True)]
_GlobalKey = Annotated[str, typer.Option("--api-key", hidden=True)]
_GlobalInsecure = Annotated[bool, typer.Option("--insecure", hidden=True)]


@app.callback()
def before(
    server: _GlobalServer = "",
    ca_bundle: _GlobalCaBundle = "",
    form: _GlobalFormat = None,
    api_key: _GlobalKey = "",
    insecure: _GlobalInsecure = False,
) -> None:
    """Certificates from request to proof: issue, deploy, verify, renew, revoke."""
    if api_key:
        raise UsageFault("--api-key is not supported, other users of this machine could read it: set CERTCTL_API_KEY")
    if insecure:
        raise UsageFault("--insecure is not supported: name the CA of the server's certificate by --ca-bundle")
    if server:
        os.environ["CERTCTL_SERVER_URL"] = server
    if ca_bundle:
        os.environ["CERTCTL_SERVER_CA_BUNDLE_PATH"] = ca_bundle
    if form is not None:
        output.assume(form)


Server = Annotated[str, typer.Option("--server", help="https://host:8443", envvar="CERTCTL_SERVER_URL")]
CaBundle = Annotated[
    Path | None,
    typer.Option("--ca-bundle", help="PEM file of the CA to trust.", envvar="CERTCTL_SERVER_CA_BUNDLE_PATH"),
]
KeyFile = Annotated[Path | None, typer.Option("--key-file", help="File with the API key.")]
KeyStdin = Annotated[bool, typer.Option("--key-stdin", help="Read the API key from standard input.")]


@app.command()
def login(server: Server, key_stdin: KeyStdin = False, key_file: KeyFile = None, ca_bundle: CaBundle = None) -> None:
    """Sign in: try the key, then save server and key for this user (mode 0600)."""
    value = read_secret("API key", file=key_file, stdin=key_stdin)
    profile = Profile(server_url=server.rstrip("/"), api_key=value, ca_bundle=_absolute(ca_bundle))
    with connect(profile) as client:
        me = client.get_me()
    path = save_profile(profile)
    sys.stdout.write(f"signed in to {profile.server_url} as {tables.safe(me.actor_id)} ({', '.join(me.roles)})\n")
    sys.stderr.write(f"saved in {path}\n")


def _absolute(path: Path | None) -> str:
    return str(path.expanduser().resolve()) if path is not None else ""


@app.command()
def bootstrap(
    server: Server,
    token_file: Annotated[Path | None, typer.Option("--token-file", help="File with the bootstrap token.")] = None,
    token_stdin: Annotated[bool, typer.Option("--token-stdin", help="Read the token from standard input.")] = False,
    name: Annotated[str, typer.Option(help="Who the first administrator is.")] = "admin",
    ca_bundle: CaBundle = None,
    json: options.Json = False,
) -> None:
    """Make the first administrator's key, once, and sign in with it."""
    token = read_secret("bootstrap token", file=token_file, stdin=token_stdin)
    anonymous = Profile(server_url=server.rstrip("/"), api_key="", ca_bundle=_absolute(ca_bundle))
    with connect(anonymous) as client:
        made = client.bootstrap(token, name)
    path = save_profile(Profile(server_url=anonymous.server_url, api_key=made.key_value, ca_bundle=anonymous.ca_bundle))
    if json:
        output.print_data(made)
        return
    sys.stdout.write(f"{tables.safe(made.actor_id)} is the first administrator; signed in\n")
    sys.stderr.write(
        f"the key is saved in {path} and is not shown again; make more: certctl keys create NAME --role ROLE\n"
    )


@app.command()
def status(json: options.Json = False) -> None:
    """Where you are signed in, as whom, and how things stand there."""
    from certctl.client import calls

    profile = load_profile()
    with connect(profile) as client:
        me = client.get_me()
        version = client.send(calls.get_version())
        may_count = any(each.permission == "stats.read" for each in me.effective_permissions)
        counts = client.send(calls.count_certificates()) if may_count else []
    if json:
        output.print_data({"server_url": profile.server_url, "version": version, "me": me, "certificates": counts})
        return
    tables.print_facts(
        [
            ("server", f"{profile.server_url} (certctl {tables.safe(version.version)})"),
            ("signed in as", f"{tables.safe(me.actor_id)} ({', '.join(me.roles)})"),
            ("certificates", ", ".join(f"{row.count} {tables.status(row.status)}" for row in counts) or "none"),
            ("profile", str(profile_path())),
        ]
    )


@app.command()
def doctor(json: options.Json = False) -> None:
    """What is wrong at the server you are signed in to, and how to mend it. Exit code 1 when something fails."""
    from certctl.cli.doctor import control_plane

    with connect() as client:
        raise typer.Exit(control_plane.run(client, as_json=json))


@app.command()
def version(json: options.Json = False) -> None:
    """This program's release."""
    if json:
        output.print_data({"version": __version__})
    else:
        sys.stdout.write(f"certctl {__version__}\n")


@app.command()
def demo(
    data_dir: Annotated[Path, typer.Option("--data-dir", help="Where everything of the demo is kept.")] = Path(
        "certctl-demo"
    ),
    once: Annotated[bool, typer.Option("--once", help="End when the story is told.")] = False,
    without_nginx: Annotated[
        bool, typer.Option("--without-nginx", help="Deploy to the built-in TLS endpoint even where NGINX is installed.")
    ] = False,
    fleet: Annotated[
        bool, typer.Option("--fleet", help="Instead, fill a fleet of samples: months of thousands of certificates.")
    ] = False,
    certificates: Annotated[int, typer.Option("--certificates", help="With --fleet: how many certificates.")] = 3000,
    seed: Annotated[int, typer.Option("--seed", help="With --fleet: the same number gives the same fleet.")] = 1,
) -> None:
    """One certificate's whole life on this machine: real server, agent and web server in one directory."""
    try:
        if fleet:
            from certctl.cli.demo.fleet import show

            raise typer.Exit(show(data_dir, once=once, certificates=certificates, seed=seed))
        from certctl.cli.demo import demo as play  # needs the server's libraries
    except ModuleNotFoundError as error:
        raise UsageFault(f"the demo needs the server's parts ({error.name}): pip install 'certctl[server]'") from error
    raise typer.Exit(play(data_dir, once=once, use_nginx=not without_nginx))


output.offer(app)


def main() -> NoReturn:
    """Entry point: run a command, turn failures into a sentence and a code."""
    try:
        app()
    except CertctlError as error:
        sys.stdout.flush()
        sys.stderr.write(f"{tables.paint('certctl:', 'red', sys.stderr)} {sentence(error)}\n")
        sys.exit(exit_code(error))
    except BrokenPipeError:
        # whoever read us has seen enough (| head)
        sys.stderr.close()
        sys.exit(0)
    sys.exit(0)


if __name__ == "__main__":
    main()
