"""What somebody may do, worked out from their keys, roles and grants; what they may give to others; who stays admin.

Nobody gives what they lack, nor further than it reaches. The last administrator that nothing will end by itself stays.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from certctl.control.changes import fault
from certctl.core import permissions
from certctl.core.actor import Actor, ActorType
from certctl.core.catalogue import ActorRole, ApiKey, IssuerRecord, Profile, Role, Team
from certctl.core.errors import Conflict, NotAllowed
from certctl.core.permissions import AGENT_PERMISSIONS, Bundle, effective, held_by_built_in
from certctl.core.scope import GLOBAL, SCOPE_TYPES, Reach, Scope
from certctl.lifecycle.context import Context
from certctl.store import catalogue, identity
from certctl.store.tx import Tx

Held = tuple[tuple[str, Reach], ...]

# who has these without limits can give everybody, themselves too, whatever is missing
_ADMIN = ("auth.key.create", "auth.key.delete", "auth.role.assign")
_KINDS: dict[str, type[Any]] = {"teams": Team, "profiles": Profile, "issuers": IssuerRecord}


class Access(Struct, frozen=True, kw_only=True):
    """What somebody may do and how far; `changes_at` is when the next of their grants ends."""

    permissions: Mapping[str, Scope]
    role_ids: tuple[str, ...]
    changes_at: datetime | None = None


class Giver(Struct, frozen=True, kw_only=True):
    """Who gives: what they hold is the most they can give, and not for longer than `until`."""

    actor: Actor
    permissions: Mapping[str, Scope]
    until: datetime | None = None

    def reach(self, permission: str) -> Scope:
        """How far a permission of theirs reaches; NotAllowed without it."""
        found = self.permissions.get(permission)
        if found is None:
            raise NotAllowed(f"this needs the permission {permission}, which {self.actor.id} does not have")
        return found

    def check_gives(self, given: Mapping[str, Scope], until: datetime | None) -> None:
        """NotAllowed when something given is more, reaches further or lasts longer than what they have."""
        nothing = Scope.union("", ())
        beyond = sorted(name for name, reach in given.items() if not self.permissions.get(name, nothing).covers(reach))
        if beyond:
            raise NotAllowed(f"you cannot give what you do not have, nor further: {', '.join(beyond[:5])}")
        if self.until is not None and (until is None or until > self.until):
            raise NotAllowed(f"your own key ends at {self.until.isoformat()}; what you give cannot last longer")


async def open_roles(tx: Tx, scope: Scope, role_ids: Iterable[str]) -> dict[str, Held]:
    """What roles hold, by id; a role that is not there holds nothing."""
    opened: dict[str, Held] = {}
    made: list[str] = []
    for role_id in dict.fromkeys(role_ids):
        built_in = held_by_built_in(role_id)
        if built_in is None:
            made.append(role_id)
        opened[role_id] = built_in or ()
    for row in await identity.held_by(tx, scope, made):
        opened[row.role_id] = (*opened[row.role_id], (row.permission, Reach.of(row.scope_type, row.scope_id)))
    return opened


async def of_key(tx: Tx, scope: Scope, key: ApiKey, now: datetime) -> Access:
    """What an API key may do: the roles it was made with, within its limits, and what it was granted since."""
    if key.agent_id:
        whole = Scope.whole(key.tenant_id)
        return Access(permissions=dict.fromkeys(AGENT_PERMISSIONS, whole), role_ids=tuple(key.role_ids))
    grants = await identity.grants_of(tx, scope, ActorType.API_KEY, [key.name])
    return await _open(tx, scope, [(role_id, reach_of(key)) for role_id in key.role_ids], grants, now)


async def of_user(tx: Tx, scope: Scope, user_id: str, now: datetime) -> Access:
    """What a person may do."""
    return await _open(tx, scope, [], await identity.grants_of(tx, scope, ActorType.USER, [user_id]), now)


async def of_roles(tx: Tx, scope: Scope, role_ids: Iterable[str], reach: Reach) -> Mapping[str, Scope]:
    """What somebody with these roles within this reach could do."""
    opened = await open_roles(tx, scope, role_ids)
    return effective(scope.tenant_id, [Bundle(reach, held) for held in opened.values()])


async def _open(
    tx: Tx, scope: Scope, made_with: Sequence[tuple[str, Reach]], grants: Sequence[ActorRole], now: datetime
) -> Access:
    alive = [grant for grant in grants if grant.expires_at is None or grant.expires_at > now]
    holdings = [*made_with, *((grant.role_id, Reach.of(grant.scope_type, grant.scope_id)) for grant in alive)]
    opened = await open_roles(tx, scope, (role_id for role_id, _ in holdings))
    ends = [grant.expires_at for grant in alive if grant.expires_at is not None]
    return Access(
        permissions=effective(scope.tenant_id, [Bundle(reach, opened[role_id]) for role_id, reach in holdings]),
        role_ids=tuple(dict.fromkeys(role_id for role_id, _ in holdings)),
        changes_at=min(ends, default=None),
    )


def reach_of(key: ApiKey) -> Reach:
    """The limits that a key was made with."""
    return Reach(teams=_limit(key.teams), profiles=_limit(key.profiles), issuers=_limit(key.issuers))


def _limit(ids: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if ids is None else tuple(ids)


def is_admin(held: Mapping[str, Scope]) -> bool:
    """Whether somebody holds, without limits, what makes an administrator."""
    return all(name in held and held[name].is_whole for name in _ADMIN)


@contextlib.asynccontextmanager
async def keeping_an_admin(tx: Tx, ctx: Context) -> AsyncIterator[None]:
    """Around a change that may take rights away: Conflict when it would leave no lasting key of an administrator."""
    await identity.lock(tx)
    before = await _has_lasting_admin(tx, ctx)
    yield
    identity.changed(tx)
    if before and not await _has_lasting_admin(tx, ctx):
        raise Conflict(
            "this would leave no lasting API key of an administrator (all rights without limits, no expiry); "
            "make another one first, or nobody could get in again"
        )


async def _has_lasting_admin(tx: Tx, ctx: Context) -> bool:
    granted: dict[str, list[ActorRole]] = {}
    for grant in await identity.grants_of(tx, ctx.scope, ActorType.API_KEY):
        if grant.expires_at is None:
            granted.setdefault(grant.actor_id, []).append(grant)
    keys = await identity.lasting_keys(tx, ctx.scope)
    named = {role_id for key in keys for role_id in key.role_ids}
    opened = await open_roles(tx, ctx.scope, named | {one.role_id for rows in granted.values() for one in rows})
    # most keys are no administrator's: what no role of theirs names need not be worked out
    hopeful = {role_id for role_id, held in opened.items() if {name for name, _ in held} & set(_ADMIN)}
    for key in keys:
        holdings = [(role_id, reach_of(key)) for role_id in key.role_ids]
        holdings += [(one.role_id, Reach.of(one.scope_type, one.scope_id)) for one in granted.get(key.name, ())]
        if any(role_id in hopeful for role_id, _ in holdings) and is_admin(
            effective(ctx.scope.tenant_id, [Bundle(reach, opened[role_id]) for role_id, reach in holdings])
        ):
            return True
    return False


async def check_role(tx: Tx, scope: Scope, role_id: str, field: str = "role_id") -> None:
    """Malformed unless there is such a role."""
    if role_id in permissions.ROLES or await catalogue.find(tx, scope, Role, id=role_id) is not None:
        return
    raise fault("unknown_role", f"no role {role_id}", field)


def read_reach(scope_type: str, scope_id: str) -> Reach:
    """The reach that a body names; Malformed for an unknown type. Whether the thing is there is asked later."""
    if scope_type == GLOBAL:
        if scope_id:
            raise fault("scope_has_no_id", "a global scope has no scope_id", "scope_id")
        return Reach.of(GLOBAL, "")
    if scope_type not in SCOPE_TYPES:
        raise fault("unknown_scope_type", f"scope_type is global, {', '.join(sorted(SCOPE_TYPES))}", "scope_type")
    return Reach.of(scope_type, scope_id)


async def check_reach(tx: Tx, scope: Scope, reach: Reach) -> None:
    """Malformed when something that a reach names is not there. Ask `check_gives` before: it tells of no foreign id."""
    for field, ids in reach.limits():
        for each in ids:
            if await catalogue.find(tx, scope, _KINDS[field], id=each) is None:
                raise fault("unknown_reference", f"no {field[:-1]} {each}", "scope_id")
