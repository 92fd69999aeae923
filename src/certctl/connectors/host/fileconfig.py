"""What an operator says of a server that reads its pair from files, in the reference product's field names.

One base for every such target: which files hold what, which of the host's actions are run, and where the result is
looked at. Commands are never part of it: the host's allow-file holds them, the configuration names them. Paths are
absolute and plain, for they are also written into configurations that the servers read.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import ClassVar, TypeAlias

from msgspec import Struct

from certctl.connectors.base.config import parse_duration, parse_mode
from certctl.connectors.host.allow import DEFAULT_ALLOW_FILE, AllowFile, check_absolute
from certctl.connectors.probe import Starttls, split_endpoint
from certctl.core.errors import ConnectorError

LEAF, CHAIN, KEY = "leaf", "chain", "key"
Mode: TypeAlias = str | int

# Each of these means something in a configuration of one of the servers, even in quotes: `$` would make a variable.
_NOT_IN_PATHS = frozenset("\"'\\$;{}#<>")


class FileSpec(Struct, frozen=True):
    """One file of a target: its role (the prefix of its mode and owner fields), path, and what lies in it, in order."""

    role: str
    path: str
    parts: tuple[str, ...]


class ServerConfig(Struct, frozen=True, kw_only=True):
    """What all such targets have. An action is a name in the host's allow-file; an empty one is not run.

    `endpoint` (host:port) is looked at to see what is served, asking for `sni` (default: the certificate's first DNS
    name), after STARTTLS where `starttls` names the protocol to speak. Modes are octal text, durations as "30s".
    """

    server_name: ClassVar[str] = "the server"
    action_prefix: ClassVar[str] = "server"
    needs_endpoint: ClassVar[bool] = True

    reload_action: str = ""
    validate_action: str = ""
    test_action: str = ""
    endpoint: str = "127.0.0.1:443"
    sni: str = ""
    starttls: Starttls = ""
    probe_timeout: str | int | float = "10s"
    reload_command: str = ""
    validate_command: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot work; a ValueError becomes the field's fault."""
        self.refuse_commands()
        layout = self.layout
        for file in layout:
            check_plain_path(file.path, self.server_name)
            mode = parse_mode(getattr(self, f"{file.role}_file_mode"))
            if KEY in file.parts and mode & 0o007:
                raise ValueError(f"{file.role}_file_mode lets everybody at the private key; use 0600 or 0640")
        if len({file.path for file in layout}) != len(layout):
            raise ValueError("cert_path, key_path and chain_path must be three different files")
        if not timedelta(0) < self.probe_span <= timedelta(minutes=5):
            raise ValueError("probe_timeout must be more than 0 and at most 5m")
        if self.endpoint or self.needs_endpoint:
            try:
                split_endpoint(self.endpoint)
            except ConnectorError as error:
                raise ValueError(error.message) from error

    @property
    def layout(self) -> tuple[FileSpec, ...]:
        """The files, the key first."""
        raise ValueError(f"{self.server_name} has no files")

    @property
    def probe_span(self) -> timedelta:
        """How long the new certificate may take to be seen."""
        return parse_duration(self.probe_timeout)

    def path_of(self, part: str) -> str:
        """The file that `part` begins in or lies in."""
        return next(file.path for file in self.layout if part in file.parts)

    def actions(self, allow: AllowFile) -> tuple[str, ...]:
        """The actions in their order; raises Misconfigured for one not allowed, but for the test, which is optional."""
        tests = bool(self.test_action) and allow.allows_action(self.test_action)
        named = (self.validate_action, self.test_action if tests else "", self.reload_action)
        return tuple(allow.action(action).name for action in named if action)

    def refuse_commands(self, *more: tuple[str, str]) -> None:
        """Refuse the reference product's command fields (field, action), saying where the command belongs."""
        for field, action in (("reload_command", "reload"), ("validate_command", "validate"), *more):
            if getattr(self, field):
                raise ValueError(
                    f"{field} is not accepted: a server may not bring commands to a host. Put the command into the "
                    f'host\'s allow-file ({DEFAULT_ALLOW_FILE}) under [action."{self.action_prefix}.{action}"] and '
                    f"take {field} out here (or name another action in {action}_action)"
                )


class PairConfig(ServerConfig, frozen=True, kw_only=True):
    """Key and certificate in files of their own. Without `chain_path` the whole chain goes into `cert_path`."""

    cert_path: str
    key_path: str
    chain_path: str = ""
    cert_file_mode: Mode = "0644"
    cert_file_owner: str = ""
    cert_file_group: str = ""
    chain_file_mode: Mode = "0644"
    chain_file_owner: str = ""
    chain_file_group: str = ""
    key_file_mode: Mode = "0600"
    key_file_owner: str = ""
    key_file_group: str = ""

    @property
    def layout(self) -> tuple[FileSpec, ...]:
        """Key, certificate, and the chain if it has a file of its own."""
        key = FileSpec("key", self.key_path, (KEY,))
        if not self.chain_path:
            return (key, FileSpec("cert", self.cert_path, (LEAF, CHAIN)))
        return (key, FileSpec("cert", self.cert_path, (LEAF,)), FileSpec("chain", self.chain_path, (CHAIN,)))


class PairOrPemConfig(PairConfig, frozen=True, kw_only=True):
    """As PairConfig, or one file (`pem_path`: key, certificate, chain), which no reader can ever see half replaced."""

    cert_path: str = ""
    key_path: str = ""
    pem_path: str = ""
    pem_file_mode: Mode = "0600"
    pem_file_owner: str = ""
    pem_file_group: str = ""

    def __post_init__(self) -> None:
        """One form or the other."""
        if self.pem_path and (self.cert_path or self.key_path or self.chain_path):
            raise ValueError("pem_path stands for key, certificate and chain in one file; leave the other paths out")
        if not self.pem_path and not (self.cert_path and self.key_path):
            raise ValueError("give cert_path and key_path, or pem_path for all in one file")
        super().__post_init__()

    @property
    def layout(self) -> tuple[FileSpec, ...]:
        """The one file, or those of a pair."""
        if self.pem_path:
            return (FileSpec("pem", self.pem_path, (KEY, LEAF, CHAIN)),)
        return super().layout


def check_plain_path(text: str, server_name: str) -> Path:
    """`text` as an absolute path that can stand in a server's configuration. Raises ValueError."""
    try:
        path = check_absolute(text)
    except ConnectorError as error:
        raise ValueError(error.message) from error
    if not _NOT_IN_PATHS.isdisjoint(text):
        raise ValueError(
            f"{text!r} holds one of {' '.join(sorted(_NOT_IN_PATHS))}, which mean something to {server_name}"
        )
    return path
