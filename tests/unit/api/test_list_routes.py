"""Every route that answers with a list uses the one machinery of lists, or says here why not."""

from __future__ import annotations

import inspect
import typing

import msgspec
from msgspec import Struct

from certctl.api.app import create_rest
from certctl.api.lists import listing_of
from certctl.client.models.page import Paged, PageOf
from certctl.doors.paging import query_names

# a GET whose answer holds a list of things, and why that is no list to be paged, sorted and searched
NO_LISTS = {
    "/api/v1/admin/crl/cache": "how the CRL of each CA stands, in the reference product's envelope",
    "/api/v1/audit/push": "a row a receiver that the settings name: two at most",
    "/api/v1/auth/check": "the caller itself, with what it may do",
    "/api/v1/auth/me": "the caller itself, with what it may do",
    "/api/v1/issuers/{issuer_id:str}/account": "one account, and at most a hundred of what stands against it",
    "/api/v1/health-checks/{health_check_id:str}/history": "the newest of one check, a bare array as the reference's",
    "/api/v1/notification-channels/kinds": "the six kinds of the release, from no table",
    "/api/v1/stats/certificates-by-status": "a figure a status",
    "/api/v1/stats/expiration-timeline": "a figure a day",
    "/api/v1/stats/issuance-rate": "a figure a day",
    "/api/v1/stats/job-trends": "a figure a day",
    "/api/v1/stats/renewal-forecast": "a figure a month",
}
# what no other row of a list says, where a reader would otherwise get no second page
SEARCHED = {"q", "sort", "cursor", "page_size", "page", "per_page", "fields"}


def gets():
    for route in create_rest(None).routes:
        for method, (handler, _) in getattr(route, "route_handler_map", {}).items():
            if method == "GET" and handler.resolve_include_in_schema():
                yield route.path, handler


def holds_a_list(kind: object) -> bool:
    """Whether an answer is a list of structs or dicts, or a struct with a field that is one."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return True
    if origin is PageOf or kind is PageOf:
        return True
    if isinstance(kind, type) and issubclass(kind, Struct):
        for field in msgspec.structs.fields(kind):
            if typing.get_origin(field.type) is list:
                (inner,) = typing.get_args(field.type)
                if isinstance(inner, type) and issubclass(inner, Struct):
                    return True
    return any(holds_a_list(arg) for arg in args if origin is not dict)


def answers(handler) -> object:
    return typing.get_type_hints(inspect.unwrap(handler.fn), include_extras=True)["return"]


def test_every_list_is_declared_or_says_why_not():
    undeclared = set()
    declared = 0
    for path, handler in gets():
        collection = not path.endswith("}")
        if listing_of(handler) is not None:
            declared += 1
        elif collection and holds_a_list(answers(handler)):
            undeclared.add(path)
    assert undeclared == set(NO_LISTS)
    assert declared >= 25


def test_a_page_is_never_made_by_hand():
    """A route that answers with the envelope of pages declares its list."""
    for path, handler in gets():
        kind = answers(handler)
        paged = typing.get_origin(kind) is PageOf or (isinstance(kind, type) and issubclass(kind, Paged))
        assert paged == (listing_of(handler) is not None), path


def test_every_list_is_searched_sorted_filtered_and_paged_both_ways():
    names = {}
    for path, handler in gets():
        listing = listing_of(handler)
        if listing is None:
            continue
        assert query_names(listing) >= SEARCHED, path
        assert listing.filters, path
        assert listing.default.removeprefix("-") in listing.sorts, path
        assert listing.q_description, path
        names.setdefault(listing.name, path)
    # a cursor is bound to the name of its list
    assert len(names) == len({path for path, handler in gets() if listing_of(handler) is not None})
