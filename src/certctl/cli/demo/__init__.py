"""`certctl demo`: one certificate's whole life on this machine, in one directory, over real processes and sockets.

Ends with a timeline and what to do next; stays up until stopped, or ends at once with `--once`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from certctl.cli.demo.installation import SITE, Installation, stop_as_ctrl_c_does
from certctl.cli.demo.story import CERTIFICATE, Line, StageFailedError, Story
from certctl.core.errors import CertctlError


def demo(data_dir: Path, *, once: bool, use_nginx: bool = True) -> int:
    """Play it; 0 when every stage did what it should, 1 otherwise, naming the stage."""
    console = Console(highlight=False)
    began = time.monotonic()
    stop_as_ctrl_c_does()
    try:
        house = Installation(data_dir)
    except OSError as error:
        console.print(f"[red]{escape(str(data_dir))} cannot be used:[/] {escape(str(error))}")
        return 1
    going_on = " (going on from an earlier run)" if house.resumed else ""
    console.print(f"[bold]certctl demo[/] in {house.directory}{going_on}\n")
    try:
        with console.status("starting") as status:

            def tell(what: str, line: Line | None) -> None:
                status.update(what)
                if line is not None:
                    console.print(_told(line), soft_wrap=True)

            story = Story(house, tell, use_nginx=use_nginx)
            client = story.open()
            ready = time.monotonic() - began
            story.play(client)
        _print_end(console, house, story, ready)
        if not once:
            _stay(console, house)
    except StageFailedError as failed:
        console.print(f"\n[red bold]failed at {escape(failed.stage)}[/]: {escape(failed.why)}")
        console.print(f"the logs of every process are in {house.directory / 'logs'}")
        return 1
    except CertctlError as error:
        console.print(f"\n[red bold]failed[/]: {escape(error.message)}")
        return 1
    except KeyboardInterrupt:
        console.print("\nstopping")
    finally:
        house.children.stop()
    return 0


def _told(line: Line) -> str:
    took = f"[dim]{line.seconds * 1000:7.0f} ms[/]"
    return f"[green]\u2713[/] {line.chapter:<8} {line.stage:<14} {took}  {escape(line.proof)}"


def _print_end(console: Console, house: Installation, story: Story, ready: float) -> None:
    table = Table(title="What happened", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("", no_wrap=True, min_width=8)
    table.add_column("took", no_wrap=True, min_width=6)
    table.add_column("stages")
    for chapter in dict.fromkeys(line.chapter for line in story.lines):
        lines = [line for line in story.lines if line.chapter == chapter]
        took = sum(line.seconds for line in lines)
        table.add_row(f"[bold]{chapter}[/]", f"{took:.2f} s", " \u2192 ".join(line.stage for line in lines))
    console.print()
    console.print(table)
    web = story.web
    console.print(
        f"\nready after {ready:.1f} s; {web.kind} serves a certificate that only its host has the key of.\n\n"
        f"[bold]Look yourself[/]\n"
        f"  control plane   {house.url}\n"
        f"  CA file         {house.ca_path}\n"
        f"  the site        curl --cacert {house.ca_path} --connect-to {SITE}:443:127.0.0.1:{web.port} https://{SITE}/\n"
        f"  its key         {house.agent_dir / 'keys'} (made there, never sent)\n",
        soft_wrap=True,
    )
    key_file = house.directory / "api-key"
    key_file.touch(mode=0o600)
    key_file.write_text(house.memory.api_key)
    certctl = Path(sys.argv[0]).name if Path(sys.argv[0]).name == "certctl" else "certctl"
    console.print(
        f"[bold]Go on by hand[/] (while the demo runs)\n"
        f"  {certctl} login --server {house.url} --ca-bundle {house.ca_path} --key-file {key_file}\n"
        f"  {certctl} certs show {CERTIFICATE}\n"
        f"  {certctl} certs renew {CERTIFICATE}\n"
        f"  {certctl} jobs list",
        soft_wrap=True,
    )


def _stay(console: Console, house: Installation) -> None:
    console.print("\nThe demo stays up. Press Ctrl-C to stop it; run it again in the same directory to go on.")
    while not (died := house.children.died()):
        time.sleep(0.5)
    raise StageFailedError(died, house.children.tail(died))
