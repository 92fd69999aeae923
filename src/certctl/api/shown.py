"""Records to the bodies that clients see: fields of the same name are copied, nothing else leaves."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, TypeVar

from msgspec import Struct

from certctl.core.errors import Malformed, Violation

ViewT = TypeVar("ViewT", bound=Struct)


def shown(kind: type[ViewT], record: Struct, **more: Any) -> ViewT:
    """A view of a record; `more` are fields that the record does not have."""
    values = {name: getattr(record, name) for name in _shared(kind, type(record)) if name not in more}
    return kind(**values, **more)


@functools.cache
def _shared(kind: type[Struct], record: type[Struct]) -> tuple[str, ...]:
    """What both have, looked up once a pair: a page shows hundreds of rows of one kind."""
    return tuple(name for name in kind.__struct_fields__ if hasattr(record, name))


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
