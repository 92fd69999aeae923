"""Who did it: the actor that every event names, with the reference product's actor types."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class ActorType(StrEnum):
    """Kinds of actor."""

    USER = "User"
    SYSTEM = "System"
    AGENT = "Agent"
    API_KEY = "APIKey"
    ACME_ACCOUNT = "ACMEAccount"
    ANONYMOUS = "Anonymous"


class Actor(Struct, frozen=True):
    """Somebody, or something, that acts; `request_id` ties its events to one call, `address` to one peer."""

    id: str
    type: ActorType
    request_id: str = ""
    address: str = ""


SYSTEM = Actor(id="certctl", type=ActorType.SYSTEM)
