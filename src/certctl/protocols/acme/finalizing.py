"""Finalize (RFC 8555 7.4): the CSR is judged, the request is written once, the flow is driven for a while.

A first certificate is issued together with what others finalize at the same time (`lifecycle.together`): its order
moves with its job, and with its version. Whatever is not plainly that goes alone.

The order's row is locked from the look at its status to the write of its job, and the job's idempotency key is the
order's: of many finalizes, on whichever replicas, one writes a job and the others find the order no longer ready. A
process that dies leaves either nothing or an order that is being processed, whose steps another worker runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec

from certctl.core.acme import (
    AcmeAuthorization,
    AcmeChallenge,
    AcmeOrder,
    AuthorizationStatus,
    ChallengeStatus,
    ExternalKey,
    OrderState,
)
from certctl.core.catalogue import Profile
from certctl.core.certificate import Version
from certctl.core.errors import CertctlError, Malformed, PolicyDenied
from certctl.core.events import Event, EventType
from certctl.core.names import Name, parse_name
from certctl.core.scope import Scope
from certctl.lifecycle import flow, request
from certctl.lifecycle.context import Context
from certctl.lifecycle.request import DEFAULT_ISSUER, NewCertificate
from certctl.pki.csr import CsrFacts, csr_pem, read_csr
from certctl.pki.keys import spki_der
from certctl.protocols.acme import naming, offers
from certctl.protocols.acme.entering import Asked
from certctl.protocols.acme.exchange import Reply
from certctl.protocols.acme.orders import external_key, note, own_order, shown, trusts, vouching, wish_of
from certctl.protocols.acme.settling import fail, settled
from certctl.store import acme, views
from certctl.store.acme_entering import Subject
from certctl.store.tx import Tx
from certctl.telemetry.logging import get_logger
from certctl.wire import acme as wire
from certctl.wire import jws
from certctl.wire.acme import Finalize
from certctl.wire.problem import AcmeRefusal, ProblemType, Subproblem

log = get_logger(__name__)

BUDGET = timedelta(seconds=2)
# what is still being driven when its client has its answer: kept here, or nobody would hold on to it
_DRIVING: set[asyncio.Task[None]] = set()


def about(order_id: str) -> Subject:
    """What is read with whoever finalizes an order: who vouches for its account now, whether it has one like it."""
    return Subject(order_id=order_id, finalizes=True)


async def finalize(asked: Asked, order_id: str) -> Reply:
    """Finalize an order; the reply shows what has come of it within two seconds."""
    ctx = flow.driving(asked.house.state.ctx)
    order = await settled(ctx, await own_order(asked, order_id), asked.actor)
    _check_ready(order)
    csr = _read(asked, order)
    went = await _together(asked, order, csr)
    if went is not None:
        return await shown(asked, went, asked.found.proofs if asked.found is not None else None)
    order, proofs = await _submit(asked, ctx, order, csr)
    driving = asyncio.create_task(_drive(ctx, order.job_id), name=f"acme-drive-{order.job_id}")
    _DRIVING.add(driving)
    driving.add_done_callback(_DRIVING.discard)
    # a CA that takes its time is not cut off: the order reads `processing`, and its answer is stored when it comes
    await asyncio.wait({driving}, timeout=BUDGET.total_seconds())
    return await shown(asked, order, proofs)


class _Order:
    """An order that goes with others: `processing` with its job, `valid` with its version. `now` is how it stands."""

    def __init__(self, asked: Asked, order: AcmeOrder, csr: CsrFacts) -> None:
        self._asked = asked
        self._csr = csr
        self.now = order

    @property
    def key(self) -> str:
        return self.now.id

    async def hold(self, tx: Tx, scope: Scope, keys: Sequence[str]) -> set[str]:
        return await acme.hold_ready(tx, scope, keys, self._asked.house.state.ctx.now())

    async def intended(self, tx: Tx, certificate_id: str, job_id: str) -> Event:
        details = {"certificate_id": certificate_id, "job_id": job_id}
        await self._move(tx, OrderState.PROCESSING, **details)
        return self._event(EventType.ACME_ORDER_PROCESSING, details | {"spki_sha256": self._csr.spki_sha256})

    async def issued(self, tx: Tx, version: Version) -> Event:
        await self._move(tx, OrderState.VALID, version_id=version.id)
        details = {"certificate_id": version.certificate_id, "version_id": version.id, "job_id": version.job_id}
        return self._event(EventType.ACME_ORDER_FINALIZED, details)

    async def _move(self, tx: Tx, status: OrderState, **values: str) -> None:
        ctx = self._asked.house.state.ctx
        kept: dict[str, Any] = values | {"status": status, "updated_at": ctx.now()}
        await acme.put(tx, ctx.scope, self.now.id, **kept)
        tx.after_commit(partial(setattr, self, "now", msgspec.structs.replace(self.now, **kept)))

    def _event(self, kind: EventType, details: dict[str, str]) -> Event:
        actor = self._asked.actor
        return Event(type=kind, subject_type="acme_order", subject_id=self.now.id, actor=actor, details=details)


async def _together(asked: Asked, order: AcmeOrder, csr: CsrFacts) -> AcmeOrder | None:
    """Issue a first certificate together with what others finalize; the order as it stands then, None where it has to
    go alone: nothing was written.
    """
    ctx, found = asked.house.state.ctx, asked.found
    if found is None or found.has_earlier:
        return None
    async with ctx.database.read() as tx:
        if await _unauthorized(tx, asked, order, found.proofs) is not None:
            return None  # alone it is ended, behind the lock on its row
        external = vouching(asked, asked.mine, found.key)
        profile = await offers.chosen(tx, asked, order.profile or None)
    going = _Order(asked, order, csr)
    try:
        wish = _wish(asked, profile, order, external, csr)
        member = await asked.house.state.issuing.ask(ctx.scope, asked.actor, wish, going, BUDGET)
    except PolicyDenied as denied:
        raise _refusal(denied) from denied
    return going.now if member is not None else None


def _wish(
    asked: Asked, profile: Profile, order: AcmeOrder, external: ExternalKey | None, csr: CsrFacts
) -> NewCertificate:
    names = [naming.parse(name) for name in order.names]
    certificate_id = f"mc-acme-{order.id.removeprefix('acme-ord-')}"
    return wish_of(asked, profile, names, external, certificate_id, csr_pem(csr.csr_der))


def _refusal(denied: PolicyDenied) -> AcmeRefusal:
    faults = [Subproblem(ProblemType.BAD_CSR, each.message) for each in denied.violations]
    return AcmeRefusal(ProblemType.BAD_CSR, denied.message, subproblems=faults if len(faults) > 1 else [])


async def _drive(ctx: Context, job_id: str) -> None:
    try:
        await flow.drive(ctx, job_id, BUDGET)
    except CertctlError as error:
        log.warning("acme_job_not_driven", job_id=job_id, error=error)
    except Exception:
        # nobody may be waiting for it any more; whoever claims its step goes on
        log.exception("acme_job_not_driven", job_id=job_id)


def _check_ready(order: AcmeOrder | None) -> None:
    if order is None or order.status != OrderState.READY:
        status = order.status if order is not None else "gone"
        raise AcmeRefusal(ProblemType.ORDER_NOT_READY, f"the order is {status}, not ready")


def _read(asked: Asked, order: AcmeOrder) -> CsrFacts:
    """The CSR, which names exactly what was ordered, of whatever type, and holds another key than the account's."""
    wanted = wire.read(asked.payload, Finalize)
    try:
        csr = read_csr(jws.decode(wanted.csr, "csr"))
        named = set(csr.names) | ({parse_name(csr.common_name, "csr")} if csr.common_name else set())
    except Malformed as error:
        raise AcmeRefusal(ProblemType.BAD_CSR, error.message) from error
    asked_for = {naming.parse(name) for name in order.names}
    if named != asked_for:
        raise AcmeRefusal(ProblemType.BAD_CSR, _difference(named, asked_for))
    if csr.spki_der == spki_der(asked.jwk.key):
        raise AcmeRefusal(ProblemType.BAD_CSR, "the CSR holds the account's key; make one of its own")
    return csr


def _difference(named: set[Name], asked_for: set[Name]) -> str:
    more = ", ".join(sorted(naming.kept(name) for name in named - asked_for))
    fewer = ", ".join(sorted(naming.kept(name) for name in asked_for - named))
    told = [f"it also names {more}"] if more else []
    told += [f"it does not name {fewer}"] if fewer else []
    return f"the CSR must name exactly what was ordered: {'; '.join(told)}"[:1000]


async def _submit(
    asked: Asked, ctx: Context, order: AcmeOrder, csr: CsrFacts
) -> tuple[AcmeOrder, Sequence[AcmeAuthorization]]:
    lost: AcmeRefusal | None = None
    async with ctx.database.begin("acme.finalize") as tx:
        held = await acme.get(tx, ctx.scope, AcmeOrder, order.id, lock=True)
        _check_ready(held)
        if held is None:
            raise AssertionError("an order that is ready is there")
        proofs = await acme.authorizations_of(tx, ctx.scope, order.id)
        lost = await _unauthorized(tx, asked, held, proofs)
        if lost is not None:
            await fail(tx, ctx, held.id, lost, asked.actor)
        else:
            external = await external_key(tx, asked, asked.mine)
            held = await _write(tx, asked, ctx, held, csr, external)
    if lost is not None:
        raise lost
    return held, proofs


async def _unauthorized(
    tx: Tx, asked: Asked, order: AcmeOrder, proofs: Sequence[AcmeAuthorization]
) -> AcmeRefusal | None:
    """Why the order can no longer be finalized: an authorization that was given up or has lapsed."""
    ctx = asked.house.state.ctx
    if not all(_holds(proof, asked) for proof in proofs) or len(proofs) != len(order.names):
        return AcmeRefusal(ProblemType.UNAUTHORIZED, "an authorization of this order is no longer valid")
    if trusts(asked):
        return None
    for proof in proofs:
        # made while words were trusted, and now proof is wanted
        if not any(_was_seen(way) for way in await acme.challenges_of(tx, ctx.scope, proof.id)):
            return AcmeRefusal(ProblemType.UNAUTHORIZED, "control of a name of this order was never proven")
    return None


def _was_seen(way: AcmeChallenge) -> bool:
    return way.status == ChallengeStatus.VALID and way.attempts > 0


def _holds(proof: AcmeAuthorization, asked: Asked) -> bool:
    return proof.status == AuthorizationStatus.VALID and proof.expires_at > asked.house.state.ctx.now()


async def _write(
    tx: Tx, asked: Asked, ctx: Context, order: AcmeOrder, csr: CsrFacts, external: ExternalKey | None
) -> AcmeOrder:
    """The request itself: the next version of what this account has for these names, else a new certificate."""
    profile = await offers.chosen(tx, asked, order.profile or None)
    wish = _wish(asked, profile, order, external, csr)
    try:
        await request.judge(tx, ctx, ctx.scope, asked.actor, wish)
        certificate_id, job_id = await _next_version(tx, asked, profile, order), ""
        if certificate_id:
            job = await request.next_version_in(
                tx, ctx, ctx.scope, asked.actor, certificate_id, wish.csr_pem, f"acme/{order.id}"
            )
            job_id = job.id if job is not None else ""
        if not job_id:
            made, written = await request.create_in(tx, ctx, ctx.scope, asked.actor, wish)
            certificate_id, job_id = made.id, written[0].id
    except PolicyDenied as denied:
        raise _refusal(denied) from denied
    kept = {"certificate_id": certificate_id, "job_id": job_id, "updated_at": ctx.now()}
    await acme.move(tx, ctx.scope, AcmeOrder, order.id, OrderState.PROCESSING, **kept)
    details = {"certificate_id": certificate_id, "job_id": job_id, "spki_sha256": csr.spki_sha256}
    await note(tx, asked, EventType.ACME_ORDER_PROCESSING, order.id, details)
    return msgspec.structs.replace(order, status=OrderState.PROCESSING, **kept)


async def _next_version(tx: Tx, asked: Asked, profile: Profile, order: AcmeOrder) -> str:
    """The certificate that this account has for these names of this profile and its issuer; empty for none."""
    ctx = asked.house.state.ctx
    earlier = await acme.earlier_order(tx, ctx.scope, order)
    if earlier is None:
        return ""
    certificate = await views.certificate(tx, ctx.scope, earlier.certificate_id)
    same = certificate.issuer_id == (profile.acme_issuer_id or DEFAULT_ISSUER)
    return certificate.id if same and certificate.certificate_profile_id == profile.id else ""
