"""The host's own allow-file: folders certctl may write here, commands it may run, sockets it may use; and for the
challenges of CAs the web server folders that it may answer in and the ports that it may open.

The file belongs to the host's owner (root): a server may name an action, it can never bring a command line. Must never
read a file that somebody else could have written, and never guess: an unknown key is refused.

    [[folder]]
    path = "/etc/nginx/tls"
    [action."nginx.reload"]
    command = ["/usr/sbin/nginx", "-s", "reload"]
    timeout = "10s"
    [[socket]]
    path = "/run/haproxy/admin.sock"
    [[webroot]]
    path = "/var/www/html"
    [[port]]
    number = 80
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Struct

from certctl.connectors.base.config import parse_duration
from certctl.core.errors import Misconfigured

DEFAULT_ALLOW_FILE = Path("/etc/certctl/allow.toml")
PLACEHOLDERS = frozenset({"staged_config", "cert_path", "key_path", "chain_path", "pem_path"})

_ACTION_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_MOST_BYTES = 256 * 1024
_LONGEST = timedelta(minutes=10)


class AllowedAction(Struct, frozen=True):
    """One command that may run on this host. An argument `{name}` stands for one value of the caller."""

    name: str
    command: tuple[str, ...]
    timeout: timedelta = timedelta(seconds=30)


class AllowFile(Struct, frozen=True):
    """What the host's owner allows."""

    path: Path
    folders: tuple[Path, ...] = ()
    actions: dict[str, AllowedAction] = {}
    sockets: tuple[Path, ...] = ()
    webroots: tuple[Path, ...] = ()
    ports: tuple[int, ...] = ()

    def allows_action(self, name: str) -> bool:
        """Whether `name` is listed: for actions that are run only where the host has them."""
        return name in self.actions

    def action(self, name: str) -> AllowedAction:
        """The action called `name`. Raises Misconfigured with the lines to add."""
        found = self.actions.get(name)
        if found is None:
            raise Misconfigured(
                f"this host does not allow the action {name!r}; to allow it, add to {self.path}:\n"
                f'[action."{name}"]\ncommand = {_EXAMPLES.get(name, _EXAMPLE)}'
            )
        return found

    def folder_of(self, path: str | Path) -> Path:
        """The allowed folder above `path` (the deepest). Raises Misconfigured with the lines to add."""
        wanted = check_absolute(str(path))
        above = [folder for folder in self.folders if folder in wanted.parents]
        if not above:
            raise Misconfigured(
                f"this host does not allow writing {wanted}; to allow its folder, add to {self.path}:\n"
                f'[[folder]]\npath = "{wanted.parent}"'
            )
        return max(above, key=lambda folder: len(folder.parts))

    def socket(self, path: str | Path) -> Path:
        """The allowed local socket `path`. Raises Misconfigured with the lines to add."""
        wanted = check_absolute(str(path))
        if wanted not in self.sockets:
            raise Misconfigured(
                f"this host does not allow speaking to the socket {wanted}; to allow it, add to {self.path}:\n"
                f'[[socket]]\npath = "{wanted}"'
            )
        return wanted

    def webroot(self, path: str | Path) -> Path:
        """The allowed web server folder `path`. Raises Misconfigured with the lines to add."""
        wanted = check_absolute(str(path))
        if wanted not in self.webroots:
            raise Misconfigured(
                f"this host does not allow answering challenges in {wanted}; to allow it, add to {self.path}:\n"
                f'[[webroot]]\npath = "{wanted}"'
            )
        return wanted

    def port(self, number: int) -> int:
        """The allowed port `number`. Raises Misconfigured with the lines to add."""
        if number not in self.ports:
            raise Misconfigured(
                f"this host does not allow opening port {number} for challenges; to allow it, add to {self.path}:\n"
                f"[[port]]\nnumber = {number}"
            )
        return number


_EXAMPLE = '["/absolute/path/of/program", "argument"]'
_EXAMPLES = {
    "nginx.validate": '["/usr/sbin/nginx", "-t", "-q", "-c", "{staged_config}"]',
    "nginx.test": '["/usr/sbin/nginx", "-t", "-q"]',
    "nginx.reload": '["/usr/sbin/nginx", "-s", "reload"]',
    # The modules are the host's choice: no server may name code to load.
    "apache.validate": (
        '["/usr/sbin/apache2", "-t", "-C", "LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so",'
        ' "-C", "LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so", "-f", "{staged_config}"]'
    ),
    "apache.test": '["/usr/sbin/apachectl", "-t"]',
    "apache.reload": '["/usr/sbin/apachectl", "graceful"]',
    "haproxy.validate": '["/usr/sbin/haproxy", "-c", "-f", "{staged_config}"]',
    "haproxy.test": '["/usr/sbin/haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg"]',
    "haproxy.reload": '["/usr/bin/systemctl", "reload", "haproxy.service"]',
    "postfix.test": '["/usr/sbin/postfix", "check"]',
    "postfix.reload": '["/usr/sbin/postfix", "reload"]',
    "dovecot.validate": '["/usr/bin/doveconf", "-n", "-c", "{staged_config}"]',
    "dovecot.test": '["/usr/bin/doveconf", "-n"]',
    "dovecot.reload": '["/usr/bin/doveadm", "reload"]',
    "caddy.validate": '["/usr/bin/caddy", "validate", "--config", "{staged_config}"]',
    "caddy.test": '["/usr/bin/caddy", "validate", "--config", "/etc/caddy/Caddyfile"]',
    # Without --force Caddy does nothing when its configuration is the same text as before.
    "caddy.reload": '["/usr/bin/caddy", "reload", "--force", "--config", "/etc/caddy/Caddyfile"]',
}


class _Path(Struct, forbid_unknown_fields=True):
    path: str


class _Action(Struct, forbid_unknown_fields=True):
    command: list[str]
    timeout: str | int | float = "30s"


class _Port(Struct, forbid_unknown_fields=True):
    number: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class _File(Struct, forbid_unknown_fields=True):
    webroot: list[_Path] = []
    port: list[_Port] = []
    folder: list[_Path] = []
    action: dict[str, _Action] = {}
    socket: list[_Path] = []


def load_allow_file(path: Path = DEFAULT_ALLOW_FILE, *, trusted_uids: Collection[int] | None = None) -> AllowFile:
    """Read the allow-file; its owner must be one of `trusted_uids` (default: root and this process's user).

    Raises Misconfigured, saying what to do, when it is missing, writable by others, or cannot be read.
    """
    trusted = frozenset(trusted_uids) if trusted_uids is not None else frozenset({0, os.geteuid()})
    _check_folders_above(path, trusted)
    text = _read_trusted(path, trusted)
    try:
        raw = msgspec.convert(tomllib.loads(text), _File)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise Misconfigured(f"the allow-file {path} cannot be read: {error}") from error
    try:
        folders = tuple(_path("folder", entry.path) for entry in raw.folder)
        actions = {name: _action(name, entry) for name, entry in raw.action.items()}
        sockets = tuple(_path("socket", entry.path) for entry in raw.socket)
        webroots = tuple(_path("webroot", entry.path) for entry in raw.webroot)
    except ValueError as error:
        raise Misconfigured(f"the allow-file {path}: {error}") from error
    return AllowFile(
        path=path,
        folders=folders,
        actions=actions,
        sockets=sockets,
        webroots=webroots,
        ports=tuple(entry.number for entry in raw.port),
    )


def check_absolute(text: str) -> Path:
    """`text` as an absolute path without `.`, `..`, doubled slashes or control characters. Raises Misconfigured."""
    path = Path(text)
    if (
        not text.startswith("/")
        or any(part in {"", ".", ".."} for part in text.split("/")[1:])
        or not text.isprintable()
    ):
        raise Misconfigured(
            f"{text!r} is no plain absolute path; write it from / without '.', '..' and doubled slashes"
        )
    return path


def _path(noun: str, text: str) -> Path:
    try:
        return check_absolute(text.rstrip("/"))
    except Misconfigured as error:
        raise ValueError(f"{noun}: {error.message}") from error


def _action(name: str, entry: _Action) -> AllowedAction:
    if not _ACTION_NAME.fullmatch(name):
        raise ValueError(f"action {name!r}: a name is 1 to 64 characters of a-z 0-9 . _ -")
    if not entry.command or not entry.command[0].startswith("/"):
        raise ValueError(f"action {name}: command must begin with the absolute path of a program")
    for argument in entry.command:
        if "\0" in argument:
            raise ValueError(f"action {name}: an argument holds a NUL")
        for found in _PLACEHOLDER.findall(argument):
            if found not in PLACEHOLDERS or argument != f"{{{found}}}":
                known = ", ".join(f"{{{word}}}" for word in sorted(PLACEHOLDERS))
                raise ValueError(f"action {name}: {argument!r} is no placeholder; a whole argument may be {known}")
    timeout = parse_duration(entry.timeout)
    if not timedelta(0) < timeout <= _LONGEST:
        raise ValueError(f"action {name}: timeout must be more than 0 and at most 10 minutes")
    return AllowedAction(name=name, command=tuple(entry.command), timeout=timeout)


def _read_trusted(path: Path, trusted: frozenset[int]) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Misconfigured(
            f"there is no allow-file {path}: this host allows certctl nothing. Make it as root, mode 0644, with a "
            "[[folder]] for each folder certctl may write and an [action] for each command it may run"
        ) from error
    except OSError as error:
        raise Misconfigured(
            f"the allow-file {path} cannot be opened (symbolic links are refused): {error.strerror}"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Misconfigured(f"the allow-file {path} is no regular file")
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if facts.st_uid not in trusted:
            raise Misconfigured(f"the allow-file {path} belongs to user {facts.st_uid}; run: chown root {path}")
        if facts.st_mode & 0o022:
            raise Misconfigured(f"the allow-file {path} can be written by group or others; run: chmod go-w {path}")
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise Misconfigured(f"the allow-file {path} is larger than {_MOST_BYTES // 1024} KiB")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Misconfigured(f"the allow-file {path} is not UTF-8") from error


def _check_folders_above(path: Path, trusted: frozenset[int]) -> None:
    """Whoever can rename a folder above the file can put another file in its place."""
    if not path.is_absolute():
        raise Misconfigured(f"the allow-file must be named by its absolute path, not {str(path)!r}")
    for folder in {*path.parents, *Path(os.path.realpath(path.parent)).parents, Path(os.path.realpath(path.parent))}:
        try:
            facts = folder.stat()
        except OSError:
            continue  # the file itself is then missing, and that is said with what to do
        if facts.st_mode & stat.S_IWOTH and not facts.st_mode & stat.S_ISVTX:
            raise Misconfigured(
                f"everybody can write the folder {folder} above the allow-file; run: chmod o-w {folder}"
            )
        if facts.st_uid not in trusted | {0}:
            raise Misconfigured(
                f"the folder {folder} above the allow-file belongs to user {facts.st_uid}; move the file"
            )
