"""PagerDuty, Events API v2: what is wrong triggers, what is mended resolves, both under one `dedup_key`.

So a message that is sent twice is one incident. Facts: PagerDuty's "Send an alert event" (summary at most 1,024
characters, dedup_key 255, severities critical, error, warning, info).
"""

from __future__ import annotations

import ssl as tls
from typing import Any

import msgspec
from msgspec import Struct

from certctl.connectors.base.notifier import Message, check_https, incident_key, one_line, origin_of, shortened
from certctl.connectors.dial import DialPolicy, Resolver
from certctl.connectors.http import Poster
from certctl.core.secret import Secret

_SEVERITIES = {"informational": "info", "warning": "warning", "critical": "critical"}
_MOST_SUMMARY, _MOST_KEY, _MOST_TEXT = 1024, 255, 10_000


class PagerDutyConfig(Struct, frozen=True, kw_only=True):
    """Configuration of a PagerDuty channel. In the EU region `url` is https://events.eu.pagerduty.com/v2/enqueue."""

    routing_key: Secret
    url: str = "https://events.pagerduty.com/v2/enqueue"
    source: str = "certctl"

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if not self.routing_key:
            raise ValueError("routing_key is empty")
        check_https(self.url, "url")

    @property
    def address(self) -> str:
        """Where it leads, for people."""
        return origin_of(self.url)


class PagerDutyNotifier:
    """One integration of one service."""

    def __init__(
        self,
        config: PagerDutyConfig,
        policy: DialPolicy,
        *,
        context: tls.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._config = config
        self._poster = Poster(policy, "PagerDuty", context=context, resolver=resolver)

    async def send(self, message: Message) -> str:
        """Enqueue an event; PagerDuty answers 202."""
        event: dict[str, Any] = {
            "routing_key": self._config.routing_key.reveal(),
            "event_action": "resolve" if message.resolves else "trigger",
            "dedup_key": incident_key(message, _MOST_KEY),
        }
        if not message.resolves:
            event["client"] = "certctl"
            event["payload"] = {
                "summary": one_line(message.subject, _MOST_SUMMARY),
                "source": one_line(self._config.source, 255),
                "severity": _SEVERITIES.get(message.severity, "error"),
                "timestamp": message.created_at.isoformat(),
                "component": message.certificate_id or None,
                "class": message.type,
                "custom_details": {"text": shortened(message.text, _MOST_TEXT), "notification_id": message.id},
            }
        await self._poster.post(self._config.url, msgspec.json.encode(event))
        return ""

    async def close(self) -> None:
        """Let its connections go."""
        await self._poster.close()
