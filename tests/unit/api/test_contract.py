"""The served document keeps the reference product's contract; every difference is on the list, with its reason."""

from __future__ import annotations

import pytest

from certctl.api.app import openapi_document
from contract import compare

HOW = "run `.venv/bin/python tests/contract/compare.py --write` and give what is new its reason"


@pytest.fixture(scope="module")
def document():
    return compare.Document(openapi_document())


def test_every_gap_is_named_and_every_named_gap_is_there(document):
    found = {gap for gaps in compare.found_gaps(document).values() for gap in gaps}
    named = {gap for group, gaps in compare.read_gaps().items() if group != "later" for gap in gaps}
    assert not found - named, f"new gaps; close them, or {HOW}"
    assert not named - found, f"gaps that have closed; {HOW}"


def test_every_gap_has_its_reason():
    for group, gaps in compare.read_gaps().items():
        for gap, reason in gaps.items():
            assert len(reason) > 10 and reason != compare.NO_REASON, f"{group}: {gap} | {reason}"


def test_groups_of_later_issues_are_wholly_absent(document):
    routes = compare.read_routes()
    for group in compare.later_groups():
        served = [route.name for route in routes[group] if document.operation(route)]
        assert not served, f"{group} is being served: take it out of gaps/later.txt and {HOW}"


def test_gaps_are_listed_for_known_groups_alone():
    assert set(compare.read_gaps()) - {"later"} <= set(compare.read_routes())


def test_all_routes_of_the_reference_are_compared_or_named_as_later():
    assert sum(len(routes) for routes in compare.read_routes().values()) == 230


def test_the_comparison_sees_what_is_missing(document):
    route = next(each for each in compare.read_routes()["teams"] if each.name == "POST /api/v1/teams")
    assert compare.gaps_of(document, route) == []
    worse = {
        "path": {"path": "/api/v1/teams/elsewhere"},
        "permission": {"permission": "team.read"},
        "status": {"status": 299},
        "request": {"request": ["name", "colour"]},
        "response": {"response": ["id", "name.first"]},
        "query": {"query": ["verbose"]},
    }
    for name, change in worse.items():
        assert compare.gaps_of(document, route._replace(**change)), name
