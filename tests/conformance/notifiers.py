"""The channels under conformance: what each talks to here, how it is configured, and how its messages are read back."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from certctl.connectors.base.notifier import Notifier
from certctl.connectors.dial import DialPolicy, Resolver
from certctl.connectors.registry import NOTIFIERS, _attribute, _decode, find_entry
from peers import receivers
from peers.receivers import Mailbox, Receiver

SECRETS = {
    "Email": {"password": "s3cret-of-the-mail-account"},
    "Webhook": {"url": "/hook/s3cret", "secret": "s3cret-of-the-webhook", "bearer_token": "s3cret-token"},
    "Slack": {"webhook_url": "/services/T000/B000/s3cret"},
    "Teams": {"webhook_url": "/workflows/s3cret/triggers/manual?sig=s3cret"},
    "PagerDuty": {"routing_key": "s3cret0123456789abcdef0123456789"},
    "OpsGenie": {"api_key": "s3cret-of-genie"},
}


@dataclass
class Channel:
    """One channel and the other side of it."""

    kind: str
    config: dict[str, Any]
    other: Receiver | Mailbox
    incidents: dict[str, str] = field(default_factory=dict)

    @property
    def folds(self) -> bool:
        """Whether the other side makes one of two messages about one thing."""
        return self.kind in {"PagerDuty", "OpsGenie"}

    def open(self, policy: DialPolicy | None = None, resolver: Resolver | None = None, **config: Any) -> Notifier:
        entry = find_entry(NOTIFIERS, self.kind, "channel")
        # Email and Webhook bring roots of their own; the others trust the system's, in place of which ours stand here
        more: dict[str, Any] = {"context": self.other.context} if isinstance(self.other, Receiver) else {}
        policy = policy or DialPolicy(purpose="notify", allow_loopback=True)
        opened: Notifier = _attribute(entry, entry.connector)(
            _decode(entry, self.config | config), policy, resolver=resolver, **more
        )
        return opened

    def texts(self) -> list[str]:
        """Everything that arrived, as text."""
        if isinstance(self.other, Mailbox):
            return [
                f"{letter['Subject']}\n{letter.get_body(('plain',)).get_content()}" for letter in self.other.letters
            ]
        return [got.body.decode() for got in self.other.got]

    def says(self, status: str) -> None:
        """From now on the other side answers so: `down`, `busy`, `no`, `who`."""
        if isinstance(self.other, Mailbox):
            self.other.mood = {"down": "451 4.3.0 later", "busy": "452 4.3.1 later", "no": "554 5.7.1 no"}[status]
        else:
            self.other.mood = {
                "down": (500, {}, b"oops s3cret"),
                "busy": (429, {"Retry-After": "90"}, b""),
                "no": (400, {}, b"invalid"),
                "who": (401, {}, b""),
                "elsewhere": (302, {"Location": "https://127.0.0.1:1/"}, b""),
                "huge": (200, {}, b"x" * 1_000_000),
            }[status]


@contextlib.asynccontextmanager
async def email() -> AsyncIterator[Channel]:
    async with receivers.mailbox(password=SECRETS["Email"]["password"]) as box:
        yield Channel("Email", box.config(), box)


def over_https(
    kind: str, service: Callable[[dict[str, str]], Any], configure: Callable[[str], dict[str, Any]]
) -> Callable[[], contextlib.AbstractAsyncContextManager[Channel]]:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Channel]:
        incidents: dict[str, str] = {}
        async with receivers.receiver(service(incidents)) as made:
            yield Channel(kind, configure(made.url), made, incidents)

    return opened


FACTORIES: dict[str, Callable[[], contextlib.AbstractAsyncContextManager[Channel]]] = {
    "Email": email,
    "Webhook": over_https(
        "Webhook",
        lambda _: receivers.anything,
        lambda url: SECRETS["Webhook"] | {"url": url + SECRETS["Webhook"]["url"]},
    ),
    "Slack": over_https(
        "Slack", lambda _: receivers.slack, lambda url: {"webhook_url": url + SECRETS["Slack"]["webhook_url"]}
    ),
    "Teams": over_https(
        "Teams", lambda _: receivers.teams, lambda url: {"webhook_url": url + SECRETS["Teams"]["webhook_url"]}
    ),
    "PagerDuty": over_https(
        "PagerDuty", receivers.pagerduty, lambda url: {"url": f"{url}/v2/enqueue", **SECRETS["PagerDuty"]}
    ),
    "OpsGenie": over_https("OpsGenie", receivers.opsgenie, lambda url: {"url": url, **SECRETS["OpsGenie"]}),
}
