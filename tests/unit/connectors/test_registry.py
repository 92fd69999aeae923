"""The table of connectors."""

from __future__ import annotations

from importlib import import_module

import pytest

from certctl.connectors.registry import ISSUERS, NOTIFIERS, TARGETS, find_entry, target_config_schema
from certctl.core.errors import Unsupported


@pytest.mark.parametrize("kind", ["NGINX", "nginx", "Nginx"])
def test_kinds_match_without_case(kind: str) -> None:
    assert find_entry(TARGETS, kind, "target").kind == "NGINX"


def test_unknown_kind_names_the_known() -> None:
    with pytest.raises(Unsupported, match="Toaster.*known are NGINX"):
        find_entry(TARGETS, "Toaster", "target")
    assert find_entry(ISSUERS, "genericca", "issuer").module == find_entry(ISSUERS, "local", "issuer").module


@pytest.mark.parametrize("entry", [*TARGETS, *ISSUERS, *NOTIFIERS], ids=lambda entry: entry.kind)
def test_every_line_of_the_table_leads_somewhere(entry: object) -> None:
    module = import_module(entry.module)  # type: ignore[attr-defined]
    assert hasattr(module, entry.connector)  # type: ignore[attr-defined]
    assert hasattr(module, entry.config)  # type: ignore[attr-defined]


def test_schema_is_json_schema() -> None:
    assert "$defs" in target_config_schema("nginx")
