"""Postfix: a key and certificate pair, or one file for `smtpd_tls_chain_files`, and `postfix reload`.

Postfix has no checker that reads certificates: the staged files are judged by our own pair check, and the live set-up
by `postfix check` where the host allows it. An smtpd process that starts between the renames of a pair would have no
TLS until it ends; one file (`pem_path`) has no such moment. Seen by SMTP with STARTTLS (RFC 3207). Must never speak
more SMTP than that.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from certctl.connectors.host.fileconfig import PairOrPemConfig
from certctl.connectors.host.fileserver import FileServer
from certctl.connectors.host.filetarget import FileTarget
from certctl.connectors.probe import Starttls

__all__ = ["PostfixConfig", "PostfixTarget"]


class PostfixConfig(PairOrPemConfig, frozen=True, kw_only=True):
    """Configuration of a Postfix target: a pair, or `pem_path` alone. For port 465 set `starttls` to ""."""

    server_name: ClassVar[str] = "Postfix"
    action_prefix: ClassVar[str] = "postfix"

    mode: Literal["postfix"] = "postfix"
    reload_action: str = "postfix.reload"
    validate_action: Literal[""] = ""
    test_action: str = "postfix.test"
    endpoint: str = "127.0.0.1:25"
    starttls: Starttls = "smtp"


class PostfixServer(FileServer[PostfixConfig]):
    """On a reload master closes the pipe to its smtpd processes; each idle one ends when it sees that.

    One that was just accepting still serves its connection: unbroken sights for 0.3 s outlast it.
    """

    unbroken_seconds: ClassVar[float] = 0.3


class PostfixTarget(FileTarget[PostfixConfig]):
    """One Postfix on this host: Target, Recovers and Probes."""

    server_type = PostfixServer
