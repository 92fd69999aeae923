"""What a caller may see. Every function of `store/` takes a Scope, without a default; a miss by scope is a 404.

`None` in a field means "no limit of this kind"; an empty tuple means "nothing".
"""

from __future__ import annotations

from msgspec import Struct


class Scope(Struct, frozen=True):
    """A tenant, and within it optional limits to teams, profiles and issuers (ids)."""

    tenant_id: str
    teams: tuple[str, ...] | None = None
    profiles: tuple[str, ...] | None = None
    issuers: tuple[str, ...] | None = None

    @classmethod
    def whole(cls, tenant_id: str) -> Scope:
        """All of one tenant: what the engine itself works under."""
        return cls(tenant_id=tenant_id)
