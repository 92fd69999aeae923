"""Receivers of the audit log: syslog and HTTP, as the settings name them."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from certctl.connectors.base.receiver import Receiver
from certctl.connectors.http import tls_context
from certctl.connectors.receivers.http import Http
from certctl.connectors.receivers.syslog import Syslog
from certctl.core.rules import AuditPush

_SYSLOG_PORTS = {"tls": 6514, "tcp": 601}


def receivers_of(push: AuditPush) -> tuple[Receiver, ...]:
    """The receivers that are configured. Raises Misconfigured when a file of roots cannot be read."""
    found: list[Receiver] = []
    if push.syslog_url:
        parts = urlsplit(push.syslog_url)
        context = tls_context(push.syslog_ca_path) if parts.scheme == "tls" else None
        port = parts.port or _SYSLOG_PORTS[parts.scheme]
        found.append(Syslog(parts.hostname or "", port, push.host_name or socket.gethostname(), context))
    if push.http_url:
        found.append(Http(push.http_url, push.http_token, tls_context(push.http_ca_path)))
    return tuple(found)
