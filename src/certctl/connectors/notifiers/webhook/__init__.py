"""A webhook: JSON by POST, with a signature over its time and body, so that nobody else can send it nor send it again.

`X-Certctl-Signature: v1=<hex>` is HMAC-SHA256 over `<X-Certctl-Timestamp>.<body>` (RFC 2104); whoever receives it
refuses old timestamps and knows a second delivery by `X-Certctl-Notification-Id`. `X-Signature`, over the body alone,
is the reference product's.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl as tls
import time

import msgspec
from msgspec import Struct

from certctl.connectors.base.config import no_secret
from certctl.connectors.base.notifier import Message, check_address, one_line, origin_of
from certctl.connectors.dial import DialPolicy, Resolver
from certctl.connectors.http import Poster, own_roots
from certctl.core.secret import Secret


class WebhookConfig(Struct, frozen=True, kw_only=True):
    """Configuration of a webhook. `url` may hold a token, so it is a secret; `secret` signs, `bearer_token` goes into
    Authorization; `ca_pem` holds the roots that are trusted in place of the system's.
    """

    url: Secret
    secret: Secret = msgspec.field(default_factory=no_secret)
    bearer_token: Secret = msgspec.field(default_factory=no_secret)
    ca_pem: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        check_address(self.url.reveal(), "url", ("https", "http"))
        token = self.bearer_token.reveal()
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError("bearer_token has characters that no token has")
        if self.url.reveal().lower().startswith("http:") and token:
            raise ValueError("a bearer_token is sent to https:// addresses alone")

    @property
    def address(self) -> str:
        """Where it leads, for people."""
        return origin_of(self.url.reveal())


class WebhookNotifier:
    """One address."""

    def __init__(
        self,
        config: WebhookConfig,
        policy: DialPolicy,
        *,
        context: tls.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._config = config
        context = context or own_roots(config.ca_pem)
        self._poster = Poster(policy, "the webhook", context=context, resolver=resolver)

    async def send(self, message: Message) -> str:
        """Post it; any 2xx is a success."""
        body = msgspec.json.encode(_body(message))
        headers = {
            "X-Certctl-Notification-Id": message.id,
            "X-Certctl-Timestamp": str(int(time.time())),
        }
        if self._config.secret:
            key = self._config.secret.reveal().encode()
            stamped = headers["X-Certctl-Timestamp"].encode() + b"." + body
            headers["X-Certctl-Signature"] = "v1=" + hmac.new(key, stamped, hashlib.sha256).hexdigest()
            headers["X-Signature"] = "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()
            headers["X-Signature-Algorithm"] = "sha256"
        if self._config.bearer_token:
            headers["Authorization"] = f"Bearer {self._config.bearer_token.reveal()}"
        await self._poster.post(self._config.url.reveal(), body, headers)
        return ""

    async def close(self) -> None:
        """Let its connections go."""
        await self._poster.close()


def _body(message: Message) -> dict[str, object]:
    return {
        "type": "event",
        "event_id": message.id,
        "event_type": "notification",
        "notification_type": message.type,
        "action": "resolve" if message.resolves else "trigger",
        "severity": message.severity,
        "subject": one_line(message.subject, 1000),
        "body": message.text,
        "recipient": ", ".join(message.recipients),
        "certificate_id": message.certificate_id,
        "incident": message.incident,
        "created_at": message.created_at,
    }
