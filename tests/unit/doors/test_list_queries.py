"""Cursors, queries of lists, conditions and keys: whatever is sent is read or refused, and nothing is forged."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import Malformed
from certctl.doors.conditional import has_it, read_if_match
from certctl.doors.cursors import Cursors, binding
from certctl.doors.idempotency import read_key
from certctl.doors.paging import check_names, query_names, read_list_query, read_query
from certctl.store.listings import AGENTS, CERTIFICATES, JOBS, TEAMS
from certctl.store.lists import Asked
from certctl.store.orders import Position

CURSORS = Cursors(b"k" * 32)
FIELDS = ("id", "name", "status")
values = st.one_of(
    st.none(),
    st.text(max_size=255),
    # hypothesis wants the bounds naive and adds the zone
    st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)


@given(values, st.text(min_size=1, max_size=140), st.integers(0, 2**40), st.booleans())
def test_a_cursor_says_what_it_was_given(value, row_id, total, estimated):
    position = Position(value, row_id, total, estimated)
    text = CURSORS.write(position, "list")
    assert text.isascii() and all(each not in text for each in "+/=& ")
    assert CURSORS.read(text, "list") == position
    with pytest.raises(Malformed, match="another list"):
        CURSORS.read(text, "other")
    with pytest.raises(Malformed, match="no cursor of ours"):
        Cursors(b"j" * 32).read(text, "list")


@given(st.data())
def test_a_cursor_that_was_changed_is_none(data):
    text = CURSORS.write(Position("value", "cert-1", 7, False), "list")
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from([each for each in "ABCabc012-_" if each != text[at]]))
    for changed in (text[:at] + other + text[at + 1 :], text[:at] + text[at + 1 :], text[:at] + other + text[at:]):
        if changed != text:
            with pytest.raises(Malformed):
                CURSORS.read(changed, "list")


@given(st.text(max_size=300))
def test_no_text_is_a_cursor(text):
    with pytest.raises(Malformed):
        CURSORS.read(text, "list")


def test_a_cursor_of_a_release_that_ordered_alike_rows_by_id_alone_is_refused():
    before = msgspec.structs.replace(CERTIFICATES, then={})
    for sort in CERTIFICATES.sorts:
        asked = Asked(sort=sort)
        text = CURSORS.write(Position("Active", "cert-1", 7, False), binding(before, "t", asked))
        if sort in CERTIFICATES.then:
            with pytest.raises(Malformed, match="another list"):
                CURSORS.read(text, binding(CERTIFICATES, "t", asked))
        else:
            assert CURSORS.read(text, binding(CERTIFICATES, "t", asked)).id == "cert-1"


def test_a_binding_tells_lists_filters_and_orders_apart():
    asked = Asked(sort="name")
    same = Asked(sort="name")
    assert binding(TEAMS, "t", asked) == binding(TEAMS, "t", same)
    others = [
        binding(TEAMS, "t2", asked),
        binding(AGENTS, "t", asked),
        binding(TEAMS, "t", Asked(sort="name", descending=True)),
        binding(TEAMS, "t", Asked(sort="createdAt")),
        binding(TEAMS, "t", Asked(sort="name", q="x")),
        binding(TEAMS, "t", Asked(sort="name", filters={"a": ("x",)})),
        binding(TEAMS, "t", Asked(sort="name", fixed={"a": "x"})),
        binding(TEAMS, "t", Asked(sort="name", filters={"a": ("x", "y")})),
        binding(TEAMS, "t", Asked(sort="name", filters={"a": ("x,y",)})),
    ]
    assert len({binding(TEAMS, "t", asked), *others}) == len(others) + 1


@given(st.binary(max_size=400))
def test_any_query_is_read_or_refused(raw):
    try:
        query = read_query(raw)
        found = read_list_query(JOBS, query, CURSORS, tenant_id="t", fields=FIELDS)
    except Malformed as error:
        assert error.message
    else:
        assert 1 <= found.asked.limit <= 500


@given(
    st.dictionaries(
        st.sampled_from(sorted(query_names(CERTIFICATES))),
        st.lists(
            st.one_of(
                st.text(max_size=40), st.sampled_from(["1", "-name", "true", "active", "2026-01-01T00:00:00Z", "id"])
            ),
            max_size=3,
        ),
    )
)
def test_every_known_parameter_takes_or_refuses_every_value(query):
    try:
        found = read_list_query(CERTIFICATES, query, CURSORS, tenant_id="t", fields=FIELDS)
    except Malformed as error:
        assert {each.field for each in error.violations} <= query_names(CERTIFICATES)
        return
    assert found.asked.sort in CERTIFICATES.sorts
    assert set(found.fields) <= set(FIELDS)
    assert set(found.asked.filters.get("status", ())) <= {
        "Pending",
        "Active",
        "Expiring",
        "Expired",
        "RenewalInProgress",
        "Failed",
        "Revoked",
        "Archived",
    }
    for name in ("expires_before", "expires_after"):
        for moment in found.asked.filters.get(name, ()):
            assert moment.tzinfo is not None


@given(st.text(max_size=80))
def test_an_unknown_parameter_is_named(name):
    known = query_names(CERTIFICATES)
    if name not in known:
        with pytest.raises(Malformed) as caught:
            check_names([name], known)
        assert caught.value.violations[0].field == name[:64]


@given(st.text(max_size=100))
def test_any_condition_is_read_or_refused(text):
    has_it(text, "7-abc")
    try:
        versions = read_if_match(text)
    except Malformed:
        return
    assert versions is None or all(version >= 0 for version in versions)


@pytest.mark.parametrize(
    ("text", "versions"),
    [
        (None, None),
        ("*", None),
        ('"7"', {7}),
        ('"7-0a1b"', {7}),
        ('"7", "8-ff" , W/"9"', {7, 8}),
        ('"abc"', set()),
        ('"7-xyz"', set()),
        ('W/"7"', set()),
        ('"99999999999999999999"', set()),
    ],
)
def test_conditions(text, versions):
    assert read_if_match(text) == (None if versions is None else frozenset(versions))


@given(st.text(max_size=300))
def test_any_idempotency_key_is_read_or_refused(text):
    try:
        key = read_key(text)
    except Malformed:
        return
    assert 1 <= len(key) <= 255 and key.isascii() and key.isprintable()
    assert read_key(f'"{key}"') == key
