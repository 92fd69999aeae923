"""Accounts (RFC 8555 7.3): made, found, changed, given up, their keys changed, their orders listed.

Where somebody we know has to vouch for an account (external account binding, 7.3.4), nothing is made without it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import msgspec

from certctl.core.acme import TRUST_AUTHENTICATED, AccountStatus, AcmeAccount, ExternalKey
from certctl.core.errors import Conflict, Malformed
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.names import parse_name
from certctl.ledger import append
from certctl.protocols.acme.entering import Asked, House, count, read_inner
from certctl.protocols.acme.exchange import Reply, json_reply
from certctl.store import acme
from certctl.store.tx import Tx
from certctl.telemetry import metrics
from certctl.wire import acme as wire
from certctl.wire import jws
from certctl.wire.acme import AccountUpdate, KeyChange, NewAccount
from certctl.wire.problem import AcmeRefusal, ProblemType

_MOST_CONTACTS = 10
_PAGE = 100
_MAILTO = "mailto:"


def binding_is_required(house: House, auth_mode: str) -> bool:
    """Whether an account has to be vouched for: always where its word alone is trusted."""
    return house.rules.eab_required or (auth_mode or house.rules.default_auth_mode) == TRUST_AUTHENTICATED


def document(asked: Asked, account: AcmeAccount, binding: dict[str, Any] | None = None) -> dict[str, Any]:
    """The account object (RFC 8555 7.1.2); with the binding that was verified just now (7.3.4)."""
    told: dict[str, Any] = {
        "status": account.status,
        "contact": account.contact,
        "orders": asked.place.at("account", account.id, "orders"),
    }
    if account.terms_agreed:
        told["termsOfServiceAgreed"] = True
    if binding is not None:
        told["externalAccountBinding"] = binding
    return told


def _reply(asked: Asked, account: AcmeAccount) -> Reply:
    address = asked.place.at("account", account.id)
    return json_reply(document(asked, account), location=address)


async def create(asked: Asked) -> Reply:
    """newAccount: the account of this key, made if it is new (RFC 8555 7.3, 7.3.1)."""
    wanted = wire.read(asked.payload, NewAccount)
    ctx, now = asked.house.state.ctx, asked.house.state.ctx.now()
    async with ctx.database.begin("acme.account") as tx:
        known = await acme.account_by_key(tx, ctx.scope, asked.profile.id, asked.jwk.thumbprint)
        if known is not None:
            return _found(asked, known)
        if wanted.only_return_existing:
            raise AcmeRefusal(ProblemType.ACCOUNT_DOES_NOT_EXIST, "no account has this key")
        contact = check_contacts(wanted.contact)
        _check_terms(asked, wanted)
        account_id = new_id("acme-acc")
        try:
            bound = await _bind(tx, asked, wanted, account_id)
        except AcmeRefusal:
            # the same key came twice at once, and the other one has just used the binding
            known = await acme.account_by_key(tx, ctx.scope, asked.profile.id, asked.jwk.thumbprint)
            if known is None:
                raise
            return _found(asked, known)
        account = AcmeAccount(
            tenant_id=ctx.scope.tenant_id,
            id=account_id,
            profile_id=asked.profile.id,
            jwk=asked.jwk.canonical,
            thumbprint=asked.jwk.thumbprint,
            status=AccountStatus.VALID,
            contact=contact,
            terms_agreed=wanted.terms_of_service_agreed,
            external_key_id=bound.id if bound is not None else "",
            created_at=now,
            updated_at=now,
        )
        try:
            await acme.insert(tx, ctx.scope, account)
        except Conflict:
            # the same key came twice at once: both are told of the one account
            known = await acme.account_by_key(tx, ctx.scope, asked.profile.id, asked.jwk.thumbprint)
            if known is None:
                raise
            return _found(asked, known)
        details = {"profile_id": account.profile_id, "external_key_id": account.external_key_id}
        await note(tx, asked, EventType.ACME_ACCOUNT_CREATED, account_id, details | {"contact": contact})
    binding = wanted.external_account_binding if bound is not None else None
    address = asked.place.at("account", account.id)
    return json_reply(document(asked, account, binding), status=201, location=address)


def _found(asked: Asked, known: AcmeAccount) -> Reply:
    if known.status != AccountStatus.VALID:
        raise AcmeRefusal(ProblemType.UNAUTHORIZED, f"the account of this key is {known.status}", status=401)
    return _reply(asked, known)


def _check_terms(asked: Asked, wanted: NewAccount) -> None:
    terms = asked.house.rules.terms_of_service
    if terms and not wanted.terms_of_service_agreed:
        raise AcmeRefusal(
            ProblemType.USER_ACTION_REQUIRED,
            f"the terms of service have to be agreed to: {terms}",
            headers=(("link", f'<{terms}>;rel="terms-of-service"'),),
            instance=terms,
        )


def check_contacts(contacts: list[str]) -> list[str]:
    """Only mailto, one address each, no header fields (RFC 8555 7.3)."""
    if len(contacts) > _MOST_CONTACTS:
        raise AcmeRefusal(ProblemType.INVALID_CONTACT, f"an account has at most {_MOST_CONTACTS} contacts")
    for contact in contacts:
        if not contact.startswith(_MAILTO):
            raise AcmeRefusal(ProblemType.UNSUPPORTED_CONTACT, "contacts are mailto addresses")
        try:
            # `?` begins header fields, `,` parts addresses, `%` hides either
            parse_name(f"email:{contact.removeprefix(_MAILTO)}" if not set("?,%") & set(contact) else "email:")
        except Malformed as error:
            raise AcmeRefusal(ProblemType.INVALID_CONTACT, "a contact is no single e-mail address") from error
    return list(dict.fromkeys(contacts))


async def _bind(tx: Tx, asked: Asked, wanted: NewAccount, account_id: str) -> ExternalKey | None:
    """The key of the external account that vouches for this one (RFC 8555 7.3.4)."""
    if wanted.external_account_binding is None:
        if binding_is_required(asked.house, asked.profile.acme_auth_mode):
            raise AcmeRefusal(
                ProblemType.EXTERNAL_ACCOUNT_REQUIRED, "an account here needs an external account binding"
            )
        return None
    inner = read_inner(wanted.external_account_binding)
    if inner.algorithm not in jws.MAC_ALGORITHMS:
        raise AcmeRefusal(ProblemType.BAD_SIGNATURE_ALGORITHM, "the binding is a MAC", algorithms=jws.MAC_ALGORITHMS)
    if "nonce" in inner.header or inner.header.get("url") != asked.jws.header["url"]:
        raise AcmeRefusal(ProblemType.MALFORMED, "the binding has no nonce, and the url of the request around it")
    if jws.read_jwk(jws.read_json(inner.payload, "the binding's payload")).thumbprint != asked.jwk.thumbprint:
        raise AcmeRefusal(ProblemType.MALFORMED, "the binding is for another account key")
    ctx, kid = asked.house.state.ctx, inner.header.get("kid")
    key = await acme.external_key(tx, ctx.scope, kid, lock=True) if isinstance(kid, str) else None
    if key is None or not jws.verify_mac(inner, ctx.sealer.unseal(key.sealed, sealed_as(key.id))):
        raise AcmeRefusal(ProblemType.UNAUTHORIZED, "the external account binding is not one of ours")
    _check_key(asked, key)
    if not key.bound_account_id:
        await acme.change(tx, ctx.scope, ExternalKey, key.id, bound_account_id=account_id, bound_at=ctx.now())
    return key


def sealed_as(key_id: str) -> str:
    """What a sealed external key is bound to."""
    return f"certctl/acme_external_keys/{key_id}"


def _check_key(asked: Asked, key: ExternalKey) -> None:
    now = asked.house.state.ctx.now()
    ended = key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now)
    if ended or key.profile_id != asked.profile.id:
        raise AcmeRefusal(ProblemType.UNAUTHORIZED, "this external account key has ended, or is for another profile")
    if key.bound_account_id and not key.reusable:
        raise AcmeRefusal(ProblemType.UNAUTHORIZED, "this external account key was used for another account")


async def show_or_change(asked: Asked, account_id: str) -> Reply:
    """An account is read, its contacts are changed, or it is given up (RFC 8555 7.3.2, 7.3.6)."""
    _check_own(asked, account_id)
    account = asked.mine
    if asked.is_read:
        return _reply(asked, account)
    wanted = wire.read(asked.payload, AccountUpdate)
    ctx, now = asked.house.state.ctx, asked.house.state.ctx.now()
    async with ctx.database.begin("acme.account") as tx:
        # RFC 8555 7.3.2: any other status that is sent is ignored, as are fields that are not known
        if wanted.status == AccountStatus.DEACTIVATED:
            await acme.move(tx, ctx.scope, AcmeAccount, account.id, AccountStatus.DEACTIVATED, updated_at=now)
            gone = AcmeRefusal(ProblemType.UNAUTHORIZED, "its account was deactivated").document()
            await acme.cancel_orders(tx, ctx.scope, account.id, gone, now)
            tx.count(ctx.scope.tenant_id, metrics.ACME_DEACTIVATE_ACCOUNT)
            await note(tx, asked, EventType.ACME_ACCOUNT_DEACTIVATED, account.id, {})
        elif wanted.contact is not msgspec.UNSET:
            contact = check_contacts(wanted.contact)
            await acme.change(tx, ctx.scope, AcmeAccount, account.id, contact=contact, updated_at=now)
            await note(tx, asked, EventType.ACME_ACCOUNT_UPDATED, account.id, {"contact": contact})
        changed = await acme.get(tx, ctx.scope, AcmeAccount, account.id)
    if changed is None:
        raise AssertionError("an account stays")
    return _reply(asked, changed)


def _check_own(asked: Asked, account_id: str) -> None:
    if asked.mine.id != account_id:
        raise AcmeRefusal(ProblemType.UNAUTHORIZED, "this is another account")


async def list_orders(asked: Asked, account_id: str) -> Reply:
    """The orders of an account, a hundred at a time (RFC 8555 7.1.2.1)."""
    _check_own(asked, account_id)
    if not asked.is_read:
        raise Malformed("the list of orders is read with POST-as-GET: an empty payload")
    after = dict(parse_qsl(asked.query)).get("cursor", "")[:140]
    ctx = asked.house.state.ctx
    async with ctx.database.read() as tx:
        found = await acme.orders_of(tx, ctx.scope, account_id, after, _PAGE + 1)
    shown = found[:_PAGE]
    links: tuple[tuple[str, str], ...] = ()
    if len(found) > _PAGE:
        links = ((f"{asked.place.at('account', account_id, 'orders')}?cursor={shown[-1]}", "next"),)
    return json_reply({"orders": [asked.place.at("order", each) for each in shown]}, links=links)


async def change_key(asked: Asked) -> Reply:
    """Change the key (RFC 8555 7.3.5): both keys sign; the new one must belong to nobody."""
    inner = read_inner(jws.read_json(asked.payload, "the payload"))
    jws.check_algorithm(inner)
    if "nonce" in inner.header or "kid" in inner.header or inner.header.get("url") != asked.jws.header["url"]:
        raise AcmeRefusal(ProblemType.MALFORMED, "the inner JWS has jwk and the outer url, and no nonce")
    fresh = jws.read_jwk(inner.header.get("jwk"))
    jws.check_fits(inner, fresh)
    if not jws.verify(inner, fresh):
        raise AcmeRefusal(ProblemType.UNAUTHORIZED, "the inner signature does not verify", status=401)
    wanted = wire.read(inner.payload, KeyChange)
    account = asked.mine
    if wanted.account != asked.place.at("account", account.id):
        raise AcmeRefusal(ProblemType.MALFORMED, "the inner payload is about another account")
    if jws.read_jwk(wanted.old_key).thumbprint != account.thumbprint:
        raise AcmeRefusal(ProblemType.MALFORMED, "oldKey is not the account's key")
    ctx = asked.house.state.ctx
    async with ctx.database.begin("acme.key") as tx:
        await count(tx, asked.house, f"key-change/{account.id}", asked.house.rules.key_changes_per_hour)
        held = await acme.get(tx, ctx.scope, AcmeAccount, account.id, lock=True)
        if held is None or held.thumbprint != account.thumbprint:
            raise AcmeRefusal(ProblemType.MALFORMED, "the key of this account was changed meanwhile", status=409)
        await _refuse_taken(tx, asked, fresh.thumbprint)
        if not await acme.change_key(tx, ctx.scope, account, fresh.canonical, fresh.thumbprint, ctx.now()):
            await _refuse_taken(tx, asked, fresh.thumbprint)
        await note(tx, asked, EventType.ACME_ACCOUNT_KEY_ROLLED, account.id, {"thumbprint": fresh.thumbprint})
        changed = await acme.get(tx, ctx.scope, AcmeAccount, account.id)
    if changed is None:
        raise AssertionError("an account stays")
    return _reply(asked, changed)


async def _refuse_taken(tx: Tx, asked: Asked, thumbprint: str) -> None:
    taken = await acme.account_by_key(tx, asked.house.state.ctx.scope, asked.profile.id, thumbprint)
    if taken is not None:
        raise AcmeRefusal(
            ProblemType.MALFORMED,
            "another account has this key",
            status=409,
            headers=(("location", asked.place.at("account", taken.id)),),
        )


async def note(tx: Tx, asked: Asked, kind: EventType, account_id: str, details: dict[str, Any]) -> None:
    """Write an event about an account."""
    actor = msgspec.structs.replace(asked.actor, id=f"acme:{account_id}")
    event = Event(type=kind, subject_type="acme_account", subject_id=account_id, actor=actor, details=details)
    await append(tx, asked.house.state.ctx.scope, asked.house.state.ctx.now(), event)
