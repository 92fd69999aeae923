"""What an edit changed is told field by field; what is secret is named, never told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from certctl.core.difference import REDACTED, difference
from certctl.core.secret import Secret


class Thing(Struct, frozen=True, kw_only=True):
    name: str = "thing"
    config: dict[str, Any] = {}
    sealed_config: bytes | None = None
    key_hash: str = ""
    password: Any = None
    expires_at: datetime | None = None
    enabled: bool = True
    row_version: int = 1
    updated_at: str = ""


def test_only_what_differs_is_told():
    at = datetime(2026, 1, 1, tzinfo=UTC)
    told = difference(Thing(expires_at=at), Thing(enabled=False, row_version=2, updated_at="now", config={"a": [1]}))
    assert told == {
        "before": {"config": {}, "expires_at": "2026-01-01T00:00:00Z", "enabled": True},
        "after": {"config": {"a": [1]}, "expires_at": None, "enabled": False},
    }
    assert difference(Thing(), Thing()) == {}
    assert difference(None, None) == {}


def test_what_is_new_or_gone_is_told_whole():
    assert difference(None, Thing(name="new")) == {"after": {"name": "new", "enabled": True}}
    assert difference(Thing(name="old", enabled=False), None) == {"before": {"name": "old"}}


@given(st.text(min_size=8), st.text(min_size=8))
def test_a_secret_is_named_and_not_told(one, other):
    one, other = f"{one}-of-the-test-1", f"{other}-of-the-test-2"
    before = Thing(sealed_config=one.encode("utf-8", "replace"), key_hash=one, password=Secret(one))
    after = Thing(sealed_config=other.encode("utf-8", "replace"), key_hash=other, password=Secret(other))
    for told in (difference(before, after), difference(None, after), difference(before, None)):
        assert "of-the-test" not in repr(told)
        side = told.get("after") or told["before"]
        assert side["sealed_config"] == side["key_hash"] == side["password"] == REDACTED
    assert difference(before, Thing())["after"]["sealed_config"] is None
