"""Variables of notifications: the channels of the environment, with the reference product's names, and their pace."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from msgspec import Struct

from certctl.core.secret import Secret
from certctl.settings.variables import Variable, duration, flag, listed, number, secret, text, word

ALERTS: dict[str, dict[str, Variable]] = {
    "Notifications": {
        "alerts_process_interval": duration(
            "CERTCTL_SCHEDULER_NOTIFICATION_PROCESS_INTERVAL",
            "how often the outbox is looked at",
            "1s",
            shortest="100ms",
        ),
        "alerts_retry_interval": duration(
            "CERTCTL_NOTIFICATION_RETRY_INTERVAL",
            "the wait after a first failure; it doubles, up to an hour",
            "1m",
            shortest="1s",
        ),
        "alerts_allow": listed(
            "CERTCTL_NOTIFICATION_ALLOW",
            "addresses, networks and host names inside that channels may reach, such as 10.0.0.0/8",
        ),
        "alerts_digest_enabled": flag("CERTCTL_DIGEST_ENABLED", "a digest by mail, once a period for all replicas"),
        "alerts_digest_interval": duration("CERTCTL_DIGEST_INTERVAL", "its period", "24h", shortest="1m"),
        "alerts_digest_recipients": listed(
            "CERTCTL_DIGEST_RECIPIENTS", "who gets it; empty: the recipients of each mail channel"
        ),
        "alerts_smtp_host": text("CERTCTL_SMTP_HOST", "with a from address: an e-mail channel over this server"),
        "alerts_smtp_port": number(
            "CERTCTL_SMTP_PORT", "its port; 465 is TLS from the first byte", 587, low=1, high=65535
        ),
        "alerts_smtp_username": text("CERTCTL_SMTP_USERNAME", "SMTP user"),
        "alerts_smtp_password": secret("CERTCTL_SMTP_PASSWORD", "SMTP password"),
        "alerts_smtp_from": text("CERTCTL_SMTP_FROM_ADDRESS", "who mail is from"),
        "alerts_smtp_recipients": listed("CERTCTL_SMTP_RECIPIENTS", "who gets mail besides the owner of a certificate"),
        "alerts_smtp_tls": flag(
            "CERTCTL_SMTP_USE_TLS", "STARTTLS, or TLS from the first byte on port 465", default=True
        ),
        "alerts_webhook_url": secret("CERTCTL_WEBHOOK_URL", "a webhook channel to this address"),
        "alerts_webhook_secret": secret("CERTCTL_WEBHOOK_SECRET", "what signs it"),
        "alerts_slack_url": secret("CERTCTL_SLACK_WEBHOOK_URL", "a Slack channel over this incoming webhook"),
        "alerts_slack_channel": text("CERTCTL_SLACK_CHANNEL", "in place of the webhook's own channel"),
        "alerts_slack_username": text("CERTCTL_SLACK_USERNAME", "the name shown", "certctl"),
        "alerts_teams_url": secret("CERTCTL_TEAMS_WEBHOOK_URL", "a Microsoft Teams channel over this webhook"),
        "alerts_pagerduty_key": secret("CERTCTL_PAGERDUTY_ROUTING_KEY", "a PagerDuty channel with this routing key"),
        "alerts_opsgenie_key": secret("CERTCTL_OPSGENIE_API_KEY", "an OpsGenie channel with this key"),
        "alerts_opsgenie_priority": word(
            "CERTCTL_OPSGENIE_PRIORITY", "the priority of a warning", ("p3", "p1", "p2", "p4", "p5")
        ),
    },
}


class EnvironmentChannel(Struct, frozen=True, kw_only=True):
    """A channel that the environment names; `config` holds its secrets as texts, and is never shown."""

    type: str
    config: dict[str, Any]


class AlertRules(Struct, frozen=True, kw_only=True):
    """How notifications are delivered, and the channels of the environment."""

    process_interval: timedelta
    retry_interval: timedelta
    allow: tuple[str, ...]
    channels: tuple[EnvironmentChannel, ...]
    digest_enabled: bool
    digest_interval: timedelta
    digest_recipients: tuple[str, ...]

    def __repr__(self) -> str:
        return f"AlertRules(channels={[each.type for each in self.channels]})"


def alert_rules(values: dict[str, Any]) -> AlertRules:
    """The rules out of the variables above; they are taken out of `values`. Raises ValueError for half a channel."""
    took = {field.removeprefix("alerts_"): values.pop(field) for section in ALERTS.values() for field in section}
    return AlertRules(
        process_interval=took["process_interval"],
        retry_interval=took["retry_interval"],
        allow=took["allow"],
        channels=tuple(_channels(took)),
        digest_enabled=took["digest_enabled"],
        digest_interval=took["digest_interval"],
        digest_recipients=took["digest_recipients"],
    )


def _channels(took: dict[str, Any]) -> list[EnvironmentChannel]:
    found: list[EnvironmentChannel] = []

    def add(kind: str, there: object, **config: Any) -> None:
        if there:
            told = {name: value.reveal() if isinstance(value, Secret) else value for name, value in config.items()}
            found.append(EnvironmentChannel(type=kind, config={name: value for name, value in told.items() if value}))

    if took["smtp_host"] and not took["smtp_from"]:
        raise ValueError("CERTCTL_SMTP_HOST needs CERTCTL_SMTP_FROM_ADDRESS: mail has to be from somebody")
    tls = "none" if not took["smtp_tls"] else "implicit" if took["smtp_port"] == 465 else "starttls"
    add(
        "Email",
        took["smtp_host"],
        host=took["smtp_host"],
        port=took["smtp_port"],
        tls=tls,
        username=took["smtp_username"],
        password=took["smtp_password"],
        from_address=took["smtp_from"],
        recipients=list(took["smtp_recipients"]),
    )
    add("Webhook", took["webhook_url"], url=took["webhook_url"], secret=took["webhook_secret"])
    add(
        "Slack",
        took["slack_url"],
        webhook_url=took["slack_url"],
        channel=took["slack_channel"],
        username=took["slack_username"],
    )
    add("Teams", took["teams_url"], webhook_url=took["teams_url"])
    add("PagerDuty", took["pagerduty_key"], routing_key=took["pagerduty_key"])
    add("OpsGenie", took["opsgenie_key"], api_key=took["opsgenie_key"], priority=took["opsgenie_priority"].upper())
    return found
