"""The navigation, as data: what is built, under which heading, for whom."""

from __future__ import annotations

from msgspec import Struct

from certctl.store.stats import Summary
from certctl.web.words import gettext as _
from certctl.web.words import number


class Entry(Struct, frozen=True, kw_only=True):
    """One entry of the navigation."""

    path: str
    icon: str
    text: str
    permission: str
    count: str = ""
    waits: bool = False


class Group(Struct, frozen=True, kw_only=True):
    """Entries under one heading."""

    heading: str
    entries: list[Entry]


def entries(counts: Summary | None) -> list[tuple[str, list[Entry]]]:
    """Every group with its entries; counts are those that the caller may see."""
    certificates = number(counts.total_certificates) if counts else ""
    return [
        (
            "",
            [
                Entry(path="/", icon="i-overview", text=_("Overview"), permission=""),
                Entry(
                    path="/certificates",
                    icon="i-cert",
                    text=_("Certificates"),
                    permission="cert.read",
                    count=certificates,
                ),
            ],
        ),
    ]
