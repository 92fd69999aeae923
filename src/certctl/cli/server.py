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

import structlog

from certctl import __version__, settings
from certctl.core.errors import CertctlError
from certctl.telemetry.logging import configure_logging

log = structlog.get_logger(__name__)

EXITS = "exit codes: 0 ended as asked, 1 failed while running, 2 wrong usage, 4 cannot start as configured"


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
    try:
        chosen = settings.load(os.environ)
    except CertctlError as error:
        sys.stderr.write(f"certctl-server: {error.message}\n")
        raise SystemExit(4) from error
    configure_logging(chosen.log_level, "text" if chosen.log_format == "text" else "json")
    for library in ("alembic", "uvicorn", "httpx"):
        logging.getLogger(library).setLevel(logging.WARNING)
    os.umask(0o077)  # whatever is written is ours alone, unless it says otherwise
    try:
        raise SystemExit(_run(asked, chosen))
    except CertctlError as error:
        log.error("cannot_start", error=error.message, detail=error.detail)  # noqa: TRY400 - told in a sentence, no trace
        sys.stderr.write(f"certctl-server: {error.message}\n")
        raise SystemExit(4) from error


def _run(asked: argparse.Namespace, chosen: settings.Settings) -> int:
    from certctl import processes  # uvloop, uvicorn and the API: only when serving

    if asked.migrate_only:
        asyncio.run(processes.migrate_only(chosen))
        return 0
    return processes.serve(chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="certctl-server",
        description="The control plane of certctl. Configured by CERTCTL_* variables; with none it keeps everything in "
        "CERTCTL_DATA_DIR (/var/lib/certctl) on SQLite.",
        epilog=EXITS,
    )
    parser.add_argument("--version", action="version", version=f"certctl-server {__version__}")
    parser.add_argument("--migrate-only", action="store_true", help="migrate and seed the database, then end")
    parser.add_argument("--json", action="store_true", help="doctor: print JSON")
    parser.add_argument(
        "command",
        nargs="?",
        choices=("serve", "openapi", "doctor"),
        default="serve",
        help="serve (the default); openapi: print the API's document; doctor: say what is wrong with this set-up",
    )
    return parser


if __name__ == "__main__":
    main()
