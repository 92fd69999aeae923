"""Which permission a route asks for, as its `opt` says: read by the guard, by the request and by the document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PERMISSION = "permission"


def asked_by(opt: Mapping[str, Any]) -> str:
    """The permission that a route's `opt` declares, `public`, `signed in`, or empty when it declares nothing."""
    return str(opt.get(PERMISSION, ""))
