"""Ids sort by birth, never repeat, and what clients may call a thing is bounded."""

from __future__ import annotations

import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import Malformed
from certctl.core.ids import check_id, new_id, uuid7


def test_uuid7_is_one_by_the_rfc() -> None:
    before = time.time_ns() // 1_000_000
    value = uuid.UUID(uuid7())
    assert value.version == 7
    assert value.variant == uuid.RFC_4122
    assert before <= value.int >> 80 <= time.time_ns() // 1_000_000


def test_later_ids_sort_later(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = [1, 2, 1_000, 1_900_000_000_000, 1_900_000_000_001, (1 << 48) - 1]
    ids = []
    for milliseconds in moments:
        monkeypatch.setattr(time, "time_ns", lambda ms=milliseconds: ms * 1_000_000)
        ids.append(new_id("job"))
    assert ids == sorted(ids)


def test_ids_of_one_millisecond_are_unique(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_900_000_000_000_000_000)
    ids = {uuid7() for _ in range(20_000)}
    assert len(ids) == 20_000
    assert all(uuid.UUID(one).version == 7 and uuid.UUID(one).variant == uuid.RFC_4122 for one in list(ids)[:500])


def test_a_fresh_id_is_one_a_client_could_give() -> None:
    assert check_id(new_id("cert")).startswith("cert-")


@given(st.from_regex(r"[A-Za-z0-9._-]{1,128}", fullmatch=True))
def test_client_ids(value: str) -> None:
    if value in {".", ".."}:
        return
    assert check_id(value) == value


@pytest.mark.parametrize("value", ["", ".", "..", "a/b", "a\\b", "a b", "a\n", "\n", "é", "a" * 129, "a\x00", "%2e"])
def test_other_ids_are_refused(value: str) -> None:
    with pytest.raises(Malformed) as caught:
        check_id(value, "target_id")
    assert caught.value.violations[0].field == "target_id"
