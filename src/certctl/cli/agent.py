"""`certctl-agent`: enrol, run, status, doctor. Only argparse is loaded for the command line: it starts at once.

Without a subcommand it runs, and takes the reference product's flags (-server, -api-key, -agent-id, ...). A failure is
one plain sentence on standard error and an exit code; must never print a credential.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from certctl import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from certctl.agent.settings import AgentSettings

OK, FAILURE, USAGE, NOT_ENROLLED = 0, 1, 2, 3

_EPILOG = """exit codes: 0 ok (also: stopped by SIGTERM, or the agent was retired), 1 failure, 2 wrong usage,
3 not enrolled. Settings are read from CERTCTL_* variables; flags win over them."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Read the command line, do what it says, exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in {"-h", "--help", "--version"}):
        given.insert(0, "run")
    options = vars(_parser().parse_args(given))
    command: Callable[[AgentSettings, bool], int] = options.pop("command")
    as_json = bool(options.pop("json", False))
    sys.exit(_execute(command, options, as_json=as_json))


def _execute(command: Callable[[AgentSettings, bool], int], flags: dict[str, str | None], *, as_json: bool) -> int:
    from certctl.agent.settings import load_settings
    from certctl.core.errors import CertctlError

    try:
        return command(load_settings(os.environ, flags), as_json)
    except CertctlError as error:
        print(f"certctl-agent: {error.message}", file=sys.stderr)
        return NOT_ENROLLED if error.code == "not_found" else FAILURE
    except OSError as error:
        print(f"certctl-agent: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        return FAILURE


def _run(settings: AgentSettings, _as_json: bool) -> int:
    from certctl.agent.main import run_agent

    _start_log(settings)
    return run_agent(settings)


def _enrol(settings: AgentSettings, as_json: bool) -> int:
    from certctl.agent.main import enrol_agent
    from certctl.core.errors import Misconfigured

    if not settings.enrolment_token:
        raise Misconfigured("no enrolment token; give --token or set CERTCTL_AGENT_ENROLMENT_TOKEN")
    _start_log(settings)
    identity = enrol_agent(settings)
    if as_json:
        import json

        print(json.dumps({"agent_id": identity.agent_id, "name": identity.name, "server_url": identity.server_url}))
    else:
        print(f"enrolled as {identity.agent_id} ({identity.name}) at {identity.server_url}")
    return OK


def _status(settings: AgentSettings, as_json: bool) -> int:
    import msgspec

    from certctl.agent.main import read_status

    status = read_status(settings)
    facts = msgspec.to_builtins(status)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(facts), indent=2).decode())
    else:
        for name, value in facts.items():
            shown = ", ".join(value) if isinstance(value, list) else value
            print(f"{name.replace('_', ' '):<18} {'-' if shown in {'', None} else shown}")
    return OK if status.enrolled else NOT_ENROLLED


def _doctor(settings: AgentSettings, as_json: bool) -> int:
    from certctl.cli.doctor import agent as doctor

    return doctor.run(settings, as_json=as_json)


def _start_log(settings: AgentSettings) -> None:
    from certctl.core.errors import Misconfigured
    from certctl.telemetry.logging import configure_logging

    try:
        configure_logging(settings.log_level, settings.log_format)
    except ValueError as error:
        raise Misconfigured(f"CERTCTL_LOG_LEVEL: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="certctl-agent",
        description="Makes keys on this host, deploys certificates to its servers and looks at what they serve.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"certctl-agent {__version__}")
    commands = parser.add_subparsers(required=True, metavar="enrol|run|status|doctor")
    _add_run(commands)
    _add_enrol(commands)
    status = commands.add_parser("status", help="show identity, waiting results and open deployments", epilog=_EPILOG)
    status.set_defaults(command=_status)
    status.add_argument("--json", action="store_true", help="print JSON")
    _add_folders(status)
    doctor = commands.add_parser("doctor", help="say what is wrong with this set-up and how to mend it", epilog=_EPILOG)
    doctor.set_defaults(command=_doctor)
    doctor.add_argument("--json", action="store_true", help="print JSON")
    _add_server(doctor)
    _add_folders(doctor)
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser("run", help="run the agent (the default)", epilog=_EPILOG)
    run.set_defaults(command=_run)
    _add_server(run)
    run.add_argument("-api-key", "--api-key", dest="api_key", help="API key; better: CERTCTL_API_KEY, or enrol")
    run.add_argument("-agent-id", "--agent-id", dest="agent_id", help="agent id that goes with the API key")
    _add_folders(run)


def _add_enrol(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    enrol = commands.add_parser(
        "enrol", aliases=["enroll"], help="become an agent with a one-time token", epilog=_EPILOG
    )
    enrol.set_defaults(command=_enrol)
    _add_server(enrol)
    enrol.add_argument("--token", dest="enrolment_token", help="enrolment token; better: CERTCTL_AGENT_ENROLMENT_TOKEN")
    enrol.add_argument("--json", action="store_true", help="print JSON")
    _add_folders(enrol)


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-server", "--server", dest="server_url", help="https://host[:port] of the control plane")
    parser.add_argument("-name", "--name", dest="name", help="this agent's name")
    parser.add_argument("-ca-bundle", "--ca-bundle", dest="ca_bundle_path", help="PEM file of the server's CA")
    parser.add_argument("--log-level", dest="log_level", help="debug, info, warning or error")
    parser.add_argument("--log-format", dest="log_format", help="json or text")


def _add_folders(parser: argparse.ArgumentParser) -> None:
    # options without a command are those of `run`: wherever it stands, --version asks for no more than that
    parser.add_argument("--version", action="version", version=f"certctl-agent {__version__}")
    parser.add_argument("-state-dir", "--state-dir", dest="state_dir", help="where identity and results are kept")
    parser.add_argument("-key-dir", "--key-dir", dest="key_dir", help="where private keys are kept")


if __name__ == "__main__":
    main()
