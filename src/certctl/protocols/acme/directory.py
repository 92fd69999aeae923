"""The directory (RFC 8555 7.1.1): where everything is, and what is asked of clients here."""

from __future__ import annotations

from typing import Any

from certctl.core.catalogue import Profile
from certctl.protocols.acme import offers
from certctl.protocols.acme.accounts import binding_is_required
from certctl.protocols.acme.entering import House, profile_of
from certctl.protocols.acme.exchange import Place, Reply, json_reply


async def check(house: House, place: Place) -> Profile:
    """The profile of a place; a refusal when there is none."""
    async with house.state.ctx.database.read() as tx:
        return await profile_of(tx, house, place)


async def show(house: House, place: Place) -> Reply:
    """The directory object."""
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
    told: dict[str, Any] = {
        "newNonce": place.at("new-nonce"),
        "newAccount": place.at("new-account"),
        "newOrder": place.at("new-order"),
        "revokeCert": place.at("revoke-cert"),
        "keyChange": place.at("key-change"),
    }
    if rules.ari_enabled:
        told["renewalInfo"] = place.at("renewal-info")
    return json_reply(told | {"meta": meta})
