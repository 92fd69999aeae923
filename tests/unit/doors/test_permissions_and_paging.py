from __future__ import annotations

import pytest

from certctl.core.errors import Malformed, NotAuthenticated
from certctl.core.permissions import AGENT_PERMISSIONS, PERMISSIONS, ROLES, held_by_built_in
from certctl.doors.cursors import Cursors
from certctl.doors.identity import bearer
from certctl.doors.paging import MOST_PAGES, ListQuery, read_list_query, read_query
from certctl.store.listings import TEAMS


def test_the_catalogue_is_the_reference_products():
    assert len(PERMISSIONS) == 82
    assert set(ROLES) == {"r-admin", "r-agent", "r-auditor", "r-cli", "r-mcp", "r-operator", "r-viewer"}
    assert all(role.permissions <= PERMISSIONS for role in ROLES.values())
    assert ROLES["r-admin"].permissions == PERMISSIONS


def test_a_viewer_only_reads():
    assert all(name.endswith(".read") for name in ROLES["r-viewer"].permissions)


def test_an_agent_can_do_its_work_and_no_more():
    assert not AGENT_PERMISSIONS & {"cert.issue", "cert.revoke", "target.edit", "agent.edit", "auth.key.create"}
    assert "verification.run" in AGENT_PERMISSIONS


def test_unknown_roles_grant_nothing():
    assert held_by_built_in("r-none") is None
    assert {name for name, _ in held_by_built_in("r-auditor")} == ROLES["r-auditor"].permissions


def asked(query: str) -> ListQuery:
    return read_list_query(TEAMS, read_query(query.encode()), Cursors(b"k" * 32), tenant_id="t", fields=["id"])


def test_pages():
    assert asked("").asked.offset == 0
    assert asked("page=3&per_page=20").asked.offset == 40
    assert asked(f"page={MOST_PAGES}&per_page=500").asked.offset < 2**63


@pytest.mark.parametrize(
    ("page", "per_page", "fields"), [(0, 50, ["page"]), (1, 501, ["per_page"]), (-1, 0, ["per_page", "page"])]
)
def test_pages_that_are_none(page, per_page, fields):
    with pytest.raises(Malformed) as caught:
        asked(f"page={page}&per_page={per_page}")
    assert [each.field for each in caught.value.violations] == fields


def test_a_bearer():
    assert bearer({"authorization": "bearer  abc "}).reveal() == "abc"


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic abc", "abc", "Bearer " + "x" * 600])
def test_no_bearer(value):
    with pytest.raises(NotAuthenticated) as caught:
        bearer({"authorization": value})
    assert "x" * 600 not in caught.value.message
