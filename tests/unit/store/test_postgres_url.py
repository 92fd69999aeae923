"""Database URLs: every shape that operators write, and no other error than the one that names the variable."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from certctl.core.errors import Misconfigured
from certctl.store.postgres import Address, parse_url


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("postgres://u:p@db/certctl", [("db", 5432)]),
        ("postgresql://u:p@db:6000/certctl", [("db", 6000)]),
        ("postgres://u:p@db1:5433,db2/certctl", [("db1", 5433), ("db2", 5432)]),
        ("postgres://u:p@10.0.0.1:1,[2001:db8::1]:2/certctl", [("10.0.0.1", 1), ("2001:db8::1", 2)]),
        ("postgres://u:p@/certctl?host=db1:1&host=db2:2", [("db1", 1), ("db2", 2)]),
        ("postgres://u:p@/certctl?host=db1,db2&port=7", [("db1", 7), ("db2", 7)]),
        ("postgres://u@%2Frun%2Fpostgresql/certctl", [("/run/postgresql", 5432)]),
        ("postgres:///certctl?host=/run/postgresql", [("/run/postgresql", 5432)]),
        ("postgres:///certctl", [("", 0)]),
    ],
)
def test_hosts(url, addresses):
    assert parse_url(url).addresses == tuple(Address(*one) for one in addresses)


def test_everything_else():
    where = parse_url("postgres://o%40x:a/b%3A#c?@db/certctl?sslmode=verify-full&connect_timeout=3&application_name=x")
    assert (where.user, where.password, where.name) == ("o@x", "a/b:#c?", "certctl")
    assert where.options == {"sslmode": "verify-full", "application_name": "x"}
    assert where.connect_seconds == 3.0


@pytest.mark.parametrize(
    "url",
    [
        "postgres://u:secret@db:port/x",
        "postgres://u:secret@db:0/x",
        "postgres://u:secret@a:1:2/x",
        "postgres://u:secret@db/x?y",
    ],
)
def test_what_cannot_be_read_is_named_without_its_password(url):
    with pytest.raises(Misconfigured, match="CERTCTL_DATABASE_URL") as refused:
        parse_url(url)
    assert "secret" not in str(refused.value) + refused.value.detail


@given(st.text(alphabet=st.characters(codec="utf-8")))
@example("u:p@[::1]:²/x")
@example("@h:1,,h:/?connect_timeout=9999999999999")
def test_nothing_else_is_raised(rest):
    with contextlib.suppress(Misconfigured):
        where = parse_url("postgres://" + rest)
        assert all(0 <= one.port <= 65535 for one in where.addresses)
