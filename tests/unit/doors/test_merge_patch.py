"""JSON merge patches: RFC 7396's own examples, and whatever else is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import Malformed, UnsupportedMediaType
from certctl.core.labels import check_label
from certctl.doors.body import _merge, read_merge_patch

EXAMPLES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), EXAMPLES)
def test_the_examples_of_the_rfc(target, patch, result):
    assert _merge(target, patch) == result


class Thing(msgspec.Struct, kw_only=True):
    read_only: ClassVar[frozenset[str]] = frozenset({"made_at"})
    cleared: ClassVar[Mapping[str, Any]] = {"note": "", "life": None, "tags": {}}
    name: str | None = None
    note: str | None = None
    life: int | None = None
    tags: dict[str, str] | None = None


NOW = {"name": "n", "note": "x", "life": 5, "tags": {"a": "1"}}


def read(text: str, content_type: str = "application/merge-patch+json"):
    return read_merge_patch(text.encode(), content_type, Thing, NOW)


def test_what_a_patch_says():
    merged = read('{"note": null, "life": null, "tags": {"b": "2"}, "made_at": 1}')
    assert merged.body == Thing(note="", life=None, tags={"a": "1", "b": "2"})
    assert (merged.emptied, merged.nested) == (frozenset({"life"}), True)
    assert read('{"tags": null}').body.tags == {}
    assert read('{"tags": {"a": null}}').body.tags == {}


@pytest.mark.parametrize(
    "text", ['{"name": null}', '{"nme": 1}', "[]", "null", '{"life": "x"}', '{"tags": {"a": 1}}', "", "{"]
)
def test_what_is_refused(text):
    with pytest.raises(Malformed):
        read(text)


def test_media_types():
    for media_type in ("", "application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json;x=y"):
        read("{}", media_type)
    for media_type in ("application/json-patch+json", "text/json", "application/problem+json"):
        with pytest.raises(UnsupportedMediaType):
            read("{}", media_type)


@given(st.binary(max_size=200))
def test_any_patch_is_read_or_refused(raw):
    try:
        read_merge_patch(raw, "", Thing, NOW)
    except Malformed as error:
        assert error.message


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(json, json)
def test_a_merge_made_twice_is_made_once(target, patch):
    once = _merge(target, patch)
    assert _merge(once, patch) == once


@given(st.text(max_size=300))
def test_a_label_is_one_form_of_what_can_be_seen(text):
    try:
        label = check_label(text)
    except Malformed:
        return
    assert check_label(label) == label
    assert label.isprintable() and label == label.strip() and 1 <= len(label) <= 255


@pytest.mark.parametrize(
    "text",
    ["", "  ", "a\u202eb", "a\u200bb", "a\ufeff", "a\u2066b", "a\nb", "a\0", "\u3164", "a\u00adb", "\u2800", "x" * 256],
)
def test_labels_that_hide_something(text):
    with pytest.raises(Malformed):
        check_label(text)


def test_two_spellings_of_one_name_are_one():
    assert check_label("e\u0301te\u0301") == check_label("été") == "été"
    assert check_label(" Größe 東京 שלום ") == "Größe 東京 שלום"
