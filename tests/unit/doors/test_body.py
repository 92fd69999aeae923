from __future__ import annotations

import contextlib
import json
from typing import ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import CertctlError, Malformed, UnsupportedMediaType
from certctl.doors.body import decode_body


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    read_only: ClassVar[frozenset[str]] = frozenset({"status"})

    name: str
    count: int = 0
    tags: dict[str, str] = {}


JSON = "application/json"


def test_a_body():
    assert decode_body(b'{"name": "a", "count": 2, "status": {"any": 1}}', JSON, Thing) == Thing(name="a", count=2)


@pytest.mark.parametrize(
    "media_type", ["", "application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"]
)
def test_media_types_that_are_json(media_type):
    assert decode_body(b'{"name": "a"}', media_type, Thing).name == "a"


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_media_types_that_are_not(media_type):
    with pytest.raises(UnsupportedMediaType):
        decode_body(b'{"name": "a"}', media_type, Thing)


def test_unknown_fields_are_named_all_with_their_neighbour():
    with pytest.raises(Malformed) as caught:
        decode_body(b'{"nam": "a", "cuont": 1}', JSON, Thing)
    assert [each.field for each in caught.value.violations] == ["nam", "cuont"]
    assert "did you mean name?" in caught.value.message


def test_unknown_fields_are_ignored_between_neighbours():
    assert decode_body(b'{"name": "a", "newer": 1}', JSON, Thing, strict=False).name == "a"


def test_a_missing_field_is_named():
    with pytest.raises(Malformed) as caught:
        decode_body(b"{}", JSON, Thing)
    assert caught.value.violations[0].field == "name"


@pytest.mark.parametrize(
    "raw", [b'{"name": 1}', b'{"name": "a", "count": "1"}', b'{"name": "a", "count": true}', b'{"name": null}']
)
def test_types_are_strict(raw):
    with pytest.raises(Malformed) as caught:
        decode_body(raw, JSON, Thing)
    assert caught.value.violations[0].field in {"name", "count"}


@pytest.mark.parametrize("raw", [b'{"name": "a\\u0000"}', b'{"name": "a", "tags": {"\\u0000": "x"}}'])
def test_no_nul_reaches_the_database(raw):
    with pytest.raises(Malformed, match="NUL"):
        decode_body(raw, JSON, Thing)


def test_an_escaped_backslash_is_no_nul():
    assert decode_body(b'{"name": "\\\\u0000"}', JSON, Thing).name == "\\u0000"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw):
    with contextlib.suppress(CertctlError):
        decode_body(raw, JSON, Thing)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_read_or_refused(data):
    try:
        decode_body(json.dumps(data).encode(), JSON, Thing)
    except CertctlError as error:
        assert error.message


@given(st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8")), st.integers(-(2**31), 2**31))
def test_what_is_encoded_is_decoded(name, count):
    thing = Thing(name=name, count=count)
    assert decode_body(msgspec.json.encode(thing), JSON, Thing) == thing
