"""A page of a list, in the reference product's envelope; `data` is always a list."""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Struct

ItemT = TypeVar("ItemT")


class PageOf(Struct, Generic[ItemT], frozen=True, kw_only=True):
    """One page. `total` counts the whole list."""

    data: list[ItemT]
    total: int
    page: int
    per_page: int


class StatusAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was set going. `job_ids` and `job_id` name the jobs that do it."""

    status: str
    job_ids: list[str] = []
    job_id: str = ""
    message: str = ""
