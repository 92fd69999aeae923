"""The directory (RFC 8555 7.1.1): where everything is, and what is asked of clients here."""

from __future__ import annotations

from typing import Any

from certctl.core.errors import Malformed
from certctl.protocols.acme import offers
from certctl.protocols.acme.accounts import binding_is_required
from certctl.protocols.acme.entering import Asked, House, profile_of
from certctl.protocols.acme.exchange import Place, Reply, json_reply


async def check(house: House, place: Place) -> None:
    """A refusal where there is no such profile. One that was there a moment ago is taken to be there still: all that is
    given for it is a nonce, which is good for nothing by itself.
    """
    now = house.state.ctx.now()
    if house.crowd.was_there(place.profile_id, now):
        return
    async with house.state.ctx.database.read() as tx:
        await profile_of(tx, house, place)
    house.crowd.is_there(place.profile_id, now)


async def show(house: House, place: Place) -> Reply:
    """The directory object."""
    meta = await _meta(house, place)
    house.crowd.said(place.profile_id, meta, house.state.ctx.now())
    return _reply(house, place, meta)


async def show_signed(asked: Asked) -> Reply:
    """The directory object, by POST-as-GET."""
    _check_read(asked)
    return await show(asked.house, asked.place)


async def nonce_signed(asked: Asked) -> Reply:
    """A nonce, by POST-as-GET; every answer to a POST carries one."""
    _check_read(asked)
    return Reply(status=204)


def _check_read(asked: Asked) -> None:
    if not asked.is_read:
        raise Malformed("this is read with GET or POST-as-GET: an empty payload")


def repeat(house: House, place: Place) -> Reply | None:
    """The directory object as it was a moment ago, from memory; None where nobody asked for it lately."""
    meta = house.crowd.last_said(place.profile_id, house.state.ctx.now())
    return _reply(house, place, meta) if meta is not None else None


async def _meta(house: House, place: Place) -> dict[str, Any]:
    async with house.state.ctx.database.read() as tx:
        profile = await profile_of(tx, house, place)
        profiles = await offers.told(tx, house, profile)
    rules = house.rules
    meta: dict[str, Any] = {
        "externalAccountRequired": binding_is_required(house, profile.acme_auth_mode),
        "profiles": profiles,
    }
    if rules.terms_of_service:
        meta["termsOfService"] = rules.terms_of_service
    if rules.website:
        meta["website"] = rules.website
    if rules.caa_identities:
        meta["caaIdentities"] = list(rules.caa_identities)
    return meta


def _reply(house: House, place: Place, meta: dict[str, Any]) -> Reply:
    told: dict[str, Any] = {
        "newNonce": place.at("new-nonce"),
        "newAccount": place.at("new-account"),
        "newOrder": place.at("new-order"),
        "revokeCert": place.at("revoke-cert"),
        "keyChange": place.at("key-change"),
    }
    if house.rules.ari_enabled:
        told["renewalInfo"] = place.at("renewal-info")
    return json_reply(told | {"meta": meta})
