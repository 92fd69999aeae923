"""One order's life at the CA (RFC 8555 7.4): placed once, proven, finalized once, fetched.

The reference is the order's address; behind a `#` stands how far it has come, so that a challenge is not answered over
and over, and it is kept that finalize is about to be sent before it is. Asked again after a crash, each step finds at
the CA what was done; an order that the CA forgot is placed anew only where finalize was never sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from certctl.connectors.base.issuer import AccountBook, Issued, Order, Pending, Precheck, Prospect
from certctl.connectors.base.solver import Proof, Solver
from certctl.connectors.issuers.acme.client import AcmeClient, ask_again_after, epoch
from certctl.connectors.issuers.acme.config import AcmeConfig
from certctl.connectors.issuers.acme.problems import CaRefusal, error_of
from certctl.core.errors import ConnectorError, Malformed, Misconfigured, Rejected, Temporary, TrustError
from certctl.core.names import Name, NameKind, parse_name
from certctl.pki.certs import read_certificate
from certctl.pki.pem import read_certificates
from certctl.telemetry.logging import get_logger
from certctl.telemetry.points import reach
from certctl.wire.acme import CertificateId, key_authorization
from certctl.wire.acme_answers import AuthorizationAnswer, ChallengeAnswer, OrderAnswer, Problem, read_problem

log = get_logger(__name__)

_SOON = timedelta(seconds=1)
_MOST_AUTHORIZATIONS = 200
_MOST_CHAIN, _MOST_ALTERNATES = 10, 8
_OPEN = frozenset({"pending", "ready"})
_PRESENTED, _ANSWERED, _FINALIZING = "presented-", "answered", "finalizing"
# how often an order was placed anew stands at the end of the reference
_ANEW, _MOST_ANEW = "~anew", 3
_MOST_LOOKED_AT = 50
_LOOK_AT = {
    True: "see that the zone is the right one and its secondaries follow",
    False: "see that the agent that answers is online",
}
# a CA that answers a new order with one that is there already gives each of several requests the same
_MOST_PLACED = 3


async def place(
    client: AcmeClient, config: AcmeConfig, accounts: AccountBook, precheck: Precheck | None, order: Order
) -> str:
    """The address of a new order, or of the one that an earlier, interrupted try placed: kept, or listed by the CA.

    One whose address nobody knows is never finalized: it is left to expire at the CA.
    """
    identifiers = identifiers_of(order)
    if order.attempt > 1:
        found = await accounts.order_of(order.order_id)
        if not found and await accounts.is_asking(order.order_id):
            found = await _find(client, accounts, identifiers, order.order_id)
        if found:
            return found
    directory = await client.directory()
    if precheck is not None:
        identities = tuple(directory.meta.caa_identities)
        method = config.challenge_type
        prospect = Prospect(caa_identities=identities, account_url=client.account_url, method=method)
        await precheck.judge(_names(order), prospect)
    # RFC 9773 5: what names the certificate that it replaces counts for no limit
    exempt = config.ari_enabled and bool(_replaces(order)) and bool(directory.renewal_info)
    for _ in range(_MOST_PLACED):
        await accounts.begin_ask(config.directory_url, order, exempt=exempt)
        try:
            url = await _order(client, config, identifiers, order)
        except CaRefusal as refusal:
            if refusal.problem.status < 500:  # it was understood: there is no order
                error = error_of(refusal)
                state = "absent" if isinstance(error, Temporary) else "declined"
                await accounts.end_ask(order.order_id, state, error.message)
            raise
        reach("acme.ordered")
        if await accounts.claim_order(url, order.order_id):
            return url
    raise Temporary("the orders that were placed belong to other requests already")


async def _order(client: AcmeClient, config: AcmeConfig, identifiers: list[dict[str, str]], order: Order) -> str:
    payload: dict[str, Any] = {"identifiers": identifiers}
    if config.profile:
        payload["profile"] = config.profile
    replaces = _replaces(order)
    if replaces and config.ari_enabled and (await client.directory()).renewal_info:
        try:
            return (await client.new_order(payload | {"replaces": replaces}))[0]
        except CaRefusal as refusal:
            # RFC 9773 5: what it would replace is replaced already, or not this account's: order without
            if refusal.problem.kind not in {"alreadyReplaced", "malformed", "unauthorized"} and (
                refusal.problem.status not in {404, 409}
            ):
                raise
            log.info("ordered_without_replaces", order_id=order.order_id, why=refusal.problem.kind)
    url, _ = await client.new_order(payload)
    return url


async def _find(client: AcmeClient, accounts: AccountBook, identifiers: list[dict[str, str]], order_id: str) -> str:
    """An order of ours for these very names that belongs to no request and that nobody has finalized."""
    listed = await client.orders()
    if listed is None:
        log.warning("order_may_be_lost", order_id=order_id, reason="the CA lists no orders; it is left to expire")
        await accounts.end_ask(order_id, "lost", "the CA lists no orders")
        return ""
    wanted = {(each["type"], each["value"]) for each in identifiers}
    for url in reversed(listed[-_MOST_LOOKED_AT:]):
        told, _ = await client.order(url)
        same = {(each.type, each.value.lower()) for each in told.identifiers} == wanted
        if same and told.status in _OPEN and await accounts.claim_order(url, order_id):
            return url
    await accounts.end_ask(order_id, "absent", "the CA's list has none for it")
    return ""


class OrderForgotten(Exception):
    """The CA does not know the order any more. `finalizing`: it may have signed for it."""

    def __init__(self, *, finalizing: bool) -> None:
        super().__init__("the CA does not know the order any more")
        self.finalizing = finalizing


async def go_on(
    client: AcmeClient,
    config: AcmeConfig,
    accounts: AccountBook,
    precheck: Precheck | None,
    solver: Solver,
    reference: str,
    order: Order,
) -> Issued | Pending:
    """One step of the order at `reference`; one that the CA forgot is placed anew, unless it was finalized.

    Then it is lost: whether the CA signed nobody can say, so it is counted and the request ends.
    """
    stands, mark, number = reference.rpartition(_ANEW)
    anew = int(number) if mark and number.isdigit() else 0
    try:
        answer = await advance(client, config, accounts, solver, stands if anew else reference, order)
    except OrderForgotten as forgotten:
        await _take_back(accounts, solver, order)
        if forgotten.finalizing:
            await accounts.end_ask(order.order_id, "lost", "the CA forgot it after finalize was sent")
            raise Rejected(
                "the CA does not know the order any more, and was asked to finalize it: a certificate that it may have "
                "signed is with nobody, and runs out by itself; the order is counted as lost, a new request orders anew"
            ) from forgotten
        if anew >= _MOST_ANEW:
            raise Rejected(
                f"the CA has forgotten {anew + 1} orders for this request one after another; nothing was issued for "
                "them, a new request orders anew"
            ) from forgotten
        await accounts.end_ask(order.order_id, "absent", "the CA forgot it before finalize was sent")
        log.warning("order_placed_anew", order_id=order.order_id, reason="the CA does not know it any more")
        first = msgspec.structs.replace(order, attempt=1)
        return Pending(f"{await place(client, config, accounts, precheck, first)}{_ANEW}{anew + 1}", timedelta(0))
    if anew and isinstance(answer, Pending):
        return Pending(f"{answer.reference}{_ANEW}{anew}", answer.retry_after)
    return answer


async def advance(
    client: AcmeClient, config: AcmeConfig, accounts: AccountBook | None, solver: Solver, reference: str, order: Order
) -> Issued | Pending:
    """One step of the order at `reference`; without `accounts` what is put is not kept. Raises OrderForgotten."""
    url, _, phase = reference.partition("#")
    try:
        told, wait = await client.order(url)
    except CaRefusal as refusal:
        if refusal.problem.status == 404 or refusal.problem.kind == "malformed":
            raise OrderForgotten(finalizing=phase == _FINALIZING) from refusal
        raise
    if told.status == "pending":
        return await _prove(client, config, accounts, solver, told, url, phase, order)
    if told.status == "ready" and phase != _FINALIZING:
        await _clean(client, accounts, solver, told, order)
        return Pending(f"{url}#{_FINALIZING}", timedelta(0))
    if told.status == "ready":
        reach("acme.finalizing")
        told, wait = await _finalize(client, told, url, order)
        reach("acme.finalized")
    if told.status == "valid":
        if not told.certificate:
            raise TrustError("the CA calls the order valid and names no certificate")
        issued = await _fetch(client, config, told.certificate)
        reach("acme.fetched")
        return issued
    if told.status == "invalid":
        await _clean(client, accounts, solver, told, order)
        raise await _why_invalid(client, told)
    return Pending(f"{url}#{phase}" if phase else url, ask_again_after(wait, _SOON))


async def _finalize(
    client: AcmeClient, told: OrderAnswer, url: str, order: Order
) -> tuple[OrderAnswer, timedelta | None]:
    try:
        return await client.finalize(told.finalize, order.csr_der)
    except CaRefusal as refusal:
        if refusal.problem.kind != "orderNotReady":
            raise
        return await client.order(url)  # somebody before us has finalized it


async def _prove(
    client: AcmeClient,
    config: AcmeConfig,
    accounts: AccountBook | None,
    solver: Solver,
    told: OrderAnswer,
    url: str,
    phase: str,
    order: Order,
) -> Pending:
    """Present what is not yet presented, wait until it can be seen, answer; then wait for the CA."""
    if phase == _ANSWERED:
        return Pending(f"{url}#{_ANSWERED}", timedelta(seconds=2))
    found = [one for one in await _authorizations(client, told) if one.status == "pending"]
    asked = [(one, _challenge(one, solver)) for one in found]
    proofs = [_proof(client, one, challenge, order) for one, challenge in asked if challenge.status == "pending"]
    began = int(phase.removeprefix(_PRESENTED)) if phase.startswith(_PRESENTED) else 0
    if not began:
        if proofs and accounts is not None:
            await accounts.put_proofs(order.order_id, proofs)
        for proof in proofs:
            await solver.present(proof)
        reach("acme.presented")
        began = epoch(order.now)
    hidden = [proof.name for proof in proofs if not await solver.is_visible(proof)]
    if hidden:
        if epoch(order.now) - began > config.propagation_seconds:
            raise Rejected(
                f"the answer for {', '.join(hidden[:5])} could not be seen within {config.propagation_seconds} s where "
                f"the CA looks: {_LOOK_AT[config.challenge_type == 'dns-01']}, then renew"
            )
        return Pending(f"{url}#{_PRESENTED}{began}", timedelta(seconds=2))
    for _, challenge in asked:
        if challenge.status == "pending":
            await client.post(challenge.url, {}, "answering a challenge")
    reach("acme.answered")
    return Pending(f"{url}#{_ANSWERED}", _SOON)


async def _authorizations(client: AcmeClient, told: OrderAnswer) -> list[AuthorizationAnswer]:
    if len(told.authorizations) > _MOST_AUTHORIZATIONS:
        raise TrustError(f"the CA's order names more than {_MOST_AUTHORIZATIONS} authorizations")
    return [await client.authorization(url) for url in told.authorizations]


def _challenge(authorization: AuthorizationAnswer, solver: Solver) -> ChallengeAnswer:
    for challenge in authorization.challenges:
        if challenge.type == solver.challenge_type:
            return challenge
    offered = ", ".join(sorted({challenge.type[:40] for challenge in authorization.challenges})) or "nothing"
    raise Misconfigured(
        f"the CA offers {offered} for {authorization.identifier.value[:255]}, and this issuer's challenge_type is "
        f"{solver.challenge_type}; a wildcard needs dns-01, an address http-01 or tls-alpn-01"
    )


def _proof(client: AcmeClient, authorization: AuthorizationAnswer, challenge: ChallengeAnswer, order: Order) -> Proof:
    token = challenge.token
    # RFC 8555 8.3: it ends up in a path and in DNS
    if not 1 <= len(token) <= 512 or not token.replace("-", "a").replace("_", "a").isalnum() or not token.isascii():
        raise TrustError("the CA's token is not base64url")
    named = authorization.identifier
    name = _parsed(named.type, named.value.removeprefix("*."))
    return Proof(name.value, token, key_authorization(token, client.thumbprint), order.job_id, order.agent_id)


def _parsed(kind: str, value: str) -> Name:
    try:
        return parse_name(f"{'ip' if kind == 'ip' else 'dns'}:{value}")
    except Malformed as error:
        raise TrustError("the CA's authorization is for no name") from error


async def _take_back(accounts: AccountBook, solver: Solver, order: Order) -> bool:
    """Take away what is known to stand for an order; False when nothing is. What fails is left to the sweep."""
    standing = await accounts.proofs_of(order.order_id)
    try:
        for proof in standing:
            await solver.cleanup(proof)
    except ConnectorError as error:
        log.warning("challenge_not_cleaned_up", order_id=order.order_id, error=error.message)
    else:
        if standing:
            await accounts.drop_proofs(order.order_id)
    return bool(standing)


async def _clean(
    client: AcmeClient, accounts: AccountBook | None, solver: Solver, told: OrderAnswer, order: Order
) -> None:
    """Take answers away; that it fails is no reason not to go on."""
    if accounts is not None and await _take_back(accounts, solver, order):
        return
    # put by a release that did not keep what it put
    for one in await _authorizations(client, told):
        for challenge in one.challenges:
            if challenge.type == solver.challenge_type and challenge.token:
                try:
                    await solver.cleanup(_proof(client, one, challenge, order))
                except ConnectorError as error:
                    log.warning("challenge_not_cleaned_up", name=one.identifier.value[:255], error=error.message)


async def _why_invalid(client: AcmeClient, told: OrderAnswer) -> ConnectorError:
    """What is known of why the CA gave the order up: of the order, else of each name's challenge."""
    faults: list[tuple[str, str, str]] = []
    kind = ""
    for one in await _authorizations(client, told):
        for challenge in one.challenges:
            if challenge.error:
                problem = read_problem(challenge.error)
                kind = kind or problem.kind
                faults.append((one.identifier.value[:255], problem.kind, problem.detail))
    order_problem = read_problem(told.error) if told.error else Problem("", "it does not say why")
    shown = Problem(
        kind=kind or order_problem.kind or "invalid",
        detail=order_problem.detail,
        identifiers=tuple(faults) or order_problem.identifiers,
    )
    error = error_of(CaRefusal(shown, None, "the order is invalid"))
    # whatever it was, this order is over: asking it again is useless
    return Rejected(error.message) if not isinstance(error, Misconfigured) else error


async def _fetch(client: AcmeClient, config: AcmeConfig, url: str) -> Issued:
    """The chain that is preferred, where the CA has several (RFC 8555 7.4.2)."""
    pem, alternates = await client.certificate(url)
    chosen = await _read_chain(pem)
    if config.preferred_chain and not _is_preferred(chosen, config.preferred_chain):
        for other in alternates[:_MOST_ALTERNATES]:
            candidate = await _read_chain((await client.certificate(other))[0])
            if candidate[0] == chosen[0] and _is_preferred(candidate, config.preferred_chain):
                chosen = candidate
                break
        else:
            log.info("preferred_chain_not_offered", preferred=config.preferred_chain)
    leaf, *rest = chosen
    root = None
    if rest and len(rest) > 1 and _is_self_signed(rest[-1]):
        root = rest.pop()
    return Issued(leaf_der=leaf, chain_der=tuple(rest), root_der=root)


async def _read_chain(pem: bytes) -> Sequence[bytes]:
    try:
        chain = await asyncio.to_thread(read_certificates, pem.decode("ascii"))
    except (Malformed, UnicodeDecodeError) as error:
        raise TrustError("the CA's answer is no chain of certificates in PEM") from error
    if not 1 <= len(chain) <= _MOST_CHAIN:
        raise TrustError(f"the CA's chain has {len(chain)} certificates; 1 to {_MOST_CHAIN} are read")
    return chain


def _is_preferred(chain: Sequence[bytes], common_name: str) -> bool:
    return any(f"CN={common_name}" in read_certificate(der).issuer.split(",") for der in chain)


def _is_self_signed(der: bytes) -> bool:
    facts = read_certificate(der)
    return facts.issuer == facts.subject


def identifiers_of(order: Order) -> list[dict[str, str]]:
    """What is ordered, as the CA is told it. Raises Rejected for a name that is neither a DNS name nor an address."""
    return [_identifier(name) for name in _names(order)]


def _names(order: Order) -> list[Name]:
    """Every approved name once, the common name too when it is one that can be proven."""
    names = dict.fromkeys((parse_name(order.common_name), *order.names) if order.common_name else order.names)
    for name in names:
        if name.kind not in {NameKind.DNS, NameKind.IP}:
            raise Rejected(f"{name} is neither a DNS name nor an address: ACME CAs issue for no other")
    return list(names)


def _identifier(name: Name) -> dict[str, str]:
    return {"type": "ip" if name.kind is NameKind.IP else "dns", "value": name.value}


def _replaces(order: Order) -> str:
    return certificate_id(order.replaces_der) if order.replaces_der is not None else ""


def certificate_id(leaf_der: bytes) -> str:
    """RFC 9773 4.1; empty for a certificate without an authority key identifier."""
    try:
        facts = read_certificate(leaf_der)
    except Malformed as error:
        raise TrustError("a certificate of ours cannot be read") from error
    identifier = facts.authority_key_identifier
    return str(CertificateId(identifier, facts.serial_number)) if identifier else ""
