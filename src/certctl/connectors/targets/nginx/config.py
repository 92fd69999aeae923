"""What an operator says of one NGINX server, in the reference product's field names.

Commands are not part of it: the host's allow-file holds them, the configuration names them. Paths are absolute and
plain, for they are also written into a configuration that NGINX reads.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from msgspec import Struct

from certctl.connectors.base.config import parse_duration, parse_mode
from certctl.connectors.host.allow import DEFAULT_ALLOW_FILE, check_absolute
from certctl.connectors.probe import split_endpoint
from certctl.core.errors import ConnectorError

# Each of these means something in an NGINX configuration, even in quotes; a `$` would make the name a variable.
_NOT_IN_PATHS = frozenset("\"'\\$;{}")


class NginxConfig(Struct, frozen=True, kw_only=True):
    """Configuration of an NGINX target.

    Without `chain_path` the whole chain goes into `cert_path`, as `ssl_certificate` wants it. `endpoint` (host:port) is
    looked at to see what is served, asking for `sni` (default: the certificate's first DNS name). Modes are octal text.
    """

    cert_path: str
    key_path: str
    chain_path: str = ""
    reload_action: str = "nginx.reload"
    validate_action: str = "nginx.validate"
    test_action: str = "nginx.test"
    cert_file_mode: str | int = "0644"
    cert_file_owner: str = ""
    cert_file_group: str = ""
    chain_file_mode: str | int = "0644"
    chain_file_owner: str = ""
    chain_file_group: str = ""
    key_file_mode: str | int = "0600"
    key_file_owner: str = ""
    key_file_group: str = ""
    endpoint: str = "127.0.0.1:443"
    sni: str = ""
    probe_timeout: str | int | float = "10s"
    reload_command: str = ""
    validate_command: str = ""
    test: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot work; a ValueError becomes the field's fault."""
        self._refuse_commands()
        paths = [self.cert_path, self.key_path, *([self.chain_path] if self.chain_path else [])]
        for path in paths:
            check_nginx_path(path)
        if len(set(paths)) != len(paths):
            raise ValueError("cert_path, key_path and chain_path must be three different files")
        for mode in (self.cert_file_mode, self.chain_file_mode, self.key_file_mode):
            parse_mode(mode)
        if parse_mode(self.key_file_mode) & 0o007:
            raise ValueError("key_file_mode lets everybody at the private key; use 0600 or 0640")
        if not timedelta(0) < self.probe_span <= timedelta(minutes=5):
            raise ValueError("probe_timeout must be more than 0 and at most 5m")
        try:
            split_endpoint(self.endpoint)
        except ConnectorError as error:
            raise ValueError(error.message) from error

    @property
    def probe_span(self) -> timedelta:
        """How long the new certificate may take to be seen."""
        return parse_duration(self.probe_timeout)

    def _refuse_commands(self) -> None:
        for field, action in (("reload_command", "reload"), ("validate_command", "validate"), ("test", "test")):
            if getattr(self, field):
                raise ValueError(
                    f"{field} is not accepted: a server may not bring commands to a host. Put the command into the "
                    f'host\'s allow-file ({DEFAULT_ALLOW_FILE}) under [action."nginx.{action}"] and take {field} out'
                    f" here (or name another action in {action}_action)"
                )


def check_nginx_path(text: str) -> Path:
    """`text` as an absolute path that can stand in an NGINX configuration. Raises ValueError."""
    try:
        path = check_absolute(text)
    except ConnectorError as error:
        raise ValueError(error.message) from error
    if not _NOT_IN_PATHS.isdisjoint(text):
        raise ValueError(f"{text!r} holds one of {' '.join(sorted(_NOT_IN_PATHS))}, which mean something to NGINX")
    return path
