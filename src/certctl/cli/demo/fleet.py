"""`certctl demo --fleet`: fills an installation with samples, starts its control plane, and plays its hosts.

Nothing of it was ever seen on a network, and it says so: see docs/operator/sample-fleet.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from certctl import settings
from certctl.bootstrap import open_house
from certctl.cli.demo.installation import Installation, stop_as_ctrl_c_does
from certctl.cli.demo.players import Players
from certctl.cli.exits import UsageFault
from certctl.core.errors import CertctlError
from certctl.core.secret import Secret
from certctl.sample import fill
from certctl.sample.plan import FEWEST, HISTORY, MOST, Plan
from certctl.telemetry.logging import configure_logging

_BEFORE = HISTORY + timedelta(days=20)


def show(data_dir: Path, *, once: bool, certificates: int, seed: int) -> int:
    """Fill it, or go on filling it; 0 when it is whole (and, unless `once`, when somebody has stopped it)."""
    if not FEWEST <= certificates <= MOST:
        raise UsageFault(f"--certificates is from {FEWEST} to {MOST}")
    console = Console(highlight=False)
    try:
        house = Installation(data_dir)
    except OSError as error:
        console.print(f"[red]{escape(str(data_dir))} cannot be used:[/] {escape(str(error))}")
        return 1
    began = time.monotonic()
    stop_as_ctrl_c_does()
    players: Players | None = None
    try:
        if not house.memory.fleet_secret:
            house.memory.fleet_secret = secrets.token_urlsafe(32)
            house.remember()
        console.print(f"[bold]certctl demo --fleet[/] in {escape(str(house.directory))}\n")
        with console.status("filling") as status:
            plan = asyncio.run(_fill(house, certificates, seed, status))
            told = f"{len(plan.lives)} certificates, {len(plan.cycles)} issuances, {len(plan.hosts)} hosts"
            console.print(f"[green]✓[/] filled   {told}, {time.monotonic() - began:.1f} s")
            status.update("starting the control plane")
            house.start_server()
            client = house.client()
        console.print(f"[green]✓[/] started  {house.url}")
        _tell(console, house)
        client.close()
        if not once:
            players = Players(house.url, house.ca_path, plan, _credential(house))
            players.start()
            console.print("\nThe hosts are played while this runs. Press Ctrl-C to stop; run it again to go on.")
            while not house.children.died():
                time.sleep(0.5)
            console.print(f"[red bold]the server ended:[/] {escape(house.children.tail('server'))}")
            return 1
    except CertctlError as error:
        console.print(f"\n[red bold]failed[/]: {escape(error.message)}")
        return 1
    except KeyboardInterrupt:
        console.print("\nstopping")
    finally:
        if players is not None:
            players.stop()
        house.children.stop()
    return 0


async def _fill(house: Installation, certificates: int, seed: int, status: Status) -> Plan:
    configure_logging("error", "text")
    now = datetime.now(UTC)
    clock = fill.MovingClock(now - _BEFORE)
    (house.directory / "server").mkdir(mode=0o700, exist_ok=True)
    async with open_house(settings.load(house.settings()), clock) as opened:
        known = await fill.begin(opened.ctx, seed, certificates, now)

        def tell(what: str, done: int, of: int) -> None:
            status.update(f"{what} {done} of {of}" if of else what)

        one = fill.Fill(opened.ctx, clock, known, _credential(house), tell)
        if not known.is_whole:
            await one.run()
    return one.plan


def _credential(house: Installation) -> fill.Credential:
    """The credential of each host: drawn from a secret that only this directory holds."""
    key = house.memory.fleet_secret.encode()
    return lambda host_id: Secret("cta_" + hmac.new(key, host_id.encode(), hashlib.sha256).hexdigest())


def _tell(console: Console, house: Installation) -> None:
    key_file = house.directory / "api-key"
    key_file.touch(mode=0o600)
    key_file.write_text(house.memory.api_key)
    key_file.chmod(0o600)
    certctl = Path(sys.argv[0]).name if Path(sys.argv[0]).name == "certctl" else "certctl"
    console.print(
        f"\n[bold]Look[/] (samples: real certificates of a real CA, on hosts that never were)\n"
        f"  dashboard       {house.url}/   sign in with the key in {key_file}\n"
        f"  a first look    {house.url}/certificates?status=Expiring\n"
        f"  waits for you   {house.url}/approvals\n"
        f"  the log         {house.url}/audit\n"
        f"  by hand         {certctl} login --server {house.url} --ca-bundle {house.ca_path} --key-file {key_file}\n"
        f"                  {certctl} certs list --status Failed",
        soft_wrap=True,
    )
