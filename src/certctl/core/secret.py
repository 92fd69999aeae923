"""A secret is a type of its own: it prints as [redacted] everywhere and is opened in one visible place."""

from __future__ import annotations

import hmac
from typing import Any


class Secret:
    """A text that no log, repr, error or JSON ever shows. `reveal()` is the one way to the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself; call it where it is used, keep no copy."""
        return self._value

    def __repr__(self) -> str:
        return "Secret([redacted])"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        # constant time: how long it takes says nothing of how much was right
        return isinstance(other, Secret) and hmac.compare_digest(_octets(other._value), _octets(self._value))

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> Any:
        raise TypeError("a Secret is never serialised")


def _octets(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")
