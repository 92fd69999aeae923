"""`certctl-server import-reference`: what a reference installation keeps sealed comes over. Prints no secret."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from certctl.bootstrap import given_secret, open_house
from certctl.control.reference_import import Taken, take_over
from certctl.core.actor import SYSTEM
from certctl.core.errors import Misconfigured
from certctl.settings import Settings


def run(chosen: Settings, file: Path, key_file: Path, *, dry_run: bool) -> int:
    """Take it over and say what became of each row; 1 when one was refused."""
    passphrase = given_secret(key_file, "the reference product's key")
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise Misconfigured(f"the rows cannot be read: {error}") from error

    async def take() -> list[Taken]:
        async with open_house(chosen) as house:
            return await take_over(house.ctx, SYSTEM, lines, passphrase, dry_run=dry_run)

    refused = 0
    for one in asyncio.run(take()):
        said = f"would be {one.outcome}" if dry_run and one.outcome == "imported" else one.outcome
        sys.stdout.write(f"{one.id}: {said}{f': {one.why}' if one.why else ''}\n")
        refused += one.outcome == "refused"
    return 1 if refused else 0
