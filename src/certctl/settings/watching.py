"""Variables of health checks of endpoints, with the reference product's names."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from msgspec import Struct

from certctl.settings.variables import Variable, duration, flag, number

WATCHING: dict[str, dict[str, Variable]] = {
    "Health checks": {
        "health_enabled": flag("CERTCTL_HEALTH_CHECK_ENABLED", "endpoints are looked at", default=True),
        "health_auto_create": flag(
            "CERTCTL_HEALTH_CHECK_AUTO_CREATE", "a deployment that was seen served has a check made", default=True
        ),
        "health_interval": duration(
            "CERTCTL_HEALTH_CHECK_INTERVAL", "how often due looks are looked for", "5s", shortest="100ms"
        ),
        "health_default_interval": number(
            "CERTCTL_HEALTH_CHECK_DEFAULT_INTERVAL",
            "seconds between two looks where a check does not say",
            300,
            low=10,
            high=86_400,
        ),
        "health_timeout": number(
            "CERTCTL_HEALTH_CHECK_DEFAULT_TIMEOUT", "milliseconds that a look may take", 5000, low=100, high=60_000
        ),
        "health_most_at_once": number(
            "CERTCTL_HEALTH_CHECK_MAX_CONCURRENT", "looks under way at once, of one process", 20, low=1, high=500
        ),
        "health_history": duration(
            "CERTCTL_HEALTH_CHECK_HISTORY_RETENTION", "how long what looks found is kept", "720h", shortest="1h"
        ),
    },
}


class HealthRules(Struct, frozen=True, kw_only=True):
    """How endpoints are looked at."""

    enabled: bool
    auto_create: bool
    interval: timedelta
    default_interval: timedelta
    timeout: timedelta
    most_at_once: int
    history: timedelta


def health_rules(values: dict[str, Any]) -> HealthRules:
    """The rules out of the variables above; they are taken out of `values`."""
    took = {field.removeprefix("health_"): values.pop(field) for field in WATCHING["Health checks"]}
    return HealthRules(
        enabled=took["enabled"],
        auto_create=took["auto_create"],
        interval=took["interval"],
        default_interval=timedelta(seconds=took["default_interval"]),
        timeout=timedelta(milliseconds=took["timeout"]),
        most_at_once=took["most_at_once"],
        history=took["history"],
    )
