"""What a rule judges: a certificate, asked for or at hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from msgspec import Struct

from certctl.core.names import Name


class Subject(Struct, frozen=True, kw_only=True):
    """A certificate, asked for or at hand.

    `validity` is the life that is asked for, `lifetime` that of what was signed, `lead` how long before its end it is
    renewed (None: never by itself), `remaining` what is left of what was signed; None where there is nothing yet.
    """

    certificate_id: str
    issuer_id: str
    names: tuple[Name, ...]
    environment: str
    owner_id: str
    team_id: str
    tags: Mapping[str, str]
    lead: timedelta | None
    validity: timedelta | None = None
    lifetime: timedelta | None = None
    remaining: timedelta | None = None
