"""`certctl-server`: run the control plane, migrate, print the API's document. argparse only, so that errors come
at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from certctl import __version__, settings
from certctl.core.errors import CertctlError, Temporary
from certctl.telemetry.logging import configure_logging
from certctl.telemetry.traced import traced

if TYPE_CHECKING:
    from certctl.control.config_key import Rotation

log = structlog.get_logger(__name__)

EXITS = (
    "exit codes: 0 ended as asked, 1 failed while running, 2 wrong usage, 4 cannot start as configured, "
    "5 the database cannot be reached (trying again may help)"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ends the process."""
    asked = _parser().parse_args(arguments)
    if asked.command == "openapi":
        from certctl.api.app import openapi_document  # imports the whole API: only when asked for

        sys.stdout.write(json.dumps(openapi_document(), indent=2) + "\n")
        raise SystemExit(0)
    if asked.command == "doctor":
        from certctl.cli.doctor import server as doctor  # the database and its drivers: only when asked for

        raise SystemExit(doctor.run(os.environ, as_json=asked.json))
    if asked.command == "config":
        from certctl.cli import config

        raise SystemExit(config.run(os.environ, asked.action, as_json=asked.json))
    try:
        if asked.command == "migrate":
            sys.stdout.write(_revisions_in_words() if asked.way == "list" else _way_back(asked.to))
            raise SystemExit(0)
        chosen = settings.load(os.environ)
    except CertctlError as error:
        sys.stderr.write(f"certctl-server: {error.message}\n")
        raise SystemExit(4) from error
    configure_logging(chosen.log_level, "text" if chosen.log_format == "text" else "json")
    for library in ("alembic", "uvicorn", "httpx"):
        logging.getLogger(library).setLevel(logging.WARNING)
    if idle := settings.read(os.environ).idle:
        log.warning("settings_do_nothing", variables=", ".join(idle), help="see certctl-server config check")
    os.umask(0o077)  # whatever is written is ours alone, unless it says otherwise
    try:
        raise SystemExit(_run(asked, chosen))
    except CertctlError as error:
        log.error("cannot_start", error=error.message, detail=error.detail)  # noqa: TRY400 - told in a sentence, no trace
        sys.stderr.write(f"certctl-server: {error.message}\n")
        raise SystemExit(5 if isinstance(error, Temporary) else 4) from error


def _run(asked: argparse.Namespace, chosen: settings.Settings) -> int:
    from certctl import processes  # uvloop, uvicorn and the API: only when serving

    if asked.command == "rotate-config-key":
        from certctl.bootstrap import rotate_config_key

        done = asyncio.run(rotate_config_key(chosen, Path(asked.new_key_file), dry_run=asked.dry_run))
        sys.stdout.write(_rotation_in_words(done, dry_run=asked.dry_run))
        return 0
    if asked.command == "import-reference":
        from certctl.cli import reference

        return reference.run(chosen, Path(asked.file), Path(asked.reference_key_file), dry_run=asked.dry_run)
    if asked.command == "prune-audit":
        from certctl.cli import pruning

        return pruning.run(chosen, dry_run=asked.dry_run)
    if asked.migrate_only:
        asyncio.run(processes.migrate_only(chosen, first_install=asked.first_install))
        return 0
    with traced("certctl-server", __version__, wanted=chosen.otel_enabled):
        return processes.serve(chosen)


def _rotation_in_words(done: Rotation, *, dry_run: bool) -> str:
    if done.already:
        return f"everything is sealed under key {done.new_key_id} already; start the servers with it\n"
    what = f"{done.keys} keys and {done.answers} kept answers, from key {done.old_key_id} to {done.new_key_id}"
    if dry_run:
        return f"would seal anew: {what}; all of it opens, and nothing was changed\n"
    return f"sealed anew: {what}; start the servers with the new key\n"


def _way_back(to: str) -> str:
    from certctl.store.migrate import downgrade_sql  # SQLAlchemy and Alembic: only when asked for

    return downgrade_sql(to)


def _revisions_in_words() -> str:
    from certctl.store.migrate import revisions

    rows = [
        f"{each.revision}  {'takes away' if each.takes_away else 'adds':10}  {each.brings}\n"
        f"                  its way back: {each.way_back}\n"
        for each in revisions()
    ]
    return "".join(rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="certctl-server",
        description="The control plane of certctl. Configured by CERTCTL_* variables; with none it keeps everything in "
        "CERTCTL_DATA_DIR (/var/lib/certctl) on SQLite.",
        epilog=EXITS,
    )
    parser.add_argument("--version", action="version", version=f"certctl-server {__version__}")
    parser.add_argument(
        "--migrate-only",
        action="store_true",
        help="load the configuration, migrate and seed the database, then end; opens no listener, scheduler or signer",
    )
    parser.add_argument(
        "--first-install",
        action="store_true",
        help="with --migrate-only: a database whose host name does not exist, or where nothing listens, is not there "
        "yet; say so and end with 0 (anything else that is wrong with it still fails)",
    )
    parser.set_defaults(json=False)
    commands = parser.add_subparsers(
        dest="command", metavar="serve|openapi|config|doctor|migrate|rotate-config-key|import-reference|prune-audit"
    )
    commands.add_parser("serve", help="run the control plane (the default)", epilog=EXITS)
    commands.add_parser("openapi", help="print the API's document")
    config = commands.add_parser("config", help="say what this environment means to the server; starts nothing")
    config.add_argument("action", choices=("check", "docs"), help="check it, or print every variable as Markdown")
    config.add_argument("--json", action="store_true", help="print JSON")
    doctor = commands.add_parser("doctor", help="say what is wrong with this set-up and how to mend it")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    _add_maintenance(commands)
    _add_ways_back(commands)
    return parser


def _add_maintenance(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """What changes the database of a server that stands still, or beside it."""
    rotate = commands.add_parser(
        "rotate-config-key",
        help="seal everything under another CERTCTL_CONFIG_ENCRYPTION_KEY",
        description="Opens everything that lies sealed in the database with the key that is set, and seals it under "
        "the new one, in one transaction: killed at any moment it leaves all or nothing done; run again it goes on.",
        epilog=EXITS,
    )
    rotate.add_argument("--new-key-file", required=True, metavar="PATH", help="holds the new key; 0600")
    rotate.add_argument("--dry-run", action="store_true", help="do all of it, say what, and take it back")
    take_over = commands.add_parser(
        "import-reference",
        help="take over the issuers of a reference installation, with their secrets",
        description="Reads rows of its issuers table, one JSON object a line (SELECT row_to_json(i) FROM issuers i), "
        "opens encrypted_config with its key and seals the secrets under the key that is set here. An issuer that is "
        "there already is left as it is; what cannot be taken over is told, and ends it with 1.",
        epilog=EXITS,
    )
    take_over.add_argument("file", metavar="FILE", help="the rows")
    take_over.add_argument(
        "--reference-key-file",
        required=True,
        metavar="PATH",
        help="holds the reference product's CERTCTL_CONFIG_ENCRYPTION_KEY; 0600",
    )
    take_over.add_argument("--dry-run", action="store_true", help="open and judge all of it, write nothing")
    prune = commands.add_parser(
        "prune-audit",
        help="drop audit events older than CERTCTL_AUDIT_RETENTION, as the server does every hour",
        epilog=EXITS,
    )
    prune.add_argument("--dry-run", action="store_true", help="say what would be dropped, and why no more")


def _add_ways_back(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Revisions, and the SQL of their ways back."""
    ways = commands.add_parser("migrate", help="list the revisions, print the SQL of a way back").add_subparsers(
        dest="way", required=True, metavar="list|down"
    )
    ways.add_parser("list", help="every revision of this release: whether it takes away, what its way back loses")
    back = ways.add_parser("down", help="the SQL that takes this release's schema back, for PostgreSQL; runs nothing")
    back.add_argument(
        "--to", required=True, metavar="REV", help="the revision to go back to, or base for an empty database"
    )
    back.add_argument("--sql", required=True, action="store_true", help="print it; certctl never runs it by itself")


if __name__ == "__main__":
    main()
