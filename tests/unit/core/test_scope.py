"""Scopes are unions of conjunctions: what covers what is checked against every thing there could be."""

from __future__ import annotations

from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.core.errors import NotAllowed
from certctl.core.scope import EVERYTHING, Reach, Scope

IDS = ("a", "b", "c")
limits = st.none() | st.lists(st.sampled_from(IDS), max_size=3, unique=True).map(tuple)
reaches = st.builds(Reach, teams=limits, profiles=limits, issuers=limits)
scopes = st.lists(reaches, max_size=3).map(lambda found: Scope.union("t", found))
# "-" stands for any id that no grant names
THINGS = list(product((*IDS, "-"), repeat=3))


def seen(scope: Scope) -> set[tuple[str, str, str]]:
    return {
        thing
        for thing in THINGS
        if any(
            all(
                limit is None or value in limit
                for limit, value in zip((r.teams, r.profiles, r.issuers), thing, strict=True)
            )
            for r in scope.reaches
        )
    }


@given(scopes, scopes)
def test_what_a_scope_covers_it_sees(mine, theirs):
    if mine.covers(theirs):
        assert seen(theirs) <= seen(mine)


@given(scopes, scopes)
def test_what_is_seen_is_covered_when_no_two_reaches_have_to_be_put_together(mine, theirs):
    if len(mine.reaches) == 1 and seen(theirs) <= seen(mine):
        assert mine.covers(theirs)


@given(scopes)
def test_a_scope_covers_itself_and_the_whole_covers_all(scope):
    assert scope.covers(scope)
    assert Scope.whole("t").covers(scope)
    assert scope.is_whole == (seen(scope) == set(THINGS))


@given(reaches, reaches)
def test_narrowed_is_what_both_see(one, other):
    both = Scope.union("t", [one.narrowed(other)])
    assert seen(both) == seen(Scope.union("t", [one])) & seen(Scope.union("t", [other]))


@given(scopes, scopes)
def test_two_scopes_narrowed_are_what_both_see(one, other):
    assert seen(one.narrowed(other)) == seen(one) & seen(other)
    assert one.narrowed(Scope.whole("u")) == Scope.union("t", ())


@given(scopes)
def test_a_stored_scope_is_read_back_or_refused(scope):
    stored = msgspec.to_builtins(scope)
    assert msgspec.convert(stored, Scope) == scope
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"tenant_id": "t", "teams": ["a"]}, Scope)


@given(scopes, st.sampled_from(THINGS))
def test_what_is_admitted_is_what_is_seen(scope, thing):
    team, profile, issuer = thing
    try:
        scope.check_admits(teams=team, profiles=profile, issuers=issuer)
    except NotAllowed:
        assert thing not in seen(scope)
    else:
        assert thing in seen(scope)


def test_another_tenant_is_never_covered():
    assert not Scope.whole("t").covers(Scope.whole("u"))
    assert not Scope.whole("t").covers(Scope.union("u", ()))


def test_nothing_and_everything():
    nothing = Scope.union("t", [Reach(teams=())])
    assert nothing.reaches == ()
    assert not nothing.is_whole
    assert nothing.ids("teams") == ()
    assert Scope.union("t", [Reach(teams=("a",)), EVERYTHING]) == Scope.whole("t")
    assert Scope.union("t", [Reach(teams=("a",)), Reach(issuers=("i",))]).ids("teams") is None


def test_too_many_combinations_are_not_covered():
    many = tuple(str(number) for number in range(300))
    wide = Scope.union("t", [Reach(teams=many, profiles=many)])
    assert not Scope.union("t", [Reach(teams=many)]).covers(wide)
    assert Scope.whole("t").covers(Scope.union("t", [Reach(teams=many)]))


def test_a_whole_thing_needs_a_whole_scope():
    Scope.whole("t").check_whole("a new team")
    with pytest.raises(NotAllowed, match="a new team"):
        Scope.union("t", [Reach(teams=("a",))]).check_whole("a new team")
