"""JSON Schemas of the structs that server, client and command line share, with an example each.

A body that callers send is closed: what it does not know is refused, so the schema says so; fields that only the server
writes are told as read-only.
"""

from __future__ import annotations

import re
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from certctl.api.document.examples import example_of

REFERENCE = "#/components/schemas/"
_PAGE = re.compile(r"PageOf_(?:[a-z_]+\.)*(\w+?)_")

Schema = dict[str, Any]


class Schemas:
    """Collects the types that the document speaks of."""

    def __init__(self) -> None:
        self._kinds: dict[str, Any] = {}
        self._bodies: dict[str, type[msgspec.Struct]] = {}

    def of(self, kind: Any) -> Schema:
        """The schema of any type, its structs by reference."""
        choices = get_args(kind) if get_origin(kind) in {Union, UnionType} else ()
        if sum(isinstance(each, type) and issubclass(each, msgspec.Struct) for each in choices) > 1:
            return {"anyOf": [self.of(each) for each in choices]}  # msgspec reads no such union, it only writes one
        self._kinds[repr(kind)] = kind
        (schema,), _ = _components([kind])
        return schema

    def of_body(self, kind: type[msgspec.Struct]) -> Schema:
        """The schema of what a caller sends."""
        self._bodies[kind.__name__] = kind
        return self.of(kind)

    def components(self) -> dict[str, Schema]:
        """Every struct met, by name."""
        _, found = _components(list(self._kinds.values()))
        for name, kind in self._bodies.items():
            found[name] = _closed(found[name], kind)
        _tell_moments(list(self._kinds.values()), found)
        for name, schema in found.items():
            if schema.get("type") == "object":
                schema["examples"] = [example_of(name, found)]
        return dict(sorted(found.items()))


def _components(kinds: list[Any]) -> tuple[list[Schema], dict[str, Schema]]:
    schemas, found = msgspec.json.schema_components(kinds, ref_template=REFERENCE + "{name}")
    renamed = {_name(name): _renamed(schema) for name, schema in found.items()}
    return [_renamed(schema) for schema in schemas], renamed


def _name(name: str) -> str:
    """`PageOf_CertificateView_` reads as CertificatePage."""
    match = _PAGE.fullmatch(name)
    return match.group(1).removesuffix("View") + "Page" if match else name


def _renamed(item: Any) -> Any:
    if isinstance(item, dict):
        changed = {key: _renamed(value) for key, value in item.items()}
        if isinstance(item.get("$ref"), str):
            changed["$ref"] = REFERENCE + _name(item["$ref"].removeprefix(REFERENCE))
        if isinstance(item.get("title"), str):
            changed["title"] = re.sub(r"PageOf\[(\w+?)(View)?\]", r"\1Page", item["title"])
        return changed
    return [_renamed(each) for each in item] if isinstance(item, list) else item


def _tell_moments(kinds: list[Any], found: dict[str, Schema]) -> None:
    """Msgspec tells no format of a time; ours have a zone always (RFC 3339)."""
    waiting: list[Any] = list(msgspec.inspect.multi_type_info(kinds))
    seen: set[str] = set()
    while waiting:
        info = waiting.pop()
        waiting += _within(info)
        if isinstance(info, msgspec.inspect.StructType) and repr(info.cls) not in seen:
            seen.add(repr(info.cls))
            properties = found.get(info.cls.__name__, {}).get("properties", {})
            for field in info.fields:
                waiting.append(field.type)
                if field.encode_name in properties and any(
                    isinstance(each, msgspec.inspect.DateTimeType) for each in (field.type, *_within(field.type))
                ):
                    properties[field.encode_name] = _moment(properties[field.encode_name])


def _within(info: Any) -> list[Any]:
    """The types that a container or a choice is made of."""
    inner = [*getattr(info, "types", ()), *(getattr(info, name, None) for name in ("item_type", "value_type"))]
    return [each for each in inner if each is not None]


def _moment(schema: Schema) -> Schema:
    if "anyOf" in schema:
        return schema | {"anyOf": [_moment(each) for each in schema["anyOf"]]}
    return schema | {"format": "date-time"} if schema.get("type") == "string" else schema


def _closed(schema: Schema, kind: type[msgspec.Struct]) -> Schema:
    ignored = sorted(getattr(kind, "read_only", frozenset()))
    told = {name: {"readOnly": True, "description": "written by the server alone; ignored here"} for name in ignored}
    properties = {name: told[name] for name in told if name not in schema["properties"]}
    return schema | {"properties": schema["properties"] | properties, "additionalProperties": False}
