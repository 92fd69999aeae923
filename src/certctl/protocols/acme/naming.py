"""Names as orders keep them, and who may order which."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence

from certctl.core.names import Name, NameKind, parse_name

_WILD = "*."


def kept(name: Name) -> str:
    """`dns:shop.example`."""
    return f"{name.kind}:{name.value}"


def identifier(text: str) -> dict[str, str]:
    """A kept name as ACME shows it."""
    kind, _, value = text.partition(":")
    return {"type": kind, "value": value}


def key_of(names: Sequence[str]) -> str:
    """The same for the same names in any order."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def is_allowed(name: Name, allowed: Sequence[str]) -> bool:
    """Whether an external account's list covers a name: no list covers all.

    `corp.example` covers itself and what is below it, `=host.corp.example` itself alone, `10.1.0.0/16` addresses.
    """
    return not allowed or any(_covers(rule, name) for rule in allowed)


def _covers(rule: str, name: Name) -> bool:
    if name.kind is NameKind.IP:
        try:
            return ipaddress.ip_address(name.value) in ipaddress.ip_network(rule.removeprefix("="), strict=False)
        except (ValueError, TypeError):
            return False
    if rule.startswith("="):
        return name.value == rule[1:]
    base = name.value.removeprefix(_WILD)
    return base == rule or base.endswith(f".{rule}")


def parse(text: str) -> Name:
    """A kept name."""
    return parse_name(text)
