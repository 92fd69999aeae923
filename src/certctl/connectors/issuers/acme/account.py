"""Our account at the CA (RFC 8555 7.3): made once, found again by its key, its key changed without a gap."""

from __future__ import annotations

import binascii
from typing import Any

import httpx

from certctl.connectors.base.issuer import AccountBook, CaAccount
from certctl.connectors.issuers.acme.client import AcmeClient
from certctl.connectors.issuers.acme.config import AcmeConfig
from certctl.connectors.issuers.acme.problems import CaRefusal
from certctl.core.errors import Malformed, Misconfigured, Temporary
from certctl.pki.keys import load_private_key
from certctl.wire import jws


async def known_account(session: httpx.AsyncClient, config: AcmeConfig, accounts: AccountBook) -> AcmeClient:
    """A conversation in the name of our account, which is made if the CA does not know it yet."""
    kept = await accounts.open(config.directory_url)
    if kept.next_key_pem:
        await _settle_key_change(session, config, accounts, kept)
        kept = await accounts.open(config.directory_url)
    client = AcmeClient(session, config.directory_url, load_private_key(kept.key_pem), kept.url)
    if not kept.url:
        await accounts.registered(config.directory_url, await _register(client, config, fresh=kept.fresh))
    return client


async def _register(client: AcmeClient, config: AcmeConfig, *, fresh: bool) -> str:
    if not fresh:  # an answer may have been lost: an external account's key is often good for one registration only
        try:
            return await client.register({"onlyReturnExisting": True})
        except CaRefusal as refusal:
            if refusal.problem.kind != "accountDoesNotExist":
                raise
    meta = (await client.directory()).meta
    if meta.terms_of_service and not config.terms_of_service_agreed:
        raise Misconfigured(
            f"the CA asks to agree to its terms of service at {meta.terms_of_service[:300]}: read them, then set "
            "terms_of_service_agreed in the issuer's configuration"
        )
    if meta.external_account_required and not config.eab_kid:
        raise Misconfigured("the CA binds accounts to external ones: give eab_kid and eab_hmac in the configuration")
    payload: dict[str, Any] = {"termsOfServiceAgreed": config.terms_of_service_agreed}
    if config.email:
        payload["contact"] = [f"mailto:{config.email}"]
    return await client.register(payload, _binding(config))


def _binding(config: AcmeConfig) -> tuple[str, bytes] | None:
    if not config.eab_kid:
        return None
    try:
        # CAs hand it out in base64url, some with padding
        return config.eab_kid, jws.decode(config.eab_hmac.reveal().strip().rstrip("="), "eab_hmac")
    except (Malformed, binascii.Error) as error:
        raise Misconfigured("eab_hmac is not base64url, as CAs hand it out") from error


async def roll_key(session: httpx.AsyncClient, config: AcmeConfig, accounts: AccountBook) -> str:
    """Store a next key, have the CA take it, make it the key. In whatever order it breaks off, one of both is good."""
    client = await known_account(session, config, accounts)
    changing = await accounts.begin_key_change(config.directory_url)
    try:
        await client.change_key(load_private_key(changing.next_key_pem))
    except CaRefusal as refusal:
        if refusal.problem.status < 500:  # it was understood and refused: nothing was changed
            await accounts.end_key_change(config.directory_url, changed=False)
        raise
    await accounts.end_key_change(config.directory_url, changed=True)
    return f"account {client.account_url} has another key from now on"


async def _settle_key_change(
    session: httpx.AsyncClient, config: AcmeConfig, accounts: AccountBook, kept: CaAccount
) -> None:
    """A change broke off: whichever of the two keys the CA knows the account by is the key."""
    for pem, changed in ((kept.next_key_pem, True), (kept.key_pem, False)):
        client = AcmeClient(session, config.directory_url, load_private_key(pem))
        try:
            await client.register({"onlyReturnExisting": True})
        except CaRefusal as refusal:
            if refusal.problem.kind != "accountDoesNotExist":
                raise
            continue
        await accounts.end_key_change(config.directory_url, changed=changed)
        return
    if not kept.url:
        await accounts.end_key_change(config.directory_url, changed=False)
        return
    raise Temporary("the CA knows our account by neither the old nor the new key of a key change that broke off")
