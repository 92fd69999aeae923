"""Keys of external accounts for ACME (RFC 8555 7.3.4): made once shown once, sealed at rest, bound, revoked.

Such a key lets whoever has it issue under one profile and those that its directory offers, for one owner and team,
within the names it lists: nobody gives more than they have themselves.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from certctl.control.access import Giver
from certctl.control.changes import check_name, fault, note
from certctl.control.keys import check_end
from certctl.core.acme import ExternalKey
from certctl.core.catalogue import Owner, Profile, Team
from certctl.core.errors import Conflict, Malformed, NotFound
from certctl.core.events import EventType
from certctl.core.ids import new_id
from certctl.core.names import canonical_dns
from certctl.core.scope import Reach, Scope
from certctl.core.secret import Secret
from certctl.lifecycle.context import Context
from certctl.store import acme, catalogue, sealed
from certctl.store.tx import Tx
from certctl.wire import jws

_SECRET_BYTES = 32
_MOST_NAMES = 100
_SUBJECT = "acme_external_key"


class ExternalKeyWish(Struct, frozen=True, kw_only=True):
    """A key to make."""

    name: str
    profile_id: str
    owner_id: str = ""
    team_id: str = ""
    allowed_names: Sequence[str] = ()
    reusable: bool = False
    expires_at: datetime | None = None


async def create(ctx: Context, giver: Giver, wish: ExternalKeyWish) -> tuple[ExternalKey, Secret]:
    """A new key and its secret (base64url), which is never shown again. Malformed, NotAllowed or Conflict; and
    Misconfigured when the config key was rotated since this process started: nobody could open the secret.
    """
    check_end(ctx, wish.expires_at)
    names = [_rule(text, index) for index, text in enumerate(wish.allowed_names)]
    if len(names) > _MOST_NAMES:
        raise fault("too_many_names", f"allowed_names has at most {_MOST_NAMES} entries", "allowed_names")
    octets, key_id = secrets.token_bytes(_SECRET_BYTES), new_id("eab")
    key = ExternalKey(
        tenant_id=ctx.scope.tenant_id,
        id=key_id,
        name=check_name(wish.name),
        profile_id=wish.profile_id,
        sealed=ctx.sealer.seal(octets, f"certctl/acme_external_keys/{key_id}"),
        owner_id=wish.owner_id,
        team_id=wish.team_id,
        allowed_names=names,
        reusable=wish.reusable,
        expires_at=wish.expires_at,
        created_by=giver.actor.id,
        created_at=ctx.now(),
        bound_account_id="",
        bound_at=None,
        revoked_at=None,
    )
    async with ctx.database.begin("acme.key.create") as tx:
        # asked before anything is looked up: a foreign id and one that does not exist read the same
        giver.check_gives({"cert.issue": _reach(ctx, key)}, wish.expires_at)
        await _check_references(tx, ctx, key)
        profile = await catalogue.get(tx, ctx.scope, Profile, key.profile_id)
        giver.check_gives({"cert.issue": _reach(ctx, key, profile.acme_profiles)}, wish.expires_at)
        await sealed.require_key(tx, ctx.scope, ctx.sealer.key_id)
        try:
            await acme.insert(tx, ctx.scope, key)
        except Conflict as error:
            raise Conflict(f"an external account key named {key.name} already exists") from error
        await note(tx, ctx, giver.actor, EventType.CONFIG_CREATED, _SUBJECT, key.id, [wish.profile_id])
    return key, Secret(jws.encode(octets))  # clients want base64url without padding


def _reach(ctx: Context, key: ExternalKey, offered: Sequence[str] = ()) -> Scope:
    teams = (key.team_id,) if key.team_id else None
    return Scope.union(ctx.scope.tenant_id, [Reach(teams=teams, profiles=(key.profile_id, *offered))])


def _rule(text: str, index: int) -> str:
    """A domain, an exact name behind `=`, or a network, in its one form."""
    field = f"allowed_names[{index}]"
    exact, bare = text.startswith("="), text.removeprefix("=")
    try:
        return str(ipaddress.ip_network(bare, strict=False))
    except ValueError:
        pass
    try:
        name = canonical_dns(bare, field)
    except Malformed as error:
        raise fault("name_rule_has_wrong_form", f"{field}: {error.message}", field) from error
    if name.startswith("*.") and not exact:
        raise fault("name_rule_is_a_wildcard", f"{field}: a domain covers all below it; leave *. away", field)
    return f"={name}" if exact else name


async def _check_references(tx: Tx, ctx: Context, key: ExternalKey) -> None:
    kinds: tuple[tuple[type[Struct], str, str], ...] = (
        (Profile, key.profile_id, "profile_id"),
        (Owner, key.owner_id, "owner_id"),
        (Team, key.team_id, "team_id"),
    )
    for kind, record_id, field in kinds:
        if record_id or kind is Profile:
            try:
                await catalogue.get(tx, ctx.scope, kind, record_id)
            except NotFound as error:
                raise fault("unknown_reference", error.message, field) from error


async def revoke(ctx: Context, giver: Giver, scope: Scope, key_id: str) -> None:
    """Revoke a key: no account is made with it, and those that were order nothing more. Twice is once."""
    async with ctx.database.begin("acme.key.revoke") as tx:
        key = await acme.external_key(tx, scope, key_id, lock=True)
        if key is None:
            raise NotFound(f"no external account key {key_id}")
        if key.revoked_at is None:
            await acme.change(tx, ctx.scope, ExternalKey, key.id, revoked_at=ctx.now())
            await note(tx, ctx, giver.actor, EventType.CONFIG_DELETED, _SUBJECT, key.id)
