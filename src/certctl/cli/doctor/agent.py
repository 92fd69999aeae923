"""`certctl-agent doctor`: is this host's agent well: identity, server, clock, allow-file, folders, what waits?

Looks only: nothing is sent but questions, no mode is changed, no step is taken. Must never print a credential.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certctl.agent.durable import FolderLock
from certctl.agent.identity import IDENTITY_FILE, Identity, read_identity
from certctl.agent.outbox import MOST_ENTRIES, read_entries
from certctl.agent.settings import AgentSettings
from certctl.cli.doctor import Finding, examine, fail, judge_clock, ok, tell, warn
from certctl.core.errors import CertctlError, Gone, Misconfigured, NotAllowed, NotAuthenticated

_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600
_WAITS_LONG = timedelta(hours=1)


def check_state_folder(settings: AgentSettings) -> list[Finding]:
    """The agent's own folder is private, ours, and can be written."""
    return list(_folder(settings.state_dir, "the state folder", "certctl-agent enrol makes it"))


def check_identity(settings: AgentSettings) -> Finding:
    """This host is enrolled, and its identity file is private."""
    if settings.agent_id and settings.api_key:
        return ok(f"agent {settings.agent_id} by API key, as the environment says")
    path = settings.state_dir / IDENTITY_FILE
    if not path.exists():
        return fail(
            f"this host is not enrolled: {path} is not there",
            "make a token (certctl agents token) and run: certctl-agent enrol --server URL --token TOKEN",
        )
    mode = stat.S_IMODE(path.lstat().st_mode)
    if mode & 0o077:
        return fail(f"{path} can be read by others (mode {mode:04o}): its credential may be known", f"chmod 600 {path}")
    identity = _identity(settings)
    return ok(f"{identity.agent_id} ({identity.name}) at {settings.server_url or identity.server_url}")


def check_key_folder(settings: AgentSettings) -> list[Finding]:
    """Private keys are private: folders 0700, files 0600, all ours."""
    found = list(_folder(settings.key_dir, "the key folder", "the first key makes it"))
    if any(each.status != "ok" for each in found):
        return found
    loose = [f for folder in sorted(settings.key_dir.iterdir()) if folder.is_dir() for f in _loose(folder)]
    return loose or found


def _loose(folder: Path) -> Iterator[Finding]:
    for path, wanted in ((folder, _PRIVATE_FOLDER), *((key, _PRIVATE_FILE) for key in sorted(folder.glob("*.key")))):
        facts = path.lstat()
        mode = stat.S_IMODE(facts.st_mode)
        if mode & 0o077:
            yield fail(
                f"{path} is open to others (mode {mode:04o})", f"chmod {wanted:o} {path}; then renew its certificate"
            )
        elif facts.st_uid != os.geteuid():
            yield fail(f"{path} belongs to user {facts.st_uid}", f"chown it to user {os.geteuid()}")


def _folder(path: Path, what: str, made_by: str) -> Iterator[Finding]:
    try:
        facts = path.lstat()
    except FileNotFoundError:
        yield warn(f"{what} {path} is not there yet", made_by)
        return
    mode = stat.S_IMODE(facts.st_mode)
    if not stat.S_ISDIR(facts.st_mode):
        yield fail(f"{what} {path} is a symbolic link or no folder", "put a real folder there")
    elif facts.st_uid != os.geteuid():
        yield fail(
            f"{what} {path} belongs to user {facts.st_uid}, this is user {os.geteuid()}",
            f"run this as the agent's user, or chown {path}",
        )
    elif mode != _PRIVATE_FOLDER:
        yield fail(f"{what} {path} has mode {mode:04o}", f"chmod 700 {path}")
    elif not os.access(path, os.W_OK | os.X_OK):
        yield fail(f"{what} {path} cannot be written (read-only file system?)", "make it writable")
    else:
        yield ok(f"{what} {path} is private and can be written")


async def check_server(settings: AgentSettings) -> Finding:
    """The server can be reached, its certificate is trusted, and its clock agrees."""
    from certctl.agent.enrol import read_ca_bundle, write_ca_file
    from certctl.agent.server import Server

    identity = _identity(settings)
    url = settings.server_url or identity.server_url
    bundle = read_ca_bundle(settings.ca_bundle_path) or identity.ca_bundle_pem
    # httpx wants a file; one of this process's own, for nothing in the state folder is touched
    with tempfile.TemporaryDirectory(prefix="certctl-doctor-") as folder:
        server = Server(url, identity.credential, write_ca_file(Path(folder), bundle), identity.agent_id)
    try:
        before = datetime.now(UTC)
        told = await server.time()
        after = datetime.now(UTC)
        await server.check_credential()
    except Gone as error:
        return fail(error.message, "this agent was retired: enrol anew, or remove it from this host")
    except (NotAuthenticated, NotAllowed) as error:
        return fail(error.message, "enrol again with a new token")
    except Misconfigured as error:
        return fail(error.message, "name the server's CA in CERTCTL_SERVER_CA_BUNDLE_PATH (its ca.pem)")
    except CertctlError as error:
        return fail(error.message, f"look whether {url} is up, and whether a firewall stands between")
    finally:
        await server.aclose()
    if told is None:
        return warn(f"{url} accepts this agent, but does not tell its time", "update the server")
    clock = judge_clock(told, before, after, "the server's")
    return clock if clock.status != "ok" else ok(f"{url} is trusted, accepts this agent, and {clock.message}")


def check_allow_file(settings: AgentSettings) -> list[Finding]:
    """What this host allows can be read, its folders can be written, its commands exist."""
    from certctl.connectors.host.allow import load_allow_file

    path = settings.allow_file
    try:
        allow = load_allow_file(path)
    except Misconfigured as error:
        return [fail(error.message, f"without a good {path} nothing can be deployed here")]
    found: list[Finding] = []
    for folder in allow.folders:
        if not folder.is_dir():
            found.append(fail(f"the allowed folder {folder} is not there", f"make it, or take it out of {path}"))
        elif not os.access(folder, os.W_OK | os.X_OK):
            found.append(fail(f"the allowed folder {folder} cannot be written by this user", "give it to the agent"))
    for action in allow.actions.values():
        if not os.access(action.command[0], os.X_OK):
            said = f"the command of {action.name}, {action.command[0]}, is not there or cannot be run"
            found.append(fail(said, f"install it, or mend {path}"))
    if not allow.folders:
        found.append(warn(f"{path} allows no folder: nothing can be deployed here", "add a [[folder]]"))
    return found or [ok(f"{path} allows {len(allow.folders)} folders and {len(allow.actions)} actions")]


def check_outbox(settings: AgentSettings) -> Finding:
    """Results reach the server."""
    entries = read_entries(settings.state_dir)
    if not entries:
        return ok("no result waits")
    oldest = min(entry.created_at for entry in entries)
    said = f"{len(entries)} results wait for the server, the oldest since {oldest:%Y-%m-%d %H:%M} UTC"
    if len(entries) >= MOST_ENTRIES:
        return fail(f"{said}: the outbox is full and no new work is fetched", "make the server reachable")
    if datetime.now(UTC) - oldest > _WAITS_LONG:
        return warn(said, "make the server reachable and see that the agent runs")
    return ok(said)


def check_half_done(settings: AgentSettings) -> list[Finding]:
    """No deployment was left half done, no file was set aside."""
    running = FolderLock.is_held(settings.state_dir) if settings.state_dir.is_dir() else False
    intents = sorted(path.stem for path in settings.state_dir.glob("deploys/*.json"))
    journals = sorted(path.parent.parent.name for path in settings.state_dir.glob("targets/*/swap/*.swap"))
    found: list[Finding] = []
    if (intents or journals) and not running:
        what = ", ".join([*intents, *(f"journal of {target}" for target in journals)][:5])
        found.append(
            fail(f"left half done and not settled: {what}", "start the agent: it finishes or rolls back first")
        )
    found.extend(
        warn(f"{path} could not be read and was set aside", "look at it, then remove it")
        for root in (settings.state_dir, settings.key_dir)
        for path in sorted(root.rglob("*.corrupt-*"))
    )
    return found or [ok("nothing is left half done")]


def check_running(settings: AgentSettings) -> Finding:
    """The agent runs."""
    if settings.state_dir.is_dir() and FolderLock.is_held(settings.state_dir):
        return ok("the agent runs")
    return warn("the agent does not run", "start it: certctl-agent run, or its service")


def _identity(settings: AgentSettings) -> Identity:
    if settings.agent_id and settings.api_key:
        return Identity(
            agent_id=settings.agent_id,
            name=settings.name,
            credential=settings.api_key,
            server_url=settings.server_url,
            enrolled_at=datetime.now(UTC),
        )
    path = settings.state_dir / IDENTITY_FILE
    if path.exists() and path.lstat().st_mode & 0o077:
        raise Misconfigured(f"{path} is open to others and is not used")  # reading it would tighten it
    identity = read_identity(settings.state_dir)
    if identity is None:
        raise Misconfigured("this host is not enrolled")
    return identity


CHECKS = (
    check_state_folder,
    check_identity,
    check_server,
    check_key_folder,
    check_allow_file,
    check_outbox,
    check_half_done,
    check_running,
)


def run(settings: AgentSettings, *, as_json: bool) -> int:
    """Examine this host's agent; returns the exit code."""
    from certctl.telemetry.logging import configure_logging

    configure_logging("error", "text")
    return tell(examine(CHECKS, settings), as_json=as_json)
