"""Orders (RFC 8555 7.4): made and shown. What is issued goes the way of every certificate (`lifecycle.request`).

An order names what it wants before anything is proven; its names are judged at once by whoever vouches for the account
and by the profile, so that nobody proves control of what would never be issued.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from certctl.core.acme import (
    DNS_01,
    HTTP_01,
    TLS_ALPN_01,
    TRUST_AUTHENTICATED,
    AcmeAccount,
    AcmeAuthorization,
    AcmeChallenge,
    AcmeOrder,
    AuthorizationStatus,
    ChallengeStatus,
    ExternalKey,
    OrderState,
)
from certctl.core.catalogue import Profile
from certctl.core.certificate import ACME_SOURCE
from certctl.core.errors import Conflict, Malformed
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.names import Name, NameKind
from certctl.ledger import append
from certctl.lifecycle import compliance, request
from certctl.lifecycle.request import DEFAULT_ISSUER, DEFAULT_POLICY, NewCertificate
from certctl.protocols.acme import naming, offers, renewal
from certctl.protocols.acme.accounts import binding_is_required
from certctl.protocols.acme.entering import Asked, limited
from certctl.protocols.acme.exchange import Reply, json_reply
from certctl.protocols.acme.settling import RETRY, settled
from certctl.store import acme, catalogue
from certctl.store.acme_entering import Subject
from certctl.store.tx import Tx
from certctl.wire import acme as wire
from certctl.wire.acme import NewOrder, show_time
from certctl.wire.problem import AcmeRefusal, ProblemType, Subproblem

_HOUR = timedelta(hours=1)
_WILD = "*."


def about(order_id: str) -> Subject:
    """What is read with whoever asks about an order."""
    return Subject(order_id=order_id)


def about_new() -> Subject:
    """What is read with whoever wants an order: all that it is judged by."""
    return Subject(orders_by=(DEFAULT_ISSUER, DEFAULT_POLICY))


async def create(asked: Asked) -> Reply:
    """Make an order (newOrder)."""
    wanted = wire.read(asked.payload, NewOrder)
    names = wire.read_identifiers(wanted.identifiers)
    _refuse_unsupported(wanted)
    ctx = asked.house.state.ctx
    async with ctx.database.begin("acme.order") as tx:
        external = _go_by_what_was_found(tx, asked)
        _check_allowed(names, external)
        profile = await offers.chosen(tx, asked, wanted.profile)
        await _judge(tx, asked, profile, names, external)
        replaces = await renewal.check_replaces(tx, asked, wanted.replaces, names)
        if not replaces:
            await _check_limits(tx, asked)
        order = _order(asked, names, replaces, wanted.profile or "")
        proofs, ways = _authorizations(asked, order, names)
        try:
            await acme.insert_order(tx, ctx.scope, order, proofs, ways)
        except Conflict as error:
            raise AcmeRefusal(ProblemType.ALREADY_REPLACED, "another order replaces this certificate") from error
        details = {
            "account_id": order.account_id,
            "names": order.names,
            "status": str(order.status),
            "replaces": replaces,
        }
        await note(tx, asked, EventType.ACME_ORDER_CREATED, order.id, details)
    return json_reply(document(asked, order, proofs), status=201, location=asked.place.at("order", order.id))


def _refuse_unsupported(wanted: NewOrder) -> None:
    wire.read_time(wanted.not_before, "notBefore")
    wire.read_time(wanted.not_after, "notAfter")
    if wanted.not_before is not None or wanted.not_after is not None:
        # RFC 8555 7.4: what cannot be fulfilled as it was asked is refused
        raise Malformed("notBefore and notAfter are not supported: the profile says how long a certificate lives")


def _go_by_what_was_found(tx: Tx, asked: Asked) -> ExternalKey | None:
    """What vouches for the account; what an order is judged by was read with it, and is not read again here. All of it
    is asked for anew when the order is finalized: nothing is issued by what was true when it was made.
    """
    found, ctx = asked.found, asked.house.state.ctx
    if found is None:
        raise AssertionError("this route is for accounts")
    for each in found.names:
        catalogue.saw(tx, ctx.scope, each, each.id)
    compliance.saw(tx, ctx, found.rules)
    return vouching(asked, asked.mine, found.key)


async def external_key(tx: Tx, asked: Asked, account: AcmeAccount) -> ExternalKey | None:
    """What vouches for the account; a key that was revoked since vouches for nobody.

    An account may be older than the demand for somebody who vouches: it orders nothing until it has been made anew.
    """
    scope = asked.house.state.ctx.scope
    key = await acme.external_key(tx, scope, account.external_key_id) if account.external_key_id else None
    return vouching(asked, account, key)


def vouching(asked: Asked, account: AcmeAccount, key: ExternalKey | None) -> ExternalKey | None:
    """What vouches for the account, by the key that was just read for it."""
    if not account.external_key_id:
        if binding_is_required(asked.house, asked.profile.acme_auth_mode):
            raise AcmeRefusal(ProblemType.EXTERNAL_ACCOUNT_REQUIRED, "nobody has vouched for this account")
        return None
    if key is None or key.revoked_at is not None:
        raise AcmeRefusal(ProblemType.UNAUTHORIZED, "the external account key of this account was revoked")
    return key


def _check_allowed(names: Sequence[Name], external: ExternalKey | None) -> None:
    if external is None:
        return
    faults = [
        Subproblem(
            ProblemType.REJECTED_IDENTIFIER,
            f"{name.value} is not among the names of this external account",
            (str(name.kind), name.value),
        )
        for name in names
        if not naming.is_allowed(name, external.allowed_names)
    ]
    if faults:
        wire.refuse_identifiers(faults)


async def _judge(tx: Tx, asked: Asked, profile: Profile, names: Sequence[Name], external: ExternalKey | None) -> None:
    """What profile and policies would refuse later is refused before anybody proves anything."""
    ctx = asked.house.state.ctx
    wish = wish_of(asked, profile, names, external, new_id("mc-acme"), "")
    await request.judge(tx, ctx, ctx.scope, asked.actor, wish)


def wish_of(
    asked: Asked,
    profile: Profile,
    names: Sequence[Name],
    external: ExternalKey | None,
    certificate_id: str,
    csr_pem: str,
) -> NewCertificate:
    """The request that an order of a profile comes to."""
    return NewCertificate(
        id=certificate_id,
        name=f"{names[0].value} ({certificate_id})"[:255],
        common_name=names[0].value,
        sans=[naming.kept(name) for name in names],
        owner_id=external.owner_id if external else "",
        team_id=external.team_id if external else "",
        issuer_id=profile.acme_issuer_id or DEFAULT_ISSUER,
        certificate_profile_id=profile.id,
        tags={"acme_account": asked.mine.id},
        csr_pem=csr_pem,
        source=ACME_SOURCE,
    )


async def _check_limits(tx: Tx, asked: Asked) -> None:
    """Counted in the account's own orders, under its lock: however many replicas, the limit is the limit."""
    rules, ctx, account_id = asked.house.rules, asked.house.state.ctx, asked.mine.id
    if not rules.orders_per_hour and not rules.concurrent_orders:
        return
    await acme.get(tx, ctx.scope, AcmeAccount, account_id, lock=True)
    now = ctx.now()
    count = await acme.count_orders(tx, ctx.scope, account_id, now - _HOUR, now)
    if 0 < rules.orders_per_hour <= count.made and count.first_made_at is not None:
        wait = (count.first_made_at + _HOUR - now).total_seconds()
        raise limited(f"more than {rules.orders_per_hour} orders an hour", wait)
    if 0 < rules.concurrent_orders <= count.open and count.first_lapses_at is not None:
        wait = min(count.first_lapses_at - now, timedelta(minutes=1)).total_seconds()
        raise limited(f"more than {rules.concurrent_orders} orders that have not ended", wait)


def _order(asked: Asked, names: Sequence[Name], replaces: str, profile: str) -> AcmeOrder:
    ctx = asked.house.state.ctx
    now, kept = ctx.now(), [naming.kept(name) for name in names]
    return AcmeOrder(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("acme-ord"),
        account_id=asked.mine.id,
        profile_id=asked.profile.id,
        status=OrderState.READY if trusts(asked) else OrderState.PENDING,
        names=kept,
        names_key=naming.key_of(kept),
        not_before=None,
        not_after=None,
        replaces=replaces,
        profile=profile,
        error=None,
        expires_at=now + asked.house.rules.order_ttl,
        certificate_id="",
        job_id="",
        version_id="",
        created_at=now,
        updated_at=now,
    )


def trusts(asked: Asked) -> bool:
    """Whether this profile takes the word of an account that somebody vouched for."""
    return (asked.profile.acme_auth_mode or asked.house.rules.default_auth_mode) == TRUST_AUTHENTICATED


def _authorizations(
    asked: Asked, order: AcmeOrder, names: Sequence[Name]
) -> tuple[list[AcmeAuthorization], list[AcmeChallenge]]:
    ctx, trusted = asked.house.state.ctx, trusts(asked)
    now = ctx.now()
    proofs, ways = [], []
    for name in names:
        wildcard = name.kind is NameKind.DNS and name.value.startswith(_WILD)
        proof = AcmeAuthorization(
            tenant_id=ctx.scope.tenant_id,
            id=new_id("acme-authz"),
            order_id=order.id,
            account_id=order.account_id,
            name=f"{name.kind}:{name.value.removeprefix(_WILD)}",
            wildcard=wildcard,
            status=AuthorizationStatus.VALID if trusted else AuthorizationStatus.PENDING,
            expires_at=now + asked.house.rules.authorization_ttl,
            validated_at=now if trusted else None,
            created_at=now,
        )
        proofs.append(proof)
        kinds = _ways(name, wildcard=wildcard)
        ways += [_challenge(proof, kind, now) for kind in (kinds[:1] if trusted else kinds)]
    return proofs, ways


def _ways(name: Name, *, wildcard: bool) -> tuple[str, ...]:
    """RFC 8555 7.1.3, RFC 8737 4, RFC 8738 7: how control of a name may be shown."""
    if name.kind is NameKind.IP:
        return (HTTP_01, TLS_ALPN_01)
    return (DNS_01,) if wildcard else (HTTP_01, DNS_01, TLS_ALPN_01)


def _challenge(proof: AcmeAuthorization, kind: str, now: datetime) -> AcmeChallenge:
    valid = proof.status == AuthorizationStatus.VALID
    return AcmeChallenge(
        tenant_id=proof.tenant_id,
        id=new_id("acme-chall"),
        authorization_id=proof.id,
        account_id=proof.account_id,
        type=kind,
        token=secrets.token_urlsafe(32),
        status=ChallengeStatus.VALID if valid else ChallengeStatus.PENDING,
        validated_at=proof.validated_at,
        error=None,
        attempts=0,
        run_at=now,
        lease_owner="",
        lease_until=None,
        created_at=now,
    )


def document(asked: Asked, order: AcmeOrder, proofs: Sequence[AcmeAuthorization]) -> dict[str, Any]:
    """The order object (RFC 8555 7.1.3)."""
    place, stands = asked.place, {name: number for number, name in enumerate(order.names)}
    # RFC 8555 7.1.3: the same each time
    ordered = sorted(proofs, key=lambda proof: stands[_named(proof)])
    told: dict[str, Any] = {
        "status": order.status,
        "expires": show_time(order.expires_at),
        "identifiers": [naming.identifier(name) for name in order.names],
        "authorizations": [place.at("authz", proof.id) for proof in ordered],
        "finalize": place.at("order", order.id, "finalize"),
    }
    if order.version_id:
        told["certificate"] = place.at("cert", order.version_id)
    if order.error is not None:
        told["error"] = order.error
    if order.replaces:
        told["replaces"] = order.replaces
    if order.profile:
        told["profile"] = order.profile
    return told


def _named(proof: AcmeAuthorization) -> str:
    """The name of its order that an authorization is for."""
    kind, _, value = proof.name.partition(":")
    return f"{kind}:{_WILD if proof.wildcard else ''}{value}"


async def show(asked: Asked, order_id: str) -> Reply:
    """An order, as it stands by now."""
    if not asked.is_read:
        raise Malformed("an order is read with POST-as-GET: an empty payload")
    order = await own_order(asked, order_id)
    return await shown(asked, order, asked.found.proofs if asked.found is not None else None)


async def shown(asked: Asked, order: AcmeOrder, proofs: Sequence[AcmeAuthorization] | None = None) -> Reply:
    """The reply that shows an order as it stands by now; `proofs` are its authorizations, where they were just read."""
    ctx = asked.house.state.ctx
    order = await settled(ctx, order, asked.actor)
    if proofs is None:
        async with ctx.database.read() as tx:
            proofs = await acme.authorizations_of(tx, ctx.scope, order.id)
    wait = RETRY if order.status == OrderState.PROCESSING else None
    address = asked.place.at("order", order.id)
    return json_reply(document(asked, order, proofs), location=address, retry_after=wait)


async def own_order(asked: Asked, order_id: str) -> AcmeOrder:
    """An order of this account. Another's reads as if it were not there."""
    order = asked.found.order if asked.found is not None else None
    if order is None or order.id != order_id:
        raise AcmeRefusal(ProblemType.MALFORMED, "there is no such order", status=404)
    return order


async def note(tx: Tx, asked: Asked, kind: EventType, order_id: str, details: dict[str, Any]) -> None:
    """Write an event about an order."""
    event = Event(type=kind, subject_type="acme_order", subject_id=order_id, actor=asked.actor, details=details)
    await append(tx, asked.house.state.ctx.scope, asked.house.state.ctx.now(), event)
