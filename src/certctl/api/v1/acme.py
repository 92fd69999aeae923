"""/api/v1/acme/external-account-keys: who vouches for ACME accounts. The ACME server itself is no part of this API."""

from __future__ import annotations

from litestar import delete, get, post
from litestar.params import FromPath, JSONBody

from certctl.api.guard import needs
from certctl.api.lists import answer_list, listed
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.acme import ExternalKeyView, ExternalKeyWrite, NewExternalKey
from certctl.client.models.page import PageOf
from certctl.control import external_accounts
from certctl.store.acme_listings import EXTERNAL_KEYS


@get(
    "/acme/external-account-keys",
    opt=needs("auth.key.list") | listed(EXTERNAL_KEYS),
    summary="List external account keys for ACME",
)
async def list_external_keys(request: ApiRequest) -> PageOf[ExternalKeyView]:
    """By name, revoked ones too, never their secrets."""
    return await answer_list(request, ExternalKeyView)


@post(
    "/acme/external-account-keys",
    status_code=201,
    opt=needs("auth.key.create"),
    summary="Make an external account key for ACME",
)
async def create_external_key(request: ApiRequest, data: JSONBody[ExternalKeyWrite]) -> NewExternalKey:
    """Its secret is shown this once. Nobody gives more than they may issue themselves."""
    wish = external_accounts.ExternalKeyWish(
        name=data.name,
        profile_id=data.profile_id,
        owner_id=data.owner_id,
        team_id=data.team_id,
        allowed_names=tuple(data.allowed_names),
        reusable=data.reusable,
        expires_at=data.expires_at,
    )
    key, secret = await external_accounts.create(request.ctx, request.caller.giver, wish)
    path = f"/acme/profile/{key.profile_id}/directory"
    return shown(NewExternalKey, key, hmac_key=secret.reveal(), directory_path=path)


@delete(
    "/acme/external-account-keys/{key_id:str}",
    status_code=204,
    opt=needs("auth.key.delete"),
    summary="Revoke an external account key for ACME",
)
async def delete_external_key(request: ApiRequest, key_id: FromPath[str]) -> None:
    """At once: no account is made with it any more, and those that were order nothing more."""
    await external_accounts.revoke(request.ctx, request.caller.giver, request.visible, key_id)


HANDLERS = (list_external_keys, create_external_key, delete_external_key)
