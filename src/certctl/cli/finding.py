"""What a person typed to the thing meant: an id, a name, or the tail of an id as tables show it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from certctl.core.errors import NotFound

if TYPE_CHECKING:
    from certctl.client import Client
    from certctl.client.calls import Resource

ViewT = TypeVar("ViewT")

_SHORTENED = re.compile(r"(?:(?P<prefix>[a-z]+)\u2026|)(?P<tail>[0-9a-f-]{6,})")


def find(client: Client, resource: Resource[ViewT], text: str, word: str) -> ViewT:
    """The thing meant by `text`; NotFound when there is none, or when a short form fits several."""
    try:
        return client.send(resource.get(text))
    except NotFound as error:
        known = client.send(resource.list()).data
        matches = [row for row in known if _fits(row, text)]
        if len(matches) == 1:
            return client.send(resource.get(_id(matches[0])))
        if matches:
            raise NotFound(f"{text} fits {len(matches)} {word}s; give the whole id") from error
        raise NotFound(f"there is no {word} {text}") from error


def find_id(client: Client, resource: Resource[Any], text: str, word: str) -> str:
    """The id of the thing meant."""
    return _id(find(client, resource, text, word))


def _fits(row: Any, text: str) -> bool:
    if getattr(row, "name", None) == text:
        return True
    short = _SHORTENED.fullmatch(text)
    return short is not None and _id(row).startswith(short["prefix"] or "") and _id(row).endswith(short["tail"])


def _id(row: Any) -> str:
    return str(row.id)
