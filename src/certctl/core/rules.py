"""What the front doors keep to: sessions, break-glass, rate limits, trusted proxies, foreign origins. Pure data."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from msgspec import Struct

from certctl.core.secret import Secret

Network = IPv4Network | IPv6Network


class SessionRules(Struct, frozen=True, kw_only=True):
    """How long browser sessions last, and to what they are bound."""

    idle: timedelta = timedelta(hours=1)
    absolute: timedelta = timedelta(hours=8)
    bind_ip: bool = False
    bind_user_agent: bool = False
    same_site: str = "lax"


class BreakglassRules(Struct, frozen=True, kw_only=True):
    """The local password door: off unless switched on; shut for `lockout` after `threshold` failures."""

    enabled: bool = False
    threshold: int = 5
    lockout: timedelta = timedelta(minutes=15)
    reset: timedelta = timedelta(hours=1)


class Rate(Struct, frozen=True, kw_only=True):
    """A token bucket: `burst` at once, `per_second` after that."""

    per_second: float
    burst: int


class LimitRules(Struct, frozen=True, kw_only=True):
    """How many calls: an address whose caller is not known yet, a caller once known; counted together by all replicas
    when `shared`.
    """

    enabled: bool = False
    address: Rate = Rate(per_second=50, burst=100)
    caller: Rate = Rate(per_second=50, burst=100)
    shared: bool = False


class AuditPush(Struct, frozen=True, kw_only=True):
    """Where audit events go besides the database; an address that is empty is none."""

    syslog_url: str = ""
    syslog_ca_path: Path | None = None
    http_url: str = ""
    http_token: Secret = Secret("")
    http_ca_path: Path | None = None
    host_name: str = ""


class DoorRules(Struct, frozen=True, kw_only=True):
    """All of them. `trusted_proxies` are the peers whose X-Forwarded-For is believed.

    `handshakes_per_second` is how many new connections one process takes on.
    """

    sessions: SessionRules = SessionRules()
    breakglass: BreakglassRules = BreakglassRules()
    limits: LimitRules = LimitRules()
    trusted_proxies: tuple[Network, ...] = ()
    cors_origins: tuple[str, ...] = ()
    handshakes_per_second: int = 400

    def told(self) -> dict[str, str]:
        """The same by variable, as durations in seconds; there is no secret among them."""
        return {
            "CERTCTL_AUTH_TYPE": "api-key",
            "CERTCTL_SESSION_IDLE_TIMEOUT": _seconds(self.sessions.idle),
            "CERTCTL_SESSION_ABSOLUTE_TIMEOUT": _seconds(self.sessions.absolute),
            "CERTCTL_SESSION_SAMESITE": self.sessions.same_site.capitalize(),
            "CERTCTL_SESSION_BIND_IP": _word(self.sessions.bind_ip),
            "CERTCTL_SESSION_BIND_USER_AGENT": _word(self.sessions.bind_user_agent),
            "CERTCTL_BREAKGLASS_ENABLED": _word(self.breakglass.enabled),
            "CERTCTL_BREAKGLASS_LOCKOUT_THRESHOLD": str(self.breakglass.threshold),
            "CERTCTL_BREAKGLASS_LOCKOUT_DURATION": _seconds(self.breakglass.lockout),
            "CERTCTL_BREAKGLASS_LOCKOUT_RESET_INTERVAL": _seconds(self.breakglass.reset),
            "CERTCTL_RATE_LIMIT_ENABLED": _word(self.limits.enabled),
            "CERTCTL_RATE_LIMIT_BACKEND": "postgres" if self.limits.shared else "memory",
            "CERTCTL_RATE_LIMIT_RPS": f"{self.limits.address.per_second:g}",
            "CERTCTL_RATE_LIMIT_BURST": str(self.limits.address.burst),
            "CERTCTL_RATE_LIMIT_PER_USER_RPS": f"{self.limits.caller.per_second:g}",
            "CERTCTL_RATE_LIMIT_PER_USER_BURST": str(self.limits.caller.burst),
            "CERTCTL_SERVER_HANDSHAKES_PER_SECOND": str(self.handshakes_per_second),
            "CERTCTL_TRUSTED_PROXIES": ",".join(str(each) for each in self.trusted_proxies),
            "CERTCTL_CORS_ORIGINS": ",".join(self.cors_origins),
        }


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():g}s"


def _word(flag: bool) -> str:
    return "true" if flag else "false"
