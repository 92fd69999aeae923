"""Where the audit log goes besides the database."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from certctl.core.rules import AuditPush
from certctl.settings.variables import Variable, path, secret, text


def _syslog_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"tcp", "tls"} or not parts.hostname or parts.path or parts.query or parts.username:
        raise ValueError("is tcp://host:port or tls://host:port")
    _port(parts)
    return value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.username:
        raise ValueError("is https://host/path; a token goes into CERTCTL_AUDIT_HTTP_TOKEN")
    _port(parts)
    return value


def _port(parts: Any) -> None:
    try:
        parts.port  # noqa: B018 - reading it judges it
    except ValueError as error:
        raise ValueError("has no good port") from error


def _url(name: str, meaning: str, read: Any) -> Variable:
    return Variable(name=name, meaning=meaning, kind="URL", read=read, none="")


AUDIT: dict[str, dict[str, Variable]] = {
    "Audit push": {
        "audit_syslog_url": _url(
            "CERTCTL_AUDIT_SYSLOG_URL",
            "each audit event goes there as RFC 5424 syslog: `tls://host:6514` or `tcp://host:601`",
            _syslog_url,
        ),
        "audit_syslog_ca_path": path(
            "CERTCTL_AUDIT_SYSLOG_CA_PATH", "PEM of the roots that its TLS certificate is verified by", ""
        ),
        "audit_http_url": _url(
            "CERTCTL_AUDIT_HTTP_URL", "each audit event goes there as a line of NDJSON, posted in batches", _http_url
        ),
        "audit_http_token": secret("CERTCTL_AUDIT_HTTP_TOKEN", "sent there as `Authorization: Bearer`"),
        "audit_http_ca_path": path("CERTCTL_AUDIT_HTTP_CA_PATH", "PEM of the roots that it is verified by", ""),
        "audit_host_name": text(
            "CERTCTL_AUDIT_HOST_NAME", "what syslog names this installation by", shown="the host's own name"
        ),
    }
}


def audit_push(values: dict[str, Any]) -> AuditPush:
    """Where it goes, out of the variables above; they are taken out of `values`."""
    took = {field: values.pop(field) for section in AUDIT.values() for field in section}
    return AuditPush(**{field.removeprefix("audit_"): value for field, value in took.items()})
