"""A status that is one of a few, said in the statement itself: the same text each time, and nothing to bind."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

_WORD = re.compile(r"[A-Za-z_]{1,32}")


def is_one_of(column: sa.Column[Any], statuses: Iterable[str]) -> sa.ColumnElement[bool]:
    """Whether a column holds one of these statuses: words of ours, never what a caller said."""
    return _is_one_of(column, tuple(sorted(str(status) for status in statuses)))


@lru_cache(maxsize=256)
def _is_one_of(column: sa.Column[Any], words: tuple[str, ...]) -> sa.ColumnElement[bool]:
    if not all(_WORD.fullmatch(word) for word in words):
        raise ValueError(f"no statuses: {words}")
    return column.in_([sa.literal_column(f"'{word}'") for word in words])
