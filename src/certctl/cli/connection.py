"""Which server, which key: from the environment, else from the profile that `certctl login` saved (0600).

Environment: CERTCTL_SERVER_URL, CERTCTL_API_KEY, CERTCTL_SERVER_CA_BUNDLE_PATH. Keys are never arguments of a command:
other users of a machine can read those.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from certctl.cli.exits import UsageFault
from certctl.core.secret import Secret

if TYPE_CHECKING:
    from certctl.client import Client


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What is saved: where the server is, the key, and the CA bundle to trust (empty: the system's roots)."""

    server_url: str
    api_key: str
    ca_bundle: str = ""


def profile_path() -> Path:
    """`$XDG_CONFIG_HOME/certctl/config.json`."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "certctl" / "config.json"


def save_profile(profile: Profile) -> Path:
    """Write the profile for this user alone; a crash leaves the old one."""
    path = profile_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return path


def load_profile() -> Profile:
    """The profile in force: the environment wins over what is saved. Raises UsageFault when there is no server."""
    saved = _saved()
    profile = Profile(
        server_url=os.environ.get("CERTCTL_SERVER_URL") or saved.server_url,
        api_key=os.environ.get("CERTCTL_API_KEY") or saved.api_key,
        ca_bundle=os.environ.get("CERTCTL_SERVER_CA_BUNDLE_PATH") or saved.ca_bundle,
    )
    if not profile.server_url:
        raise UsageFault(
            "no server is known; sign in with `certctl login --server https://host:8443 --key-stdin`, "
            "or set CERTCTL_SERVER_URL and CERTCTL_API_KEY"
        )
    return profile


def _saved() -> Profile:
    path = profile_path()
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except FileNotFoundError:
        return Profile(server_url="", api_key="")
    except OSError as error:
        raise UsageFault(f"{path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise UsageFault(f"{path} holds a key and can be read by others; run: chmod 600 {path}")
    try:
        return msgspec.json.decode(content, type=Profile)
    except msgspec.MsgspecError as error:
        raise UsageFault(f"{path} cannot be read ({error}); sign in again with `certctl login`") from error


def connect(profile: Profile | None = None) -> Client:
    """A client of the server in force."""
    from certctl.client import Client  # httpx is slow to import; --help does without it

    known = profile or load_profile()
    ca_path = Path(known.ca_bundle).expanduser() if known.ca_bundle else None
    return Client(known.server_url, Secret(known.api_key), ca_path)


def read_secret(word: str, *, file: Path | None, stdin: bool, spaces: bool = False) -> str:
    """A secret by standard input or from a file: one line, without spaces unless they may be in it."""
    if stdin == (file is not None):
        raise UsageFault(f"give the {word} by standard input or by a file, one of the two: it is never an argument")
    try:
        text = file.read_text() if file is not None else sys.stdin.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageFault(f"the {word} cannot be read: {error}") from error
    value = text.removesuffix("\n").removesuffix("\r") if spaces else text.strip()
    if not value or any(not char.isprintable() or (char.isspace() and not spaces) for char in value):
        raise UsageFault(f"the {word} must be one line{'' if spaces else ' without spaces'}")
    return value
