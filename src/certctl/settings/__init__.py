"""One frozen, typed object read once from `CERTCTL_*`: names and defaults of the reference product where it has them.

Every variable is declared once, below: what reads it, checks it, and tells it to people comes from there. Everything
that is wrong is told at once and refuses to start; so does a name that nobody knows. Nobody else reads the environment.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from msgspec import Struct

from certctl.core.acme import AcmeRules
from certctl.core.errors import Misconfigured
from certctl.core.rules import AuditPush, DoorRules
from certctl.core.secret import Secret
from certctl.settings.acme import ACME, acme_rules
from certctl.settings.alerts import ALERTS, AlertRules, alert_rules
from certctl.settings.audit import AUDIT, audit_push
from certctl.settings.doors import DOORS, door_rules
from certctl.settings.elsewhere import OTHER_PROGRAMS, REFERENCE, REFERENCE_PREFIXES
from certctl.settings.variables import Variable, duration, flag, listed, number, path, secret, text, word
from certctl.settings.watching import WATCHING, HealthRules, health_rules

PREFIX = "CERTCTL_"
FEWEST_KEY_CHARACTERS = 32
HOW_TO_MAKE_A_KEY = "make one with: openssl rand -base64 32"
_FEWEST_KEPT = timedelta(hours=24)
_PLACEHOLDERS = ("change-me", "changeme", "replace-me", "placeholder", "example-key")


class Settings(Struct, frozen=True, kw_only=True):
    """Everything a control plane needs to know before it starts."""

    data_dir: Path
    database_url: str
    database_max_connections: int
    database_wait: timedelta
    database_read_url: str
    database_read_lag: timedelta
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
    otel_enabled: bool
    lease: timedelta
    renewal_check_interval: timedelta
    agent_health_check_interval: timedelta
    agent_silence: timedelta
    awaiting_approval_timeout: timedelta
    awaiting_csr_timeout: timedelta
    job_timeout_interval: timedelta
    crl_generation_interval: timedelta
    crl_longest_pause: timedelta
    ocsp_responder_validity: timedelta
    ocsp_responder_grace: timedelta
    audit_verify_interval: timedelta
    audit_retention: timedelta
    session_gc_interval: timedelta
    issuers_allowed_networks: tuple[str, ...]
    issuers_scripts_folder: Path | None
    batch_retention: timedelta
    job_retention: timedelta
    doors: DoorRules
    acme: AcmeRules
    alerts: AlertRules
    audit: AuditPush
    health: HealthRules

    @property
    def embedded(self) -> bool:
        """Whether this is the one-command start: SQLite, one process, everything in the data directory."""
        return self.database_url.startswith("sqlite:")


def _database_url(value: str) -> str:
    if not value.startswith(("postgres://", "postgresql://", "sqlite:///")):
        raise ValueError("must begin with postgres:// or sqlite:///")
    return value


def _read_url(value: str) -> str:
    if not value.startswith(("postgres://", "postgresql://")):
        raise ValueError("must begin with postgres://")
    return value


# section -> setting -> its variable; the order is that of the documentation
SECTIONS: dict[str, dict[str, Variable]] = {
    "Storage": {
        "data_dir": path("CERTCTL_DATA_DIR", "where this host keeps its own files", "/var/lib/certctl"),
        "database_url": Variable(
            name="CERTCTL_DATABASE_URL",
            meaning="`postgres://user:password@host1,host2/name?sslmode=verify-full`, or `sqlite:///path`",
            kind="URL",
            read=_database_url,
            none="",
            shown="`sqlite:///` and certctl.db in the data directory",
            secret=True,
        ),
        "database_max_connections": number(
            "CERTCTL_DATABASE_MAX_CONNS", "connections a server process may open to the database", 20, low=2, high=1000
        ),
        "database_wait": duration(
            "CERTCTL_DATABASE_WAIT", "how long a start waits for a database that cannot be reached", "0s", shortest="0s"
        ),
        "database_read_url": Variable(
            name="CERTCTL_DATABASE_READ_URL",
            meaning="a streaming standby of the same database, for lists, searches and statistics",
            kind="URL",
            read=_read_url,
            none="",
            shown="none: all is read from `CERTCTL_DATABASE_URL`",
            secret=True,
        ),
        "database_read_lag": duration(
            "CERTCTL_DATABASE_READ_LAG", "how far the standby may be behind and still be read", "5s", shortest="2s"
        ),
        "migrations_via_hook": flag(
            "CERTCTL_MIGRATIONS_VIA_HOOK", "the schema is brought up to date by `--migrate-only`, not at the start"
        ),
        "encryption_key": secret(
            "CERTCTL_CONFIG_ENCRYPTION_KEY",
            "seals CA keys and secrets in the database; SQLite starts make one in the data directory",
            fewest=FEWEST_KEY_CHARACTERS,
            how=HOW_TO_MAKE_A_KEY,
        ),
    },
    "Listening": {
        "host": text("CERTCTL_SERVER_HOST", "address of the HTTPS listener", "127.0.0.1"),
        "port": number("CERTCTL_SERVER_PORT", "port of the HTTPS listener", 8443, low=0, high=65535),
        "public_names": listed(
            "CERTCTL_SERVER_NAMES", "names and addresses in the server's own TLS certificate", "localhost,127.0.0.1"
        ),
        "tls_cert_path": path("CERTCTL_SERVER_TLS_CERT_PATH", "PEM chain of the HTTPS listener; empty: one of our own"),
        "tls_key_path": path("CERTCTL_SERVER_TLS_KEY_PATH", "its private key, PEM"),
        "tls_reload_interval": duration(
            "CERTCTL_SERVER_TLS_RELOAD_INTERVAL", "how often a changed TLS pair is looked for", "30s", shortest="100ms"
        ),
        "pki_http_host": text(
            "CERTCTL_PKI_HTTP_HOST", "address of the plain-HTTP listener for CRL and OCSP", shown="CERTCTL_SERVER_HOST"
        ),
        "pki_http_port": number("CERTCTL_PKI_HTTP_PORT", "its port", 8080, low=0, high=65535),
        "pki_base_url": text(
            "CERTCTL_PKI_BASE_URL",
            "the http:// address under which certificates name CRL, OCSP and CA certificate",
            shown="that listener's own address",
        ),
        "processes": number("CERTCTL_SERVER_PROCESSES", "server processes (PostgreSQL only)", 1, low=1, high=64),
        "max_body_bytes": number(
            "CERTCTL_MAX_BODY_SIZE", "the largest request body, in bytes", 1 << 20, low=1024, high=1 << 28
        ),
    },
    "First start": {
        "bootstrap_token": secret(
            "CERTCTL_BOOTSTRAP_TOKEN", "makes the first administrator's key, once; SQLite starts make one in a file"
        ),
        "agent_bootstrap_token": secret(
            "CERTCTL_AGENT_BOOTSTRAP_TOKEN",
            "lets agents enrol themselves; empty: one-time tokens only",
            fewest=32,
            how=HOW_TO_MAKE_A_KEY,
        ),
        "ca_common_name": text("CERTCTL_CA_COMMON_NAME", "name of the built-in CA when it is made", "certctl"),
    },
    "Work": {
        "lease": duration("CERTCTL_STEP_LEASE", "how long a silent worker keeps its steps", "30s", shortest="500ms"),
        "renewal_check_interval": duration(
            "CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL", "how often due renewals are looked for", "10s", shortest="100ms"
        ),
        "audit_verify_interval": duration(
            "CERTCTL_AUDIT_CHAIN_VERIFY_INTERVAL",
            "how often the whole audit log is held against its seal; what is new is, every five minutes",
            "6h",
            shortest="1s",
        ),
        "audit_retention": duration(
            "CERTCTL_AUDIT_RETENTION",
            "how long audit events are kept; older ones are dropped once sealed, verified and pushed; 0s: for ever",
            "0s",
            shortest="0s",
        ),
        "agent_health_check_interval": duration(
            "CERTCTL_SCHEDULER_AGENT_HEALTH_CHECK_INTERVAL",
            "how often silent agents are looked for",
            "30s",
            shortest="1s",
        ),
        "agent_silence": duration(
            "CERTCTL_AGENT_SILENCE", "after which silence an agent reads Offline", "5m", shortest="1s"
        ),
        "awaiting_approval_timeout": duration(
            "CERTCTL_JOB_AWAITING_APPROVAL_TIMEOUT",
            "how long a job waits for people; then it has failed and what was to be decided has expired",
            "168h",
            shortest="1s",
        ),
        "awaiting_csr_timeout": duration(
            "CERTCTL_JOB_AWAITING_CSR_TIMEOUT",
            "how long a job waits for the agent that makes its key; then it has failed, and is asked anew in time",
            "24h",
            shortest="1s",
        ),
        "job_timeout_interval": duration(
            "CERTCTL_JOB_TIMEOUT_INTERVAL", "how often jobs that wait too long are looked for", "1m", shortest="1s"
        ),
        "crl_generation_interval": duration(
            "CERTCTL_CRL_GENERATION_INTERVAL", "how often a CRL is made although nothing changed", "1h", shortest="1s"
        ),
        "crl_longest_pause": duration(
            "CERTCTL_CRL_LONGEST_PAUSE",
            "how long at most a long CRL stands before the next one tells what was revoked since; short ones tell it at"
            " once",
            "1m",
            shortest="1s",
        ),
        "ocsp_responder_validity": duration(
            "CERTCTL_OCSP_RESPONDER_VALIDITY", "life of an OCSP responder certificate", "720h", shortest="1h"
        ),
        "ocsp_responder_grace": duration(
            "CERTCTL_OCSP_RESPONDER_ROTATION_GRACE", "how long before its end it is replaced", "168h", shortest="1m"
        ),
        "issuers_allowed_networks": listed(
            "CERTCTL_ISSUERS_ALLOWED_NETWORKS",
            "networks and hosts that are not public, where CAs (and their DNS) may be asked, such as 10.0.0.0/8",
        ),
        "issuers_scripts_folder": path(
            "CERTCTL_ISSUERS_SCRIPTS_FOLDER",
            "the one folder whose programs issuers may name as hooks (dns-01); they and it belong to root or this user",
        ),
        "job_retention": duration(
            "CERTCTL_JOB_RETENTION",
            "how long a job that has ended is kept, with its steps (24h at least); what is needed stays; 0s: for ever",
            "0s",
            shortest="0s",
        ),
        "batch_retention": duration(
            "CERTCTL_BATCH_RETENTION", "how long a batch that has ended is kept, with its items", "2160h", shortest="1h"
        ),
    },
    **DOORS,
    **ACME,
    **ALERTS,
    **AUDIT,
    **WATCHING,
    "Watching": {
        "log_level": word("CERTCTL_LOG_LEVEL", "the least that is logged", ("info", "debug", "warn", "error")),
        "log_format": word("CERTCTL_LOG_FORMAT", "log lines as", ("json", "text")),
        "otel_enabled": flag(
            "CERTCTL_OTEL_ENABLED", "send traces (OTLP over HTTP, as `OTEL_*` says); needs the extra `certctl[otel]`"
        ),
        "runtime_metrics_host": text(
            "CERTCTL_RUNTIME_METRICS_HOST", "address of each process's own metrics page (plain HTTP)", "127.0.0.1"
        ),
        "runtime_metrics_port": number(
            "CERTCTL_RUNTIME_METRICS_PORT",
            "its port, of several processes each the next; 0 for none",
            0,
            low=0,
            high=65535,
        ),
    },
}
VARIABLES: dict[str, Variable] = {field: each for section in SECTIONS.values() for field, each in section.items()}


class Reading(Struct, frozen=True):
    """What an environment says. `faults` refuse a start; `idle` are names of the reference product that do nothing."""

    values: dict[str, Any]
    faults: tuple[str, ...]
    idle: tuple[str, ...]


def read(environ: Mapping[str, str]) -> Reading:
    """Read every variable and judge every name; raises nothing. Values of secrets are in no fault."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for field, variable in VARIABLES.items():
        try:
            values[field] = variable.of(environ.get(variable.name, ""))
        except ValueError as error:
            faults.append(f"{variable.name} {error}")
    names = {variable.name for variable in VARIABLES.values()}
    given = {name for name, value in environ.items() if name.startswith(PREFIX) and value} - names - OTHER_PROGRAMS
    idle = {name for name in given if name in REFERENCE or name.startswith(REFERENCE_PREFIXES)}
    faults += [_unknown(name, names) for name in sorted(given - idle)]
    faults += [
        f"{variable.name} still holds a placeholder; put a value of your own there"
        for variable in VARIABLES.values()
        if variable.secret and any(word in environ.get(variable.name, "").lower() for word in _PLACEHOLDERS)
    ]
    return Reading(values, tuple(faults), tuple(sorted(idle)))


def _unknown(name: str, names: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.75)
    return f"{name} is no setting" + (f"; did you mean {close[0]}?" if close else "")


def load(environ: Mapping[str, str]) -> Settings:
    """The settings of this environment. Raises Misconfigured, which names everything that is wrong."""
    found = read(environ)
    if found.faults:
        raise Misconfigured("; ".join(found.faults))
    try:
        return Settings(**_derived(found.values))
    except ValueError as error:
        raise Misconfigured(str(error)) from error


def _derived(values: dict[str, Any]) -> dict[str, Any]:
    """Defaults that are made of other settings."""
    filled = dict(values)
    filled["database_url"] = filled["database_url"] or f"sqlite:///{filled['data_dir']}/certctl.db"
    if filled["database_read_url"] and filled["database_url"].startswith("sqlite:"):
        raise ValueError("CERTCTL_DATABASE_READ_URL needs PostgreSQL in CERTCTL_DATABASE_URL")
    if timedelta(0) < filled["job_retention"] < _FEWEST_KEPT:
        raise ValueError("CERTCTL_JOB_RETENTION is 0s (for ever) or at least 24h")
    filled["pki_http_host"] = host = filled["pki_http_host"] or filled["host"]
    shown = f"[{host}]" if ":" in host else host
    base_url = filled["pki_base_url"] or f"http://{shown}:{filled['pki_http_port']}"
    filled["pki_base_url"] = base_url.rstrip("/")
    filled["doors"] = door_rules(filled, embedded=filled["database_url"].startswith("sqlite:"))
    filled["acme"] = acme_rules(filled)
    filled["alerts"] = alert_rules(filled)
    filled["audit"] = audit_push(filled)
    filled["health"] = health_rules(filled)
    return filled
