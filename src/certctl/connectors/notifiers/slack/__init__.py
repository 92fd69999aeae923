"""Slack: an incoming webhook. Text is escaped, so that a name in it mentions nobody and links nowhere.

Facts: Slack's "Sending messages using incoming webhooks" and "Formatting text". Slack folds nothing: a message that is
sent twice is seen twice.
"""

from __future__ import annotations

import ssl as tls

import msgspec
from msgspec import Struct

from certctl.connectors.base.notifier import Message, check_https, one_line, origin_of, shortened
from certctl.connectors.dial import DialPolicy, Resolver
from certctl.connectors.http import Poster
from certctl.core.secret import Secret

_MARKS = {"informational": ":large_blue_circle:", "warning": ":warning:", "critical": ":red_circle:"}
_MOST_TEXT = 3000


class SlackConfig(Struct, frozen=True, kw_only=True):
    """Configuration of a Slack channel. The address is the credential. `channel` and `username` change the webhook's
    own, where Slack lets them.
    """

    webhook_url: Secret
    channel: str = ""
    username: str = "certctl"

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        check_https(self.webhook_url.reveal(), "webhook_url")

    @property
    def address(self) -> str:
        """Where it leads, for people."""
        return origin_of(self.webhook_url.reveal())


class SlackNotifier:
    """One webhook."""

    def __init__(
        self,
        config: SlackConfig,
        policy: DialPolicy,
        *,
        context: tls.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._config = config
        self._poster = Poster(policy, "the Slack webhook", context=context, resolver=resolver)

    async def send(self, message: Message) -> str:
        """Post it; Slack answers 200 with `ok`."""
        mark = ":white_check_mark:" if message.resolves else _MARKS.get(message.severity, "")
        headline = f"{mark} *{_escaped(one_line(message.subject, 200))}*"
        body = {"text": f"{headline}\n{_escaped(shortened(message.text, _MOST_TEXT))}", "link_names": False}
        body |= {name: value for name in ("channel", "username") if (value := getattr(self._config, name))}
        await self._poster.post(self._config.webhook_url.reveal(), msgspec.json.encode(body))
        return ""

    async def close(self) -> None:
        """Let its connections go."""
        await self._poster.close()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
