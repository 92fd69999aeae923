"""Validation (RFC 8555 7.5.1, 8): challenges that are to be looked at are leased, looked at, and decided.

Any process may take any challenge, for a lease (`CERTCTL_STEP_LEASE`) that it pushes on while it looks; one that dies
leaves a lease that lapses. A failure that may pass is tried again a
little later, twice; the last one decides the challenge, its authorization and its order.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Protocol

from certctl.connectors.validation import Proof
from certctl.core.acme import (
    CHALLENGE_TYPES,
    DNS_01,
    HTTP_01,
    TLS_ALPN_01,
    AcmeAccount,
    AcmeAuthorization,
    AcmeChallenge,
    AcmeOrder,
    AcmeRules,
    AuthorizationStatus,
    ChallengeStatus,
    OrderState,
)
from certctl.core.actor import Actor, ActorType
from certctl.core.errors import CertctlError
from certctl.core.events import Event, EventType
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.protocols.acme import naming
from certctl.protocols.acme.settling import fail
from certctl.store import acme
from certctl.store.tx import Tx
from certctl.store.wake import Wakeups
from certctl.telemetry import metrics
from certctl.telemetry.logging import get_logger
from certctl.wire.problem import AcmeRefusal, ProblemType, Subproblem

log = get_logger(__name__)

MOST_ATTEMPTS = 3
PAUSES = (timedelta(seconds=2), timedelta(seconds=5))
_LONGEST = timedelta(seconds=60)
_POLL_SECONDS = 1.0
_AFTER_ERROR_SECONDS = 2.0
# CA/Browser Forum BR 4.2.2.1: what CAA records said is good for eight hours
_CAA_LASTS = timedelta(hours=8)
# what does not pass by waiting
_FINAL = frozenset({ProblemType.CAA, ProblemType.UNAUTHORIZED})


class Proves(Protocol):
    """Whoever looks."""

    async def prove(self, proof: Proof) -> None:
        """Return when it is proven; raise AcmeRefusal."""
        ...


class Validator:
    """The loop of one process."""

    def __init__(self, ctx: Context, wakeups: Wakeups, rules: AcmeRules, prover: Proves) -> None:
        self._ctx = ctx
        self._wakeups = wakeups
        self._rules = rules
        self._prover = prover
        self._stopping = False
        self._running: dict[str, set[asyncio.Task[None]]] = {kind: set() for kind in CHALLENGE_TYPES}
        self._held: dict[str, AcmeChallenge] = {}

    def stop(self) -> None:
        """Finish what is in hand, take no more."""
        self._stopping = True
        self._wakeups.tell((acme.CHANNEL,))

    async def run(self) -> None:
        """Look until stopped; errors of the database are waited out."""
        keeper = asyncio.create_task(self._keep_leases(), name="acme-leases")
        try:
            await self._look()
        finally:
            keeper.cancel()

    async def _keep_leases(self) -> None:
        """What is looked at may take longer than a lease: as long as this process lives it is this process's."""
        ctx = self._ctx
        while True:
            await asyncio.sleep(ctx.patience.lease.total_seconds() / 3)
            held = list(self._held.values())
            if not held:
                continue
            try:
                async with ctx.database.begin("acme.hold") as tx:
                    await acme.hold_challenges(tx, ctx.scope, held, ctx.now() + ctx.patience.lease)
            except CertctlError as error:
                log.warning("acme_leases_not_kept", error=error.message, detail=error.detail)

    async def _look(self) -> None:
        with self._wakeups.watch(acme.CHANNEL) as watch:
            while not self._stopping:
                try:
                    taken = await self._take()
                except CertctlError as error:
                    log.warning("acme_validation_waits", error=error.message, detail=error.detail)
                    await asyncio.sleep(_AFTER_ERROR_SECONDS)
                    continue
                except Exception:
                    log.exception("acme_validation_failed")
                    await asyncio.sleep(_AFTER_ERROR_SECONDS)
                    continue
                if not taken and not self._stopping:
                    await watch.wait(_POLL_SECONDS)
        await asyncio.gather(*(task for tasks in self._running.values() for task in tasks), return_exceptions=True)

    async def _take(self) -> int:
        ctx = self._ctx
        async with ctx.database.read() as tx:
            if not await acme.has_work(tx, ctx.scope, ctx.now()):
                return 0
        taken = 0
        for kind, most in self._most().items():
            free = most - len(self._running[kind])
            if free <= 0:
                continue
            async with ctx.database.begin("acme.claim") as tx:
                claimed = await acme.claim_challenges(
                    tx,
                    ctx.scope,
                    owner=ctx.owner,
                    kind=kind,
                    now=ctx.now(),
                    until=ctx.now() + ctx.patience.lease,
                    limit=free,
                )
            for way in claimed:
                task = asyncio.create_task(self.validate(way), name=f"acme-{way.id}")
                self._running[kind].add(task)
                task.add_done_callback(self._running[kind].discard)
            taken += len(claimed)
        return taken

    def _most(self) -> dict[str, int]:
        rules = self._rules
        return {
            HTTP_01: rules.http01_concurrency,
            DNS_01: rules.dns01_concurrency,
            TLS_ALPN_01: rules.tlsalpn01_concurrency,
        }

    async def validate(self, way: AcmeChallenge) -> None:
        """Look at one leased challenge and write what was seen."""
        self._held[way.id] = way
        try:
            await self._validate(way)
        except CertctlError as error:
            # its lease lapses, and somebody looks again
            log.warning("acme_validation_not_written", challenge_id=way.id, error=error.message)
        except Exception:
            log.exception("acme_validation_failed", challenge_id=way.id)
        finally:
            self._held.pop(way.id, None)

    async def _validate(self, way: AcmeChallenge) -> None:
        ctx = self._ctx
        async with ctx.database.read() as tx:
            proof = await acme.get(tx, ctx.scope, AcmeAuthorization, way.authorization_id)
            account = await acme.get(tx, ctx.scope, AcmeAccount, way.account_id)
        if proof is None or account is None:
            return
        why = await self._why_not(way, proof, account)
        async with ctx.database.begin("acme.validated") as tx:
            if await acme.still_held(tx, ctx.scope, way):
                await _write(tx, ctx, self._rules, way, proof, why)

    async def _why_not(self, way: AcmeChallenge, proof: AcmeAuthorization, account: AcmeAccount) -> AcmeRefusal | None:
        asked = Proof(
            kind=way.type,
            name=naming.parse(proof.name),
            wildcard=proof.wildcard,
            token=way.token,
            thumbprint=account.thumbprint,
            account_id=account.id,
            profile_id=account.profile_id,
        )
        try:
            async with asyncio.timeout(_LONGEST.total_seconds()):
                await self._prover.prove(asked)
        except AcmeRefusal as refusal:
            return refusal
        except TimeoutError:
            return AcmeRefusal(ProblemType.CONNECTION, "validation took too long")
        except Exception:
            log.exception("acme_validation_failed", challenge_id=way.id)
            return AcmeRefusal(ProblemType.SERVER_INTERNAL, "validation failed here")
        return None


async def _write(
    tx: Tx, ctx: Context, rules: AcmeRules, way: AcmeChallenge, proof: AcmeAuthorization, why: AcmeRefusal | None
) -> None:
    now = ctx.now()
    let_go: dict[str, Any] = {"lease_owner": "", "lease_until": None}
    if why is not None and why.kind not in _FINAL and way.attempts < MOST_ATTEMPTS:
        again = now + PAUSES[min(way.attempts, len(PAUSES)) - 1]
        await acme.change(tx, ctx.scope, AcmeChallenge, way.id, run_at=again, error=why.document(), **let_go)
        return
    order = await acme.get(tx, ctx.scope, AcmeOrder, proof.order_id, lock=True)
    actor = Actor(f"acme:{way.account_id}", ActorType.ACME_ACCOUNT)
    if why is None:
        await acme.move(
            tx, ctx.scope, AcmeChallenge, way.id, ChallengeStatus.VALID, validated_at=now, error=None, **let_go
        )
        good_for = min(rules.authorization_ttl, _CAA_LASTS) if rules.caa_identities else rules.authorization_ttl
        held = {"validated_at": now, "expires_at": now + good_for}
        await acme.move(tx, ctx.scope, AcmeAuthorization, proof.id, AuthorizationStatus.VALID, **held)
        if order is not None:
            await _make_ready(tx, ctx, order)
    else:
        document = why.document()
        await acme.move(tx, ctx.scope, AcmeChallenge, way.id, ChallengeStatus.INVALID, error=document, **let_go)
        await acme.move(tx, ctx.scope, AcmeAuthorization, proof.id, AuthorizationStatus.INVALID)
        shown = naming.identifier(proof.name)
        part = Subproblem(why.kind, why.message, (shown["type"], shown["value"]))
        await fail(tx, ctx, proof.order_id, AcmeRefusal(why.kind, why.message, subproblems=[part]), actor)
    details = {"type": way.type, "name": proof.name, "valid": why is None, "error": why.message if why else ""}
    event = Event(
        type=EventType.ACME_CHALLENGE_COMPLETED,
        subject_type="acme_authorization",
        subject_id=proof.id,
        actor=actor,
        details=details,
    )
    await append(tx, ctx.scope, now, event)
    valid = why is None
    tx.count(
        ctx.scope.tenant_id, metrics.ACME_CHALLENGE_VALIDATE_VALID if valid else metrics.ACME_CHALLENGE_VALIDATE_INVALID
    )


async def _make_ready(tx: Tx, ctx: Context, order: AcmeOrder) -> None:
    proofs = await acme.authorizations_of(tx, ctx.scope, order.id)
    if all(each.status == AuthorizationStatus.VALID for each in proofs):
        await acme.move(tx, ctx.scope, AcmeOrder, order.id, OrderState.READY, updated_at=ctx.now())
