"""The catalogue is the reference product's, name by name and role by role; limits only ever take away."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from certctl.core.permissions import (
    PERMISSIONS,
    ROLES,
    SHARED,
    Bundle,
    effective,
    held_by_built_in,
    limited,
    limits_of,
    permission_id,
)
from certctl.core.scope import EVERYTHING, Reach, Scope

FACTS = Path(__file__).parents[2] / "data/permissions.txt"
LETTERS = {
    "A": "r-admin",
    "O": "r-operator",
    "C": "r-cli",
    "M": "r-mcp",
    "V": "r-viewer",
    "G": "r-agent",
    "U": "r-auditor",
}
some = st.none() | st.lists(st.sampled_from(("a", "b")), max_size=2, unique=True).map(tuple)
reaches = st.builds(Reach, teams=some, profiles=some, issuers=some)


def test_names_and_roles_are_the_reference_products():
    expected: dict[str, set[str]] = {role_id: set() for role_id in LETTERS.values()}
    names = set()
    for line in FACTS.read_text().splitlines():
        name, _, letters = line.partition(" ")
        names.add(name)
        for letter in letters:
            expected[LETTERS[letter]].add(name)
    assert names == PERMISSIONS
    assert {role_id: set(role.permissions) for role_id, role in ROLES.items()} == expected
    counts = {"r-admin": 82, "r-operator": 48, "r-cli": 47, "r-mcp": 33, "r-viewer": 19, "r-agent": 6, "r-auditor": 3}
    assert {role_id: len(role.permissions) for role_id, role in ROLES.items()} == counts


def test_ids_of_permissions():
    assert permission_id("cert.bulk_revoke") == "p-cert-bulk-revoke"
    assert len({permission_id(name) for name in PERMISSIONS}) == len(PERMISSIONS)


@given(st.sampled_from(sorted(PERMISSIONS)), reaches)
def test_a_limit_that_does_not_fit_grants_nothing(name, reach):
    found = limited(name, reach)
    unknown = {field for field, _ in reach.limits()} - limits_of(name)
    if unknown and name not in SHARED:
        assert found is None
    else:
        assert found is not None
        assert {field for field, _ in found.limits()} == {field for field, _ in reach.limits()} - unknown


def test_what_changes_things_for_all_is_never_granted_in_part():
    team = Reach(teams=("a",))
    for name in (
        "issuer.edit",
        "profile.edit",
        "policy.edit",
        "target.edit",
        "agent.edit",
        "auth.role.create",
        "audit.read",
    ):
        assert limited(name, team) is None, name
    for name in ("cert.issue", "cert.revoke", "job.cancel", "owner.edit", "team.edit", "auth.key.create"):
        assert limited(name, team) == team, name
    assert limited("issuer.read", team) == EVERYTHING


@given(st.lists(st.tuples(st.sampled_from(sorted(ROLES)), reaches), max_size=3))
def test_effective_is_the_union_and_no_more_than_the_roles(grants):
    found = effective("t", [Bundle(reach, held_by_built_in(role_id)) for role_id, reach in grants])
    for name, scope in found.items():
        assert scope.reaches, name
        assert any(name in ROLES[role_id].permissions for role_id, _ in grants)
    for role_id, reach in grants:
        if reach == EVERYTHING:
            assert all(found[name] == Scope.whole("t") for name in ROLES[role_id].permissions)


def test_two_limits_that_have_nothing_in_common_grant_nothing_not_even_shared_reading():
    held = (("issuer.read", Reach(teams=("b",))), ("cert.read", Reach(teams=("b",))))
    assert effective("t", [Bundle(Reach(teams=("a",)), held)]) == {}
