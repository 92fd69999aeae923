"""One frozen, typed object read once from `CERTCTL_*`: names and defaults of the reference product where it has them.

A malformed value refuses to start and names the variable; nobody else reads the environment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from msgspec import Struct

from certctl.connectors.base.config import parse_duration
from certctl.core.errors import Misconfigured
from certctl.core.secret import Secret

_SHORTEST_SECRET = 32
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Settings(Struct, frozen=True, kw_only=True):
    """Everything a control plane needs to know before it starts."""

    data_dir: Path
    database_url: str
    database_max_connections: int
    database_wait: timedelta
    migrations_via_hook: bool
    host: str
    port: int
    public_names: tuple[str, ...]
    tls_cert_path: Path | None
    tls_key_path: Path | None
    tls_reload_interval: timedelta
    pki_http_host: str
    pki_http_port: int
    pki_base_url: str
    processes: int
    runtime_metrics_host: str
    runtime_metrics_port: int
    max_body_bytes: int
    encryption_key: Secret
    bootstrap_token: Secret
    agent_bootstrap_token: Secret
    ca_common_name: str
    log_level: str
    log_format: str
    lease: timedelta
    renewal_check_interval: timedelta
    agent_health_check_interval: timedelta
    agent_silence: timedelta
    crl_generation_interval: timedelta
    ocsp_responder_validity: timedelta
    ocsp_responder_grace: timedelta

    @property
    def embedded(self) -> bool:
        """Whether this is the one-command start: SQLite, one process, everything in the data directory."""
        return self.database_url.startswith("sqlite:")


def load(environ: Mapping[str, str]) -> Settings:
    """Read the environment; raises Misconfigured naming the variable at fault."""
    read = _Reader(environ)
    data_dir = Path(read.text("CERTCTL_DATA_DIR", "/var/lib/certctl"))
    port = read.number("CERTCTL_SERVER_PORT", 8443, low=0, high=65535)
    pki_port = read.number("CERTCTL_PKI_HTTP_PORT", 8080, low=0, high=65535)
    host = read.text("CERTCTL_SERVER_HOST", "127.0.0.1")
    pki_host = read.text("CERTCTL_PKI_HTTP_HOST", host)
    names = tuple(
        part.strip() for part in read.text("CERTCTL_SERVER_NAMES", "localhost,127.0.0.1").split(",") if part.strip()
    )
    shown = f"[{pki_host}]" if ":" in pki_host else pki_host
    return Settings(
        data_dir=data_dir,
        database_url=_database_url(read, data_dir),
        database_max_connections=read.number("CERTCTL_DATABASE_MAX_CONNS", 20, low=2, high=1000),
        database_wait=read.duration("CERTCTL_DATABASE_WAIT", "0s", shortest=0),
        migrations_via_hook=read.flag("CERTCTL_MIGRATIONS_VIA_HOOK"),
        host=host,
        port=port,
        public_names=names,
        tls_cert_path=read.path("CERTCTL_SERVER_TLS_CERT_PATH"),
        tls_key_path=read.path("CERTCTL_SERVER_TLS_KEY_PATH"),
        tls_reload_interval=read.duration("CERTCTL_SERVER_TLS_RELOAD_INTERVAL", "30s", shortest=0.1),
        pki_http_host=pki_host,
        pki_http_port=pki_port,
        pki_base_url=read.text("CERTCTL_PKI_BASE_URL", f"http://{shown}:{pki_port}").rstrip("/"),
        processes=read.number("CERTCTL_SERVER_PROCESSES", 1, low=1, high=64),
        runtime_metrics_host=read.text("CERTCTL_RUNTIME_METRICS_HOST", "127.0.0.1"),
        runtime_metrics_port=read.number("CERTCTL_RUNTIME_METRICS_PORT", 0, low=0, high=65535),
        max_body_bytes=read.number("CERTCTL_MAX_BODY_SIZE", 1 << 20, low=1024, high=1 << 28),
        encryption_key=_long_secret(read, "CERTCTL_CONFIG_ENCRYPTION_KEY"),
        bootstrap_token=Secret(read.text("CERTCTL_BOOTSTRAP_TOKEN", "")),
        agent_bootstrap_token=_long_secret(read, "CERTCTL_AGENT_BOOTSTRAP_TOKEN"),
        ca_common_name=read.text("CERTCTL_CA_COMMON_NAME", "certctl"),
        log_level=read.one_of("CERTCTL_LOG_LEVEL", "info", ("debug", "info", "warn", "error")),
        log_format=read.one_of("CERTCTL_LOG_FORMAT", "json", ("json", "text")),
        lease=read.duration("CERTCTL_STEP_LEASE", "30s", shortest=0.5),
        renewal_check_interval=read.duration("CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL", "10s", shortest=0.1),
        agent_health_check_interval=read.duration("CERTCTL_SCHEDULER_AGENT_HEALTH_CHECK_INTERVAL", "30s", shortest=1),
        agent_silence=read.duration("CERTCTL_AGENT_SILENCE", "5m", shortest=1),
        crl_generation_interval=read.duration("CERTCTL_CRL_GENERATION_INTERVAL", "1h", shortest=1),
        ocsp_responder_validity=read.duration("CERTCTL_OCSP_RESPONDER_VALIDITY", "720h", shortest=3600),
        ocsp_responder_grace=read.duration("CERTCTL_OCSP_RESPONDER_ROTATION_GRACE", "168h", shortest=60),
    )


def _database_url(read: _Reader, data_dir: Path) -> str:
    url = read.text("CERTCTL_DATABASE_URL", f"sqlite:///{data_dir}/certctl.db")
    if not url.startswith(("postgres://", "postgresql://", "sqlite:///")):
        raise Misconfigured("CERTCTL_DATABASE_URL must begin with postgres:// or sqlite:///")
    return url


def _long_secret(read: _Reader, name: str) -> Secret:
    value = read.text(name, "")
    if value and len(value) < _SHORTEST_SECRET:
        raise Misconfigured(
            f"{name} has fewer than {_SHORTEST_SECRET} characters; make one with: openssl rand -base64 32"
        )
    return Secret(value)


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str, default: str) -> str:
        return self._environ.get(name, "") or default

    def path(self, name: str) -> Path | None:
        value = self.text(name, "")
        return Path(value) if value else None

    def flag(self, name: str) -> bool:
        value = self.text(name, "false").lower()
        if value not in _FLAGS:
            raise Misconfigured(f"{name} must be true or false, not {value!r}")
        return _FLAGS[value]

    def number(self, name: str, default: int, *, low: int, high: int) -> int:
        value = self._convert(name, str(default), int)
        if not low <= value <= high:
            raise Misconfigured(f"{name} must be between {low} and {high}, not {value}")
        return int(value)

    def duration(self, name: str, default: str, *, shortest: float) -> timedelta:
        value: timedelta = self._convert(name, default, parse_duration)
        if value < timedelta(seconds=shortest):
            raise Misconfigured(f"{name} must be at least {shortest} s")
        return value

    def one_of(self, name: str, default: str, words: tuple[str, ...]) -> str:
        value = self.text(name, default).lower()
        if value not in words:
            raise Misconfigured(f"{name} must be one of {', '.join(words)}, not {value!r}")
        return value

    def _convert(self, name: str, default: str, convert: Callable[[str], Any]) -> Any:
        value = self.text(name, default)
        try:
            return convert(value)
        except ValueError as error:
            raise Misconfigured(f"{name}: {error}") from error
