"""What a caller may see. Every function of `store/` takes a Scope, without a default; a miss by scope is a 404.

A Scope is a union of reaches, a Reach is a conjunction of limits: "team web, under profile p" or "issuer i" is two
reaches. `None` in a limit means "no limit of this kind"; a Scope without reaches sees nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, product
from typing import Any

import msgspec
from msgspec import Struct

from certctl.core.errors import NotAllowed

_MOST_COMBINATIONS = 10_000

# what the API calls the limits of a grant, and the field of a Reach that holds each
SCOPE_TYPES = {"team": "teams", "profile": "profiles", "issuer": "issuers"}
GLOBAL = "global"


class Reach(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits that hold together: owner teams, profiles and issuers, by id."""

    teams: tuple[str, ...] | None = None
    profiles: tuple[str, ...] | None = None
    issuers: tuple[str, ...] | None = None

    @classmethod
    def of(cls, scope_type: str, scope_id: str) -> Reach:
        """The reach of one grant as the API names it; `scope_type` is global, team, profile or issuer."""
        if scope_type == GLOBAL:
            return EVERYTHING
        return _LIMITS[SCOPE_TYPES[scope_type]]((scope_id,))

    def limits(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The limits that are set: (field, ids)."""
        if self.teams is not None:
            yield "teams", self.teams
        if self.profiles is not None:
            yield "profiles", self.profiles
        if self.issuers is not None:
            yield "issuers", self.issuers

    def without(self, field: str) -> Reach:
        """The same without one limit."""
        changes: dict[str, Any] = {field: None}
        return msgspec.structs.replace(self, **changes)

    def narrowed(self, other: Reach) -> Reach:
        """What lies within both."""
        return Reach(
            teams=_both(self.teams, other.teams),
            profiles=_both(self.profiles, other.profiles),
            issuers=_both(self.issuers, other.issuers),
        )

    def within(self, other: Reach) -> bool:
        """Whether all that this reaches lies within `other`."""
        mine = dict(self.limits())
        return all(field in mine and set(mine[field]) <= set(ids) for field, ids in other.limits())

    @property
    def is_empty(self) -> bool:
        """Whether a limit allows nothing."""
        return any(not ids for _, ids in self.limits())

    def singles(self) -> Iterator[Reach]:
        """The same as a union of reaches with one id a limit."""
        limits = list(self.limits())
        for ids in product(*(allowed for _, allowed in limits)):
            values: dict[str, Any] = {field: (one,) for (field, _), one in zip(limits, ids, strict=True)}
            yield Reach(**values)


EVERYTHING = Reach()
_LIMITS = {
    "teams": lambda ids: Reach(teams=ids),
    "profiles": lambda ids: Reach(profiles=ids),
    "issuers": lambda ids: Reach(issuers=ids),
}


class Scope(Struct, frozen=True, forbid_unknown_fields=True):
    """A tenant, and within it the union of `reaches`. Stored ones that cannot be read in full are refused."""

    tenant_id: str
    reaches: tuple[Reach, ...] = (EVERYTHING,)

    @classmethod
    def whole(cls, tenant_id: str) -> Scope:
        """All of one tenant: what the engine itself works under."""
        return cls(tenant_id=tenant_id)

    @classmethod
    def union(cls, tenant_id: str, reaches: Iterable[Reach]) -> Scope:
        """The union of reaches, in its shortest form; of none, nothing."""
        found = dict.fromkeys(reach for reach in reaches if not reach.is_empty)
        return cls.whole(tenant_id) if EVERYTHING in found else cls(tenant_id, tuple(found))

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the tenant is out of sight."""
        return EVERYTHING in self.reaches

    def ids(self, field: str) -> tuple[str, ...] | None:
        """The ids of one kind (`teams`, `profiles`, `issuers`) that are reached at all; None when all are."""
        found: dict[str, None] = {}
        for reach in self.reaches:
            limit: tuple[str, ...] | None = getattr(reach, field)
            if limit is None:
                return None
            found |= dict.fromkeys(limit)
        return tuple(found)

    def narrowed(self, other: Scope) -> Scope:
        """What lies within both; nothing for two tenants."""
        if self.tenant_id != other.tenant_id:
            return Scope.union(self.tenant_id, ())
        return Scope.union(self.tenant_id, (mine.narrowed(theirs) for mine in self.reaches for theirs in other.reaches))

    def covers(self, other: Scope) -> bool:
        """Whether all of `other` lies within this one; in doubt (thousands of combinations) no."""
        if self.tenant_id != other.tenant_id:
            return False
        singles = islice((single for reach in other.reaches for single in reach.singles()), _MOST_COMBINATIONS + 1)
        seen = 0
        for single in singles:
            seen += 1
            if not any(single.within(reach) for reach in self.reaches):
                return False
        return seen <= _MOST_COMBINATIONS

    def check_admits(self, **ids: str) -> None:
        """NotAllowed unless what is written would be seen by its writer; `ids` are `teams`, `profiles`, `issuers`.

        Asked before anything is looked up: a foreign id and one that does not exist read the same.
        """
        thing = Reach(**{field: (value,) for field, value in ids.items()})
        if any(thing.within(reach) for reach in self.reaches):
            return
        told = [
            f"{field[:-1]} {', '.join(allowed[:5]) or 'none'}"
            for field in ("teams", "profiles", "issuers")
            if (allowed := self.ids(field)) is not None
        ]
        raise NotAllowed(f"outside what your grants reach ({'; '.join(told) or 'each of them is narrower'})")

    def check_whole(self, what: str) -> None:
        """NotAllowed for whoever reaches a part of the tenant only."""
        if not self.is_whole:
            raise NotAllowed(f"{what} needs a grant without limits; yours reaches a part only")


def _both(mine: tuple[str, ...] | None, theirs: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if mine is None:
        return theirs
    return mine if theirs is None else tuple(each for each in mine if each in theirs)
