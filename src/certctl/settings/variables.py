"""One variable: its name, how its text is read, its default, its bounds, its meaning. Pure data and pure reading.

The same declaration reads the environment, checks it and writes docs/reference/configuration.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from certctl.connectors.base.config import parse_duration
from certctl.core.secret import Secret

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class Variable(Struct, frozen=True, kw_only=True):
    """`read` takes a text that is not empty and raises ValueError with what is wrong; `none` stands for no text and no
    default. `shown` is the default as people read it, where it is made of other settings.
    """

    name: str
    meaning: str
    kind: str
    read: Callable[[str], Any]
    default: str = ""
    none: Any = None
    shown: str = ""
    secret: bool = False

    def of(self, text: str) -> Any:
        """The setting that this text means; raises ValueError."""
        chosen = text.strip() or self.default
        return self.read(chosen) if chosen else self.none


def text(name: str, meaning: str, default: str = "", *, shown: str = "") -> Variable:
    """Any text."""
    return Variable(name=name, meaning=meaning, kind="text", read=str, default=default, none="", shown=shown)


def secret(name: str, meaning: str, *, fewest: int = 0, how: str = "") -> Variable:
    """A text that is never shown, of at least `fewest` characters; `how` tells how to make one."""

    def read(value: str) -> Secret:
        if len(value) < fewest:
            raise ValueError(f"has fewer than {fewest} characters{f'; {how}' if how else ''}")
        return Secret(value)

    return Variable(name=name, meaning=meaning, kind="secret", read=read, none=Secret(""), secret=True)


def number(name: str, meaning: str, default: int, *, low: int, high: int) -> Variable:
    """A whole number within bounds."""

    def read(value: str) -> int:
        if not value.isascii() or not value.isdigit() or not low <= int(value[:18]) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, not {value[:32]!r}")
        return int(value)

    return Variable(name=name, meaning=meaning, kind=f"number, {low} to {high}", read=read, default=str(default))


def duration(name: str, meaning: str, default: str, *, shortest: str) -> Variable:
    """A span such as `500ms`, `30s`, `5m`, `24h`, at least `shortest`."""
    least = parse_duration(shortest)

    def read(value: str) -> Any:
        try:
            span = parse_duration(value)
        except OverflowError as error:
            raise ValueError(f"{value[:32]!r} is longer than time itself") from error
        if span < least:
            raise ValueError(f"must be at least {shortest}, not {value[:32]}")
        return span

    return Variable(name=name, meaning=meaning, kind=f"duration, at least {shortest}", read=read, default=default)


def word(name: str, meaning: str, words: tuple[str, ...]) -> Variable:
    """One of a few words, in any case; the first is the default."""

    def read(value: str) -> str:
        if value.lower() not in words:
            raise ValueError(f"must be one of {', '.join(words)}, not {value[:32]!r}")
        return value.lower()

    return Variable(name=name, meaning=meaning, kind=", ".join(words), read=read, default=words[0])


def flag(name: str, meaning: str, *, default: bool = False) -> Variable:
    """True or false, and the words that mean them."""

    def read(value: str) -> bool:
        if value.lower() not in _TRUE | _FALSE:
            raise ValueError(f"must be true or false, not {value[:32]!r}")
        return value.lower() in _TRUE

    return Variable(name=name, meaning=meaning, kind="true or false", read=read, default=str(default).lower())


def path(name: str, meaning: str, default: str = "") -> Variable:
    """A file or folder."""
    return Variable(name=name, meaning=meaning, kind="path", read=Path, default=default)


def origin(text: str) -> str:
    """An origin as browsers say it (RFC 6454); raises ValueError."""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or text != f"{parts.scheme}://{parts.netloc}" or "*" in text:
        raise ValueError(f"holds {text[:64]!r}, which is no origin; write https://host or https://host:port, never *")
    return text


def listed(name: str, meaning: str, default: str = "") -> Variable:
    """Texts parted by commas."""

    def read(value: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in value.split(",") if part.strip())

    return Variable(name=name, meaning=meaning, kind="list, parted by commas", read=read, default=default, none=())
