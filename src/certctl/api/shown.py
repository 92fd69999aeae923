"""Records to the bodies that clients see: fields of the same name are copied, nothing else leaves."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from msgspec import Struct

from certctl.core.errors import Malformed, Violation

ViewT = TypeVar("ViewT", bound=Struct)


def shown(kind: type[ViewT], record: Struct, **more: Any) -> ViewT:
    """A view of a record; `more` are fields that the record does not have."""
    names, read = _shared(kind, type(record), frozenset(more))
    return kind(**dict(zip(names, read(record), strict=True)), **more)


@functools.cache
def _shared(
    kind: type[Struct], record: type[Struct], but: frozenset[str]
) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """What both have, and how it is read, found once: a page shows hundreds of rows of one kind."""
    names = tuple(name for name in kind.__struct_fields__ if name not in but and hasattr(record, name))
    if len(names) > 1:
        return names, operator.attrgetter(*names)
    return names, lambda given: tuple(getattr(given, name) for name in names)


def given(body: Struct, but: Iterable[str] = ()) -> dict[str, Any]:
    """The fields of a body that say something (are not None)."""
    left_out = set(but)
    return {
        name: value
        for name in body.__struct_fields__
        if name not in left_out and (value := getattr(body, name)) is not None
    }


def refuse_other_id(body_id: str | None, path_id: str) -> None:
    """A body may repeat the path's id, not change it."""
    if body_id not in {None, "", path_id}:
        message = f"the id in the body is {body_id}, in the path {path_id}; an id never changes"
        raise Malformed(message, violations=(Violation("id_never_changes", message, "id"),))
