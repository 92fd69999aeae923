"""Parameters as the document tells them: Litestar's, without its filler, each with a description."""

from __future__ import annotations

import re
from typing import Any

_MEANINGS = {
    "requested_by": "asked for by this actor alone",
    "state": "in this state alone, in any case",
    "days": "how many days",
    "page": "which page, from 1",
    "per_page": "rows a page, 1 to 500",
    "status": "this status alone, in any case",
    "type": "this type alone, in any case",
    "q": "search: an exact value, or the beginning of one",
    "sort": "the field to sort by; -field the other way",
    "sort_desc": "the other way round (the reference product's)",
    "fields": "only these fields, separated by commas",
    "cursor": "where the last page ended, from its `next_cursor`",
    "page_size": "rows a page with a cursor, 1 to 500",
    "environment": "this environment alone",
    "owner_id": "of this owner alone",
    "team_id": "of this team alone",
    "issuer_id": "of this issuer alone",
    "agent_id": "of this agent alone",
    "target_id": "at this target alone",
    "profile_id": "under this profile alone",
    "certificate_id": "of this certificate alone",
    "parent_id": "begun by this job, or asked for by this batch",
    "version_id": "this version instead of the current one",
    "force": "do it although something stands in the way",
    "reason": "why; kept in the event log",
    "download": "answer with a file",
}
_KEPT = ("name", "in", "required", "description", "schema")


def told(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parameters of one operation, path first; Litestar's descriptions win over the ones known here."""
    tidy = [_tidy(each) for each in found]
    return sorted(tidy, key=lambda each: ("path", "query", "header", "cookie").index(each["in"]))


def _tidy(parameter: dict[str, Any]) -> dict[str, Any]:
    schema = {name: value for name, value in parameter["schema"].items() if name != "description"}
    schema = _without_null(schema)
    if parameter["in"] == "path":
        schema |= {"minLength": 1}
    meaning = parameter.get("description") or _meaning(parameter)
    changed = parameter | {"schema": schema, "description": meaning}
    return {name: changed[name] for name in _KEPT if name in changed}


def _meaning(parameter: dict[str, Any]) -> str:
    name = parameter["name"]
    if parameter["in"] == "path":
        return f"id of the {re.sub('_id$', '', name).replace('_', ' ')}"
    return _MEANINGS.get(name) or f"by {name.replace('_', ' ')}"


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query has no null: a parameter that is not given is absent."""
    choices = [each for each in schema.get("oneOf", []) if each != {"type": "null"}]
    if len(choices) == 1:
        rest = {name: value for name, value in schema.items() if name != "oneOf"}
        return {**choices[0], **rest}
    return schema
