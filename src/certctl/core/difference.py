"""What an edit changed: before and after of each field that differs, without secrets. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from certctl.core.secret import Secret

REDACTED = "[redacted]"
# what every edit moves, and what a worker keeps beside the operator's own words
_NOT_TOLD = frozenset({"tenant_id", "row_version", "version", "created_at", "updated_at", "scan_after"})


def difference(before: Struct | None, after: Struct | None) -> dict[str, Any]:
    """`before` and `after` of the fields that differ, in plain values; all that say something of a new or deleted one.

    What is sealed (bytes) and hashes of secrets are named, and their values are not told.
    """
    either = after if after is not None else before
    sides: dict[str, dict[str, Any]] = {"before": {}, "after": {}}
    for name in either.__struct_fields__ if either is not None else ():
        was, now = getattr(before, name, None), getattr(after, name, None)
        if name in _NOT_TOLD or was == now:
            continue
        is_edit = None not in (before, after)
        if before is not None and (is_edit or was):
            sides["before"][name] = _plain(name, was)
        if after is not None and (is_edit or now):
            sides["after"][name] = _plain(name, now)
    return {side: values for side, values in sides.items() if values}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, bytes | Secret) or name.endswith("_hash"):
        return REDACTED if value else None
    return msgspec.to_builtins(value)
