"""A page of a list, in the reference product's envelope; `data` is always a list."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, TypeVar

from msgspec import Struct

ItemT = TypeVar("ItemT")


class PageOf(Struct, Generic[ItemT], frozen=True, kw_only=True, omit_defaults=True):
    """One page. `total` counts the whole list, at least to where `total_is_estimate` says that it goes on; where there
    is `total_as_of`, as it was then: at most two seconds before this answer.

    Pages have `page` and `per_page`, or (asked for by `cursor` or `page_size`) `page_size`; `next_cursor` continues
    either, and is absent at the end.
    """

    data: list[ItemT]
    total: int
    page: int = 0
    per_page: int = 0
    next_cursor: str = ""
    page_size: int = 0
    total_is_estimate: bool = False
    total_as_of: datetime | None = None


class Paged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is told of a list beside its rows, where they stand under a word of their own.

    Everything comes in one piece unless `page`, `per_page` or `page_size` is asked for; `next_cursor` goes on.
    """

    total: int
    page: int = 0
    per_page: int = 0
    next_cursor: str = ""
    page_size: int = 0
    total_is_estimate: bool = False
    total_as_of: datetime | None = None


class StatusAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was set going. `job_ids` and `job_id` name the jobs that do it."""

    status: str
    job_ids: list[str] = []
    job_id: str = ""
    message: str = ""
