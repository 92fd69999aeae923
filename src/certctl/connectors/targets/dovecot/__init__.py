"""Dovecot: key and certificate files, `doveconf` before and after, `doveadm reload`.

`doveconf` reads a configuration but compares no key with its certificate: that is done by our own check of the staged
files. Seen by IMAP or POP3 with STARTTLS (RFC 9051 6.2.1, RFC 2595), or at a TLS port with `starttls` empty. Must never
log in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from certctl.connectors.host.fileconfig import PairOrPemConfig
from certctl.connectors.host.fileserver import FileServer
from certctl.connectors.host.filetarget import FileTarget
from certctl.connectors.probe import Starttls

__all__ = ["DovecotConfig", "DovecotTarget"]

_TRIAL_CONFIG = """\
base_dir = {folder}/run
ssl = required
ssl_cert = <{leaf}
ssl_key = <{key}
"""


class DovecotConfig(PairOrPemConfig, frozen=True, kw_only=True):
    """Configuration of a Dovecot target: a pair, or `pem_path` alone. For port 993 set `starttls` to ""."""

    server_name: ClassVar[str] = "Dovecot"
    action_prefix: ClassVar[str] = "dovecot"

    mode: Literal["dovecot"] = "dovecot"
    reload_action: str = "dovecot.reload"
    validate_action: str = "dovecot.validate"
    test_action: str = "dovecot.test"
    endpoint: str = "127.0.0.1:143"
    starttls: Starttls = "imap"


class DovecotServer(FileServer[DovecotConfig]):
    """On a reload old login processes are told to end and new ones ask the new config process.

    One already waiting for a connection serves it with the old pair: unbroken sights for 0.3 s outlast it.
    """

    unbroken_seconds: ClassVar[float] = 0.3

    def trial(self, folder: Path, staged: Mapping[str, str]) -> str:
        """The TLS settings alone."""
        return _TRIAL_CONFIG.format(folder=folder, leaf=staged["leaf"], key=staged["key"])


class DovecotTarget(FileTarget[DovecotConfig]):
    """One Dovecot on this host: Target, Recovers and Probes."""

    server_type = DovecotServer
