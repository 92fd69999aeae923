"""Authorizations and challenges (RFC 8555 7.5): shown, answered, given up. Validation itself is `validating`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from certctl.core.acme import (
    AcmeAuthorization,
    AcmeChallenge,
    AcmeOrder,
    AuthorizationStatus,
    ChallengeStatus,
    OrderState,
)
from certctl.core.errors import Malformed
from certctl.core.events import Event, EventType
from certctl.ledger import append
from certctl.protocols.acme import naming
from certctl.protocols.acme.entering import Asked, count
from certctl.protocols.acme.exchange import Reply, json_reply
from certctl.protocols.acme.settling import RETRY, fail
from certctl.store import acme
from certctl.store.acme_entering import Subject
from certctl.store.tx import Tx
from certctl.wire import acme as wire
from certctl.wire import jws
from certctl.wire.acme import StatusChange, show_time
from certctl.wire.problem import AcmeRefusal, ProblemType


def document(asked: Asked, proof: AcmeAuthorization, ways: Sequence[AcmeChallenge]) -> dict[str, Any]:
    """The authorization object (RFC 8555 7.1.4): once decided, it shows the challenge that decided it."""
    status = proof.status
    if status in {AuthorizationStatus.PENDING, AuthorizationStatus.VALID} and _has_lapsed(asked, proof):
        status = AuthorizationStatus.EXPIRED
    decided = {
        AuthorizationStatus.VALID: (ChallengeStatus.VALID,),
        AuthorizationStatus.INVALID: (ChallengeStatus.INVALID,),
    }.get(proof.status)
    told: dict[str, Any] = {
        "identifier": naming.identifier(proof.name),
        "status": status,
        "expires": show_time(proof.expires_at),
        "challenges": [_challenge(asked, way) for way in ways if decided is None or way.status in decided],
    }
    if proof.wildcard:
        told["wildcard"] = True
    return told


def _has_lapsed(asked: Asked, proof: AcmeAuthorization) -> bool:
    return proof.expires_at <= asked.house.state.ctx.now()


def _challenge(asked: Asked, way: AcmeChallenge) -> dict[str, Any]:
    told: dict[str, Any] = {
        "type": way.type,
        "url": asked.place.at("challenge", way.id),
        "status": way.status,
        "token": way.token,
    }
    if way.validated_at is not None:
        told["validated"] = show_time(way.validated_at)
    if way.error is not None:
        told["error"] = way.error
    return told


def about(proof_id: str) -> Subject:
    """What is read with whoever asks for an authorization."""
    return Subject(authorization_id=proof_id)


async def show_or_give_up(asked: Asked, proof_id: str) -> Reply:
    """An authorization is read, or given up by its holder (RFC 8555 7.5.2)."""
    ctx, found = asked.house.state.ctx, asked.found
    if found is None or found.authorization is None or found.authorization.id != proof_id:
        raise _no_such()
    proof, ways = found.authorization, found.ways
    if not asked.is_read:
        if wire.read(asked.payload, StatusChange).status != AuthorizationStatus.DEACTIVATED:
            raise Malformed("an authorization can only be changed to deactivated")
        proof = await _give_up(asked, proof)
        async with ctx.database.read() as tx:
            ways = tuple(await acme.challenges_of(tx, ctx.scope, proof.id))
    busy = any(way.status == ChallengeStatus.PROCESSING for way in ways)
    waits = busy and proof.status == AuthorizationStatus.PENDING
    return json_reply(document(asked, proof, ways), retry_after=RETRY if waits else None)


async def _own(tx: Tx, asked: Asked, proof_id: str) -> AcmeAuthorization:
    proof = await acme.get(tx, asked.house.state.ctx.scope, AcmeAuthorization, proof_id)
    if proof is None or proof.account_id != asked.mine.id:
        raise _no_such()
    return proof


def _no_such() -> AcmeRefusal:
    return AcmeRefusal(ProblemType.MALFORMED, "there is no such authorization", status=404)


async def _give_up(asked: Asked, proof: AcmeAuthorization) -> AcmeAuthorization:
    ctx = asked.house.state.ctx
    async with ctx.database.begin("acme.authz") as tx:
        order = await acme.get(tx, ctx.scope, AcmeOrder, proof.order_id, lock=True)
        if await acme.move(tx, ctx.scope, AcmeAuthorization, proof.id, AuthorizationStatus.DEACTIVATED):
            details = {"order_id": proof.order_id, "name": proof.name}
            await _note(tx, asked, EventType.ACME_AUTHORIZATION_DEACTIVATED, proof, details)
            if order is not None and order.status in {OrderState.PENDING, OrderState.READY}:
                why = AcmeRefusal(ProblemType.UNAUTHORIZED, "an authorization was given up")
                await fail(tx, ctx, order.id, why, asked.actor)
        return await _own(tx, asked, proof.id)


async def respond(asked: Asked, way_id: str) -> Reply:
    """A challenge is read, or its holder says that it can be looked at (RFC 8555 7.5.1)."""
    ctx = asked.house.state.ctx
    async with ctx.database.read() as tx:
        way = await acme.get(tx, ctx.scope, AcmeChallenge, way_id)
        if way is None or way.account_id != asked.mine.id:
            raise AcmeRefusal(ProblemType.MALFORMED, "there is no such challenge", status=404)
        proof = await _own(tx, asked, way.authorization_id)
    if not asked.is_read:
        jws.read_json(asked.payload, "the payload")
        if way.status == ChallengeStatus.PENDING and proof.status == AuthorizationStatus.PENDING:
            way = await _begin(asked, proof, way)
    wait = RETRY if way.status == ChallengeStatus.PROCESSING else None
    up = ((asked.place.at("authz", proof.id), "up"),)
    return json_reply(_challenge(asked, way), links=up, retry_after=wait)


async def _begin(asked: Asked, proof: AcmeAuthorization, way: AcmeChallenge) -> AcmeChallenge:
    if _has_lapsed(asked, proof):
        raise Malformed("the authorization of this challenge has expired")
    ctx, per_hour = asked.house.state.ctx, asked.house.rules.responds_per_hour
    async with ctx.database.begin("acme.respond") as tx:
        await count(tx, asked.house, f"respond/{asked.mine.id}", per_hour)
        if await acme.move(tx, ctx.scope, AcmeChallenge, way.id, ChallengeStatus.PROCESSING, run_at=ctx.now()):
            details = {"type": way.type, "name": proof.name, "challenge_id": way.id}
            await _note(tx, asked, EventType.ACME_CHALLENGE_PROCESSING, proof, details)
        tx.wake(acme.CHANNEL)
        return await acme.get(tx, ctx.scope, AcmeChallenge, way.id) or way


async def _note(tx: Tx, asked: Asked, kind: EventType, proof: AcmeAuthorization, details: dict[str, Any]) -> None:
    event = Event(type=kind, subject_type="acme_authorization", subject_id=proof.id, actor=asked.actor, details=details)
    await append(tx, asked.house.state.ctx.scope, asked.house.state.ctx.now(), event)
