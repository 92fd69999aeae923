"""Variables of the front doors: sessions, break-glass, rate limits, proxies, foreign origins; and what they make."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

from certctl.core.rules import BreakglassRules, DoorRules, LimitRules, Rate, SessionRules
from certctl.settings.variables import Variable, duration, flag, number, origin, word

_BACKENDS = ("memory", "postgres")
# who is known is trusted with so many times as much as an address that nobody knows
_KNOWN = 10


def _each(convert: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    return lambda value: tuple(convert(part.strip()) for part in value.split(",") if part.strip())


def _rate(value: str) -> float:
    try:
        rate = float(value)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1e6:
        raise ValueError(f"must be a number from 0 to 1000000, not {value[:32]!r}")
    return rate


def _backend(value: str) -> str:
    if value.lower() not in _BACKENDS:
        raise ValueError(f"must be one of {', '.join(_BACKENDS)}, not {value[:32]!r}")
    return value.lower()


def _per_second(name: str, meaning: str, default: str, shown: str = "") -> Variable:
    return Variable(name=name, meaning=meaning, kind="number", read=_rate, default=default, shown=shown)


DOORS: dict[str, dict[str, Variable]] = {
    "Sessions": {
        "session_idle": duration(
            "CERTCTL_SESSION_IDLE_TIMEOUT", "a browser session ends after so long without use", "1h", shortest="1m"
        ),
        "session_absolute": duration(
            "CERTCTL_SESSION_ABSOLUTE_TIMEOUT", "and after so long in any case", "8h", shortest="1m"
        ),
        "session_same_site": word("CERTCTL_SESSION_SAMESITE", "SameSite of its cookies", ("lax", "strict")),
        "session_bind_ip": flag("CERTCTL_SESSION_BIND_IP", "refuse a session from another address"),
        "session_bind_user_agent": flag("CERTCTL_SESSION_BIND_USER_AGENT", "refuse a session from another browser"),
        "session_gc_interval": duration(
            "CERTCTL_SESSION_GC_INTERVAL", "how often ended sessions are swept", "1h", shortest="1s"
        ),
        "breakglass_enabled": flag("CERTCTL_BREAKGLASS_ENABLED", "the local password door; off, all of it is 404"),
        "breakglass_threshold": number(
            "CERTCTL_BREAKGLASS_LOCKOUT_THRESHOLD", "failures that shut it", 5, low=1, high=100
        ),
        "breakglass_lockout": duration("CERTCTL_BREAKGLASS_LOCKOUT_DURATION", "for how long", "15m", shortest="1s"),
        "breakglass_reset": duration(
            "CERTCTL_BREAKGLASS_LOCKOUT_RESET_INTERVAL", "quiet after which failures are forgotten", "1h", shortest="1s"
        ),
    },
    "Limits and proxies": {
        "rate_enabled": flag("CERTCTL_RATE_LIMIT_ENABLED", "count calls, and refuse too many", default=True),
        "rate_backend": Variable(
            name="CERTCTL_RATE_LIMIT_BACKEND",
            meaning="whether replicas count together",
            kind=", ".join(_BACKENDS),
            read=_backend,
            none="",
            shown="postgres with PostgreSQL, else memory",
        ),
        "rate_rps": _per_second(
            "CERTCTL_RATE_LIMIT_RPS", "calls a second of an address whose caller is not known", "50"
        ),
        "rate_burst": number("CERTCTL_RATE_LIMIT_BURST", "at once", 100, low=1, high=10_000_000),
        "rate_caller_rps": _per_second(
            "CERTCTL_RATE_LIMIT_PER_USER_RPS", "calls a second of a caller; 0: ten times the above", "0"
        ),
        "rate_caller_burst": number(
            "CERTCTL_RATE_LIMIT_PER_USER_BURST", "at once; 0: ten times the above", 0, low=0, high=10_000_000
        ),
        "handshakes_per_second": number(
            "CERTCTL_SERVER_HANDSHAKES_PER_SECOND",
            "new TLS connections that one process takes on a second; more wait their turn",
            400,
            low=1,
            high=100_000,
        ),
        "trusted_proxies": Variable(
            name="CERTCTL_TRUSTED_PROXIES",
            meaning="networks whose X-Forwarded-For is believed",
            kind="list of networks",
            read=_each(ip_network),
            none=(),
        ),
        "cors_origins": Variable(
            name="CERTCTL_CORS_ORIGINS",
            meaning="origins whose pages may call the API; never *",
            kind="list of origins",
            read=_each(origin),
            none=(),
        ),
    },
}
# what stands for itself among the settings
ALONE = frozenset({"session_gc_interval"})


def door_rules(values: dict[str, Any], *, embedded: bool) -> DoorRules:
    """What the doors keep to, out of the variables above; they are taken out of `values`. Raises ValueError."""
    took = {field: values.pop(field) for section in DOORS.values() for field in section if field not in ALONE}
    backend = took["rate_backend"] or ("memory" if embedded else "postgres")
    if backend == "postgres" and embedded:
        raise ValueError("CERTCTL_RATE_LIMIT_BACKEND=postgres needs PostgreSQL in CERTCTL_DATABASE_URL")
    if took["rate_rps"] <= 0:
        raise ValueError("CERTCTL_RATE_LIMIT_RPS must be more than 0; CERTCTL_RATE_LIMIT_ENABLED=false counts nothing")
    return DoorRules(
        sessions=SessionRules(
            idle=took["session_idle"],
            absolute=took["session_absolute"],
            bind_ip=took["session_bind_ip"],
            bind_user_agent=took["session_bind_user_agent"],
            same_site=took["session_same_site"],
        ),
        breakglass=BreakglassRules(
            enabled=took["breakglass_enabled"],
            threshold=took["breakglass_threshold"],
            lockout=took["breakglass_lockout"],
            reset=took["breakglass_reset"],
        ),
        limits=LimitRules(
            enabled=took["rate_enabled"],
            address=Rate(per_second=took["rate_rps"], burst=took["rate_burst"]),
            caller=Rate(
                per_second=took["rate_caller_rps"] or took["rate_rps"] * _KNOWN,
                burst=took["rate_caller_burst"] or took["rate_burst"] * _KNOWN,
            ),
            shared=backend == "postgres",
        ),
        trusted_proxies=took["trusted_proxies"],
        cors_origins=took["cors_origins"],
        handshakes_per_second=took["handshakes_per_second"],
    )
