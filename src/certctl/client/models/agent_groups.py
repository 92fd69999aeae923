"""Agent groups: the reference product's fields."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from certctl.client.models.bounds import Id, LongText, Text

Word = Annotated[str, Meta(max_length=100)]
Cidr = Annotated[str, Meta(max_length=64)]
VersionBounds = Annotated[str, Meta(max_length=200)]


class AgentGroupView(Struct, frozen=True, kw_only=True):
    """One group. What it asks for must all fit; an empty criterion asks nothing, none at all matches nobody."""

    id: str
    name: str
    description: str
    match_os: str
    match_architecture: str
    match_ip_cidr: str
    match_version: str
    enabled: bool
    created_at: datetime
    updated_at: datetime
    row_version: int = 0


class AgentGroupWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may say of a group; what is absent on an update stays, an empty text clears a criterion.

    `match_os`, `match_architecture`: a word, `*` for any run. `match_ip_cidr`: a network, IPv4 or IPv6.
    `match_version`: `2.1.*` or bounds such as `>=2.1, <3`.
    """

    read_only: ClassVar[frozenset[str]] = frozenset({"row_version", "created_at", "updated_at"})
    # what null clears in a merge patch, and to what
    cleared: ClassVar[Mapping[str, Any]] = {
        "description": "",
        "match_os": "",
        "match_architecture": "",
        "match_ip_cidr": "",
        "match_version": "",
    }

    id: Id | None = None
    name: Text | None = None
    description: LongText | None = None
    match_os: Word | None = None
    match_architecture: Word | None = None
    match_ip_cidr: Cidr | None = None
    match_version: VersionBounds | None = None
    enabled: bool | None = None
