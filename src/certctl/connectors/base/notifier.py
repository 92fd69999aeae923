"""A notifier hands one message to one channel. It may get the same message twice (same id): where the other side can
tell, it makes one of them.

A message triggers, or resolves what an earlier one with the same `incident` triggered. Only errors of the
ConnectorError family leave a notifier, and none of them holds a secret.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Protocol, runtime_checkable

from msgspec import Struct

TIERS = ("informational", "warning", "critical")


class Message(Struct, frozen=True, kw_only=True):
    """What a channel is told. `severity` is one of TIERS; `text` may have lines, `subject` is one line.

    `incident` names what it is about, the same in the message that resolves it; empty when nothing ever does.
    """

    id: str
    type: str
    severity: str
    subject: str
    text: str
    created_at: datetime
    certificate_id: str = ""
    incident: str = ""
    resolves: bool = False
    recipients: tuple[str, ...] = ()
    html: str = ""


class Notifier(Protocol):
    """What every channel can do."""

    async def send(self, message: Message) -> str:
        """Hand it over; a remark when something is to be said about it (a recipient refused), else empty."""
        ...

    async def close(self) -> None:
        """Let its connections go."""
        ...


@runtime_checkable
class Addresses(Protocol):
    """A channel that writes to people: `to` says to whom, given the e-mail of the certificate's owner."""

    def to(self, owner: str) -> tuple[str, ...]:
        """Each once; nobody when there is nobody to write to."""
        ...


def one_line(text: str, most: int) -> str:
    """`text` as one line of at most `most` characters: what could begin a header or a line of its own is a space."""
    flat = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"


def shortened(text: str, most: int) -> str:
    """At most `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def incident_key(message: Message, most: int) -> str:
    """The key under which the other side folds what is one: the incident, else the message itself."""
    key = message.incident or message.id
    return key if len(key) <= most else hashlib.sha256(key.encode()).hexdigest()


def origin_of(url: str) -> str:
    """Scheme, host and port of an address: what may be shown of one that is a credential."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}"


def check_https(url: str, field: str) -> None:
    """Raise ValueError unless this is an https:// address without a user name in it."""
    check_address(url, field, ("https",))


def check_address(url: str, field: str, schemes: tuple[str, ...]) -> None:
    """Raise ValueError, which does not repeat the address, unless it is one of these schemes, with a host."""
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0].partition("?")[0]
    if scheme.lower() not in schemes or not host or "@" in host or not url.isprintable() or " " in url:
        raise ValueError(f"{field} must be an address such as {schemes[0]}://host/path")
