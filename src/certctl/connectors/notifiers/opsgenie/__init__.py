"""OpsGenie, Alert API v2: alerts are created and closed under one alias, so that one that is sent twice is one.

Facts: OpsGenie's "Alert API" (message at most 130 characters, alias 512, description 15,000; answers 202).
"""

from __future__ import annotations

import ssl as tls
from urllib.parse import quote

import msgspec
from msgspec import Struct

from certctl.connectors.base.notifier import Message, check_https, incident_key, one_line, origin_of, shortened
from certctl.connectors.dial import DialPolicy, Resolver
from certctl.connectors.http import Poster
from certctl.core.secret import Secret

_PRIORITIES = ("P1", "P2", "P3", "P4", "P5")
_MOST_MESSAGE, _MOST_ALIAS, _MOST_DESCRIPTION = 130, 512, 15_000


class OpsGenieConfig(Struct, frozen=True, kw_only=True):
    """Configuration of an OpsGenie channel. In the EU `url` is https://api.eu.opsgenie.com. `priority` is that of a
    warning; what is critical is P1, what is informational P5.
    """

    api_key: Secret
    url: str = "https://api.opsgenie.com"
    priority: str = "P3"

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if not self.api_key or not self.api_key.reveal().isascii() or not self.api_key.reveal().isprintable():
            raise ValueError("api_key is empty, or no key")
        check_https(self.url, "url")
        if self.priority not in _PRIORITIES:
            raise ValueError(f"priority is one of {', '.join(_PRIORITIES)}")

    @property
    def address(self) -> str:
        """Where it leads, for people."""
        return origin_of(self.url)


class OpsGenieNotifier:
    """One API integration."""

    def __init__(
        self,
        config: OpsGenieConfig,
        policy: DialPolicy,
        *,
        context: tls.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._config = config
        self._poster = Poster(policy, "OpsGenie", context=context, resolver=resolver)

    async def send(self, message: Message) -> str:
        """Create an alert, or close it; closing one that is not there is done."""
        alias = incident_key(message, _MOST_ALIAS)
        url = f"{self._config.url.rstrip('/')}/v2/alerts"
        headers = {"Authorization": f"GenieKey {self._config.api_key.reveal()}"}
        if message.resolves:
            url = f"{url}/{quote(alias, safe='')}/close?identifierType=alias"
            note = {"source": "certctl", "note": shortened(message.text, _MOST_DESCRIPTION)}
            await self._poster.post(url, msgspec.json.encode(note), headers, accept=(404,))
            return ""
        alert = {
            "message": one_line(message.subject, _MOST_MESSAGE),
            "alias": alias,
            "description": shortened(message.text, _MOST_DESCRIPTION),
            "priority": {"critical": "P1", "informational": "P5"}.get(message.severity, self._config.priority),
            "source": "certctl",
            "entity": message.certificate_id,
            "tags": ["certctl", message.type],
            "details": {"notification_id": message.id},
        }
        await self._poster.post(url, msgspec.json.encode(alert), headers)
        return ""

    async def close(self) -> None:
        """Let its connections go."""
        await self._poster.close()
