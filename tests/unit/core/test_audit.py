"""What is sealed of an event is written by two writers, a slow one that says what it is and a fast one: the same bytes always."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from certctl.core.audit import SEALED_FIELDS, Entry, stored_as_bytes

TEXT = st.text(st.characters(), max_size=8)  # half surrogate pairs too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=True) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
MOMENT = datetime(2026, 11, 26, 12, 30, tzinfo=UTC)


def plainly(entry: Entry) -> bytes:
    told = {name: getattr(entry, name) for name in SEALED_FIELDS}
    told["timestamp"] = "2026-11-26T12:30:00.000000Z"
    text = json.dumps(told, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def entry(details, actor="alice") -> Entry:
    return Entry(
        id="audit-1",
        timestamp=MOMENT,
        action="config_created",
        actor=actor,
        actor_type="User",
        resource_type="team",
        resource_id="t-web",
        request_id="req-1",
        address="192.0.2.1",
        details=details,
    )


def row(of: Entry, text: str) -> tuple:
    return (
        *(of.action, of.actor, of.actor_type, of.address, text, of.id),
        *(of.request_id, of.resource_id, of.resource_type, "2026-11-26T12:30:00.000000Z"),
    )


@given(st.dictionaries(TEXT, JSON, max_size=4), TEXT)
@example({"a": 1e16, "b": 1e-7, "c": -0.0, "d": 2**64, "\U0001f600": 1, "\uffff": 2, "e": "\ud800", "f": "\n"}, "\x7f")
def test_both_writers_write_the_same(details, actor):
    one = entry(details, actor)
    assert one.as_bytes() == plainly(one)
    for text in (json.dumps(details), json.dumps(details, indent=1, sort_keys=True)):
        assert stored_as_bytes([(0, *row(one, text)), (1, *row(one, text))], 1) == [plainly(one)] * 2


@pytest.mark.parametrize("text", ["", "{", '{"a":1},{"b":2}', "[" * 100_000, '{"a":1}\n{"b":2}', "nonsense"])
def test_details_that_are_no_json_are_no_details(text):
    with pytest.raises(ValueError):
        stored_as_bytes([row(entry({}), text)])
    with pytest.raises(ValueError):
        stored_as_bytes([row(entry({}), "{}"), row(entry({}), text)])
