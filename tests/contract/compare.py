"""The served document against the reference product's routes: what differs, line by line, and the list of known gaps.

`routes.json` holds facts alone: per group `[method, path, permission, success status, request fields, response fields,
query parameters]`. `gaps/<group>.txt` names every known gap with its reason, `gaps/later.txt` the groups that no part
of the document serves yet. A new gap fails the test, and so does one that has closed:

    .venv/bin/python tests/contract/compare.py --write      drops closed gaps, adds new ones with a reason to fill in
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
GAPS = HERE / "gaps"
NO_REASON = "REASON?"
_SPLIT = " | "


class Route(NamedTuple):
    """One route of the reference product; fields are paths such as `data[].id`, `a=b` naming a constant."""

    method: str
    path: str
    permission: str
    status: int
    request: list[str]
    response: list[str]
    query: list[str]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


def read_routes() -> dict[str, list[Route]]:
    """Groups of routes."""
    found = json.loads((HERE / "routes.json").read_text())
    return {group: [Route(*row) for row in rows] for group, rows in found.items()}


def shape(path: str) -> str:
    """A path whatever its parameters are called."""
    return re.sub(r"\{[^}]*\}", "{}", path)


class Document:
    """An OpenAPI document, looked at by route and field."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._operations = {
            (method.upper(), shape(path)): operation
            for path, item in document["paths"].items()
            for method, operation in item.items()
            if method != "parameters"
        }

    def operation(self, route: Route) -> dict[str, Any] | None:
        return self._operations.get((route.method, shape(route.path)))

    def resolve(self, item: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in item:
            found: Any = self._document
            for part in item["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            item = found
        return item

    def has(self, schema: dict[str, Any], field: str) -> bool:
        """Whether a schema knows a field: `a.b`, `a[].b`, `[].b`, `a{}`."""
        name, _, rest = field.partition(".")
        within = [schema]
        plain = name.removesuffix("[]").removesuffix("{}")
        if plain:
            within = [found for each in within for found in self._members(each, plain)]
        if name.endswith("[]"):
            within = [found for each in within for found in self._elements(each)]
        return any(self.has(each, rest) for each in within) if rest else bool(within)

    def _choices(self, schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
        schema = self.resolve(schema)
        inner = [*schema.get("anyOf", []), *schema.get("oneOf", []), *schema.get("allOf", [])]
        if inner:
            for each in inner:
                yield from self._choices(each)
        yield schema

    def _members(self, schema: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
        for choice in self._choices(schema):
            if name in choice.get("properties", {}):
                yield choice["properties"][name]

    def _elements(self, schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for choice in self._choices(schema):
            if "items" in choice:
                yield choice["items"]


def gaps_of(document: Document, route: Route) -> list[str]:
    """What a route lacks, each as one line that stays the same until it is served."""
    operation = document.operation(route)
    if operation is None:
        return [f"{route.name} is not served"]
    gaps = []
    asked = operation.get("x-permission", "")
    if asked != route.permission:
        gaps.append(f"{route.name} asks for {asked or 'nothing'}, not {route.permission}")
    if str(route.status) not in operation["responses"]:
        gaps.append(f"{route.name} does not answer {route.status}")
    gaps += [f"{route.name} ignores query {name}" for name in _unknown_query(document, operation, route)]
    body = operation.get("requestBody", {})
    gaps += [f"{route.name} takes no field {name}" for name in _missing(document, body, route.request)]
    for status in sorted({route.status, *(202 for name in route.response if name.startswith("202:"))}):
        answer = document.resolve(operation["responses"].get(str(status), {}))
        asked_here = [
            name.removeprefix("202:") for name in route.response if name.startswith("202:") == (status == 202)
        ]
        if route.status == 202:
            asked_here = route.response
        gaps += [f"{route.name} answers without {name}" for name in _missing(document, answer, asked_here)]
    return gaps


def _unknown_query(document: Document, operation: dict[str, Any], route: Route) -> list[str]:
    known = {document.resolve(each)["name"] for each in operation.get("parameters", [])}
    return [name for each in route.query if (name := each.partition("=")[0].rstrip("!")) not in known]


def _missing(document: Document, body: dict[str, Any], fields: list[str]) -> list[str]:
    content = document.resolve(body).get("content", {})
    gaps = []
    for field in fields:
        name = field.partition("=")[0]
        if "/" in name:  # a media type: text/plain; version=0.0.4, binary application/x-pkcs12
            media_type = name.removeprefix("binary ").partition(";")[0]
            if media_type not in {kind.partition(";")[0] for kind in content}:
                gaps.append(name)
        elif not any(document.has(each.get("schema", {}), name) for each in content.values()):
            gaps.append(name)
    return gaps


def read_gaps() -> dict[str, dict[str, str]]:
    """Group -> gap -> reason, as checked in."""
    return {path.stem: _read(path) for path in sorted(GAPS.glob("*.txt"))}


def _read(path: Path) -> dict[str, str]:
    rows = [line.partition(_SPLIT) for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {gap: reason.strip() for gap, _, reason in rows}


def later_groups() -> dict[str, str]:
    """Groups that nothing of the document serves, with the reason."""
    return _read(GAPS / "later.txt")


def found_gaps(document: Document) -> dict[str, list[str]]:
    """Group -> gaps there are now, for the groups that are served."""
    later = later_groups()
    return {
        group: [gap for route in routes for gap in gaps_of(document, route)]
        for group, routes in read_routes().items()
        if group not in later
    }


def write(document: Document) -> int:
    """Bring the list up to what is served; says what still needs a reason."""
    known = read_gaps()
    waiting = 0
    for group, gaps in found_gaps(document).items():
        reasons = known.get(group, {})
        path = GAPS / f"{group}.txt"
        if not gaps:
            path.unlink(missing_ok=True)
            continue
        lines = [f"{gap}{_SPLIT}{reasons.get(gap, NO_REASON)}" for gap in gaps]
        waiting += sum(line.endswith(NO_REASON) for line in lines)
        path.write_text("\n".join(lines) + "\n")
    return waiting


def main() -> int:
    """Show or write."""
    from certctl.api.app import openapi_document

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    document = Document(openapi_document())
    if not parser.parse_args().write:
        for gaps in found_gaps(document).values():
            sys.stdout.writelines(f"{gap}\n" for gap in gaps)
        return 0
    waiting = write(document)
    if waiting:
        sys.stderr.write(f"{waiting} gaps need a reason: look for {NO_REASON} under {GAPS}\n")
    return 1 if waiting else 0


if __name__ == "__main__":
    sys.exit(main())
