"""Microsoft Teams: the address of a Workflows webhook, which takes Adaptive Cards and answers 202.

Text goes into runs of a RichTextBlock, which knows no Markdown: a name in it links nowhere. Facts: Microsoft's "Create
incoming webhooks with Workflows" and the Adaptive Cards schema. Teams folds nothing.
"""

from __future__ import annotations

import ssl as tls
from typing import Any

import msgspec
from msgspec import Struct

from certctl.connectors.base.notifier import Message, check_https, one_line, origin_of, shortened
from certctl.connectors.dial import DialPolicy, Resolver
from certctl.connectors.http import Poster
from certctl.core.secret import Secret

_COLOURS = {"informational": "accent", "warning": "warning", "critical": "attention"}
_MOST_TEXT = 5000


class TeamsConfig(Struct, frozen=True, kw_only=True):
    """Configuration of a Teams channel. The address is the credential."""

    webhook_url: Secret

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        check_https(self.webhook_url.reveal(), "webhook_url")

    @property
    def address(self) -> str:
        """Where it leads, for people."""
        return origin_of(self.webhook_url.reveal())


class TeamsNotifier:
    """One webhook."""

    def __init__(
        self,
        config: TeamsConfig,
        policy: DialPolicy,
        *,
        context: tls.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._config = config
        self._poster = Poster(policy, "the Teams webhook", context=context, resolver=resolver)

    async def send(self, message: Message) -> str:
        """Post a card."""
        card = {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "body": [
                _text(one_line(message.subject, 200), weight="Bolder", color=_colour(message)),
                _text(shortened(message.text, _MOST_TEXT)),
            ],
        }
        attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        body = {"type": "message", "attachments": [attachment]}
        await self._poster.post(self._config.webhook_url.reveal(), msgspec.json.encode(body))
        return ""

    async def close(self) -> None:
        """Let its connections go."""
        await self._poster.close()


def _colour(message: Message) -> str:
    return "good" if message.resolves else _COLOURS.get(message.severity, "default")


def _text(text: str, **looks: str) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **looks}]}
