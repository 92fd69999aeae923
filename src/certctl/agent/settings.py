"""The agent's settings, read once from the environment and the command line (which wins), frozen after that.

Names are the reference product's; what only this agent has is CERTCTL_AGENT_*. Must never import the server's settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

from msgspec import Struct

from certctl.core.errors import Misconfigured
from certctl.core.secret import Secret

DEFAULT_STATE_DIR = "/var/lib/certctl/agent"
DEFAULT_KEY_DIR = "/var/lib/certctl/keys"
DEFAULT_ALLOW_FILE = "/etc/certctl/allow.toml"
DEFAULT_NAME = "certctl-agent"

_NOT_SUPPORTED = {
    "CERTCTL_DISCOVERY_DIRS": "this agent does not scan folders for certificates yet",
    "CERTCTL_KEYGEN_MODE": "keys are always made on this host",
}
_TRUE = {"1", "true", "yes", "on"}


class AgentSettings(Struct, frozen=True, kw_only=True):
    """Everything the agent is told from outside. An empty text means: not given."""

    server_url: str = ""
    agent_id: str = ""
    name: str = DEFAULT_NAME
    api_key: Secret = Secret("")
    enrolment_token: Secret = Secret("")
    key_dir: Path = Path(DEFAULT_KEY_DIR)
    state_dir: Path = Path(DEFAULT_STATE_DIR)
    allow_file: Path = Path(DEFAULT_ALLOW_FILE)
    ca_bundle_path: str = ""
    log_level: str = "info"
    log_format: Literal["json", "text"] = "json"
    otel_enabled: bool = False
    ignored: tuple[str, ...] = ()


def load_settings(environ: Mapping[str, str], flags: Mapping[str, str | None] | None = None) -> AgentSettings:
    """Read `environ` (CERTCTL_*), then `flags` (field name -> text, None when absent). Raises Misconfigured."""
    given = {field: value for field, value in (flags or {}).items() if value is not None}

    def read(field: str, variable: str, default: str = "") -> str:
        return (given.get(field) or environ.get(variable, "") or default).strip()

    if environ.get("CERTCTL_SERVER_TLS_INSECURE_SKIP_VERIFY", "").strip().lower() in _TRUE:
        raise Misconfigured(
            "CERTCTL_SERVER_TLS_INSECURE_SKIP_VERIFY is set, but this agent always verifies its server; "
            "unset it and name the server's CA in CERTCTL_SERVER_CA_BUNDLE_PATH"
        )
    log_format = read("log_format", "CERTCTL_LOG_FORMAT", "json").lower()
    if log_format not in {"json", "text"}:
        raise Misconfigured(f"CERTCTL_LOG_FORMAT is {log_format!r}; write json or text")
    server_url = read("server_url", "CERTCTL_SERVER_URL")
    return AgentSettings(
        server_url=check_server_url(server_url) if server_url else "",
        agent_id=read("agent_id", "CERTCTL_AGENT_ID"),
        name=read("name", "CERTCTL_AGENT_NAME", DEFAULT_NAME),
        api_key=Secret(read("api_key", "CERTCTL_API_KEY")),
        enrolment_token=Secret(read("enrolment_token", "CERTCTL_AGENT_ENROLMENT_TOKEN")),
        key_dir=_absolute("CERTCTL_KEY_DIR", read("key_dir", "CERTCTL_KEY_DIR", DEFAULT_KEY_DIR)),
        state_dir=_absolute("CERTCTL_AGENT_STATE_DIR", read("state_dir", "CERTCTL_AGENT_STATE_DIR", DEFAULT_STATE_DIR)),
        allow_file=_absolute(
            "CERTCTL_AGENT_ALLOW_FILE", read("allow_file", "CERTCTL_AGENT_ALLOW_FILE", DEFAULT_ALLOW_FILE)
        ),
        ca_bundle_path=read("ca_bundle_path", "CERTCTL_SERVER_CA_BUNDLE_PATH"),
        log_level=read("log_level", "CERTCTL_LOG_LEVEL", "info").lower(),
        log_format=cast("Literal['json', 'text']", log_format),
        otel_enabled=read("otel_enabled", "CERTCTL_OTEL_ENABLED").lower() in _TRUE,
        ignored=tuple(f"{name} is ignored: {why}" for name, why in _NOT_SUPPORTED.items() if environ.get(name)),
    )


def check_server_url(text: str) -> str:
    """Return the base URL without a trailing slash. Raises Misconfigured unless it is https with a host."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise Misconfigured(f"CERTCTL_SERVER_URL {text!r} is no URL: {error}") from error
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise Misconfigured(
            f"CERTCTL_SERVER_URL {text!r} must be https://host[:port], with nothing after it but a path"
        )
    return text.rstrip("/")


def _absolute(variable: str, text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise Misconfigured(f"{variable} is {text!r}; write an absolute path")
    return path
