"""New orders at other CAs: each kept before it is asked, within what the CA allows, and not over and over in vain.

A budget that is spent waits until there is room again; names that a CA refused several times running are paused until
somebody says that it is mended. Never asks a CA itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import datetime, timedelta

from msgspec import Struct

from certctl.connectors.base.issuer import Order
from certctl.control.changes import note
from certctl.control.registered_domains import domains_of
from certctl.core.actor import Actor
from certctl.core.ca_limits import Limit, Per, host_of, limits_of
from certctl.core.catalogue import IssuerRecord
from certctl.core.errors import CertctlError, Rejected, Temporary
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.scope import Scope
from certctl.ledger import append
from certctl.lifecycle import renew
from certctl.lifecycle.context import Context
from certctl.pki.certs import read_certificate
from certctl.store import asked, asks, catalogue
from certctl.store.asks import AskRecord, AskState, PauseRecord
from certctl.store.tx import Tx
from certctl.telemetry import metrics
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

# so many refusals running for the very same names: the next would be one more
PAUSED_AFTER = 5
_KEPT = timedelta(days=60)
_SHOWN, _MOST_NAMES = 100, 4000
_COUNTS = {
    Per.ACCOUNT: asks.PLACED,
    Per.NAMES: (AskState.ISSUED,),
    Per.FAILURES: (AskState.REFUSED,),
}


async def begin(ctx: Context, issuer_id: str, directory_url: str, order: Order, *, exempt: bool) -> None:
    """Keep that a new order is asked for. Raises Rejected while the names are paused, Temporary for a spent budget."""
    now, names_hash = ctx.now(), hash_of(order)
    async with ctx.database.begin("ca_ask.begin") as tx:
        stands = await asks.paused(tx, ctx.scope, issuer_id, names_hash)
        if stands is not None and stands.resumed_at is None:
            raise Rejected(
                f"nothing is asked of the CA for these names since {stands.paused_at:%Y-%m-%d %H:%M} UTC, after "
                f"{stands.failures} refusals running; the last: {stands.reason}; mend that, then resume: certctl "
                f"issuers resume {issuer_id}"
            )
        limits = () if exempt else limits_of(directory_url).limits
        for limit in limits:
            if limit.per is not Per.DOMAIN:
                await _refuse_spent(tx, ctx, issuer_id, names_hash, limit, now)
        by_domain = [limit for limit in limits if limit.per is Per.DOMAIN]
        domains = domains_of(order.names) if by_domain and not _renews(order) else frozenset()
        for limit in by_domain:
            await _refuse_spent_domain(tx, ctx, host_of(directory_url), domains, limit, now)
        record = AskRecord(
            tenant_id=ctx.scope.tenant_id,
            id=new_id("ask"),
            issuer_id=issuer_id,
            certificate_id=order.certificate_id,
            order_id=order.order_id,
            names_hash=names_hash,
            names=_shown_names(order),
            exempt=exempt,
            state=AskState.ASKING,
            detail="",
            asked_at=now,
        )
        await asks.begin(tx, ctx.scope, record)
        if domains:
            await asks.keep_domains(tx, ctx.scope, record.id, host_of(directory_url), domains, now)


async def _refuse_spent(tx: Tx, ctx: Context, issuer_id: str, names_hash: str, limit: Limit, now: datetime) -> None:
    of_names = names_hash if limit.per is not Per.ACCOUNT else ""
    since = now - limit.window
    nth = await asks.nth_newest(tx, ctx.scope, issuer_id, of_names, limit.number, since, _COUNTS[limit.per])
    if nth is not None:
        raise _spent(limit, "", nth + limit.window, now)


async def _refuse_spent_domain(
    tx: Tx, ctx: Context, ca_host: str, domains: Collection[str], limit: Limit, now: datetime
) -> None:
    for domain in sorted(domains):
        nth = await asks.nth_of_domain(tx, ctx.scope, ca_host, domain, limit.number, now - limit.window)
        if nth is not None:
            raise _spent(limit, f" ({domain})", nth + limit.window, now)


def _spent(limit: Limit, of: str, free_at: datetime, now: datetime) -> Temporary:
    error = Temporary(
        f"the CA takes {say(limit)}{of}, and so many there were: asked again at {free_at:%Y-%m-%d %H:%M} UTC",
        retry_after=free_at - now,
    )
    error.cause = "rate_limited"
    return error


def _renews(order: Order) -> bool:
    """Whether it is for the very names of the certificate that it takes the place of."""
    if order.replaces_der is None:
        return False
    return set(read_certificate(order.replaces_der).names) == set(order.names)


def say(limit: Limit) -> str:
    """A limit in words."""
    what = {
        Per.ACCOUNT: "new orders of an account",
        Per.NAMES: "certificates for one set of names",
        Per.FAILURES: "failures for one set of names",
        Per.DOMAIN: "new certificates under one registered domain",
    }[limit.per]
    hours = limit.window / timedelta(hours=1)
    span = f"{hours / 24:g} days" if hours > 24 else f"{hours:g} hours" if hours > 1 else "an hour"
    return f"{limit.number} {what} in {span}"


async def end(ctx: Context, issuer_id: str, order_id: str, state: str, detail: str = "") -> None:
    """Keep what became of the newest open ask for an order; names refused too often are paused."""
    async with ctx.database.begin("ca_ask.end") as tx:
        await end_in(tx, ctx, issuer_id, order_id, AskState(state), detail)


async def end_in(tx: Tx, ctx: Context, issuer_id: str, order_id: str, state: AskState, detail: str = "") -> None:
    """The same in a transaction that is open."""
    found = await asks.newest(tx, ctx.scope, order_id)
    if found is None or not await asks.end(tx, ctx.scope, found.id, state, detail, ctx.now()):
        return
    if state is AskState.LOST:
        tx.count(ctx.scope.tenant_id, metrics.CA_ORDERS_LOST)
        await note(tx, ctx, ctx.actor, EventType.ORDER_LOST, "order", order_id, [issuer_id])
    if state in {AskState.REFUSED, AskState.DECLINED}:
        await _pause_if_futile(tx, ctx, issuer_id, found, detail)


async def _pause_if_futile(tx: Tx, ctx: Context, issuer_id: str, ask: AskRecord, detail: str) -> None:
    before = await asks.paused(tx, ctx.scope, issuer_id, ask.names_hash)
    failures = await asks.futile(
        tx, ctx.scope, issuer_id, ask.names_hash, before.resumed_at if before is not None else None
    )
    if failures < PAUSED_AFTER:
        return
    record = PauseRecord(
        tenant_id=ctx.scope.tenant_id,
        issuer_id=issuer_id,
        names_hash=ask.names_hash,
        certificate_id=ask.certificate_id,
        names=ask.names,
        reason=detail[:2000],
        failures=failures,
        paused_at=ctx.now(),
    )
    await asks.pause(tx, ctx.scope, record)
    await _tell(tx, ctx, ctx.actor, EventType.ORDERS_PAUSED, record)


async def is_open(ctx: Context, order_id: str) -> bool:
    """Whether a new order was asked for, and nobody knows what became of it."""
    async with ctx.database.read() as tx:
        return await asks.newest(tx, ctx.scope, order_id, (AskState.ASKING,)) is not None


async def resume(ctx: Context, scope: Scope, actor: Actor, issuer_id: str, certificate_id: str = "") -> int:
    """End an issuer's pauses (or one certificate's), and ask again at once; returns how many."""
    async with ctx.database.begin("ca_ask.resume") as tx:
        await catalogue.get(tx, scope, IssuerRecord, issuer_id)
        ended = await asks.resume(tx, scope, issuer_id, certificate_id, ctx.now())
        for record in ended:
            await _tell(tx, ctx, actor, EventType.ORDERS_RESUMED, record)
    for record in ended:
        try:
            await renew.trigger(ctx, scope, actor, record.certificate_id, force=True)
        except CertctlError as error:  # archived meanwhile, or asked for already
            log.info("resumed_without_a_new_request", certificate_id=record.certificate_id, why=error.message)
    return len(ended)


async def _tell(tx: Tx, ctx: Context, actor: Actor, kind: EventType, record: PauseRecord) -> None:
    details = {"issuer_id": record.issuer_id, "names": record.names, "reason": record.reason}
    event = Event(
        type=kind,
        subject_type="certificate",
        subject_id=record.certificate_id,
        actor=actor,
        details=details | {"failures": record.failures},
    )
    await append(tx, ctx.scope, ctx.now(), event)


class Spent(Struct, frozen=True):
    """How much of a limit is used now."""

    limit: Limit
    used: int


class Standing(Struct, frozen=True, kw_only=True):
    """What is known of an issuer's account at its CA."""

    directory_url: str
    url: str
    key_change_open: bool
    created_at: datetime | None
    spent: list[Spent]
    lost: list[AskRecord]
    pauses: list[PauseRecord]


async def standing(ctx: Context, scope: Scope, issuer_id: str) -> Standing:
    """The account, the budget, what was lost and what is paused. Raises NotFound."""
    async with ctx.database.read() as tx:
        issuer = await catalogue.get(tx, scope, IssuerRecord, issuer_id)
        directory_url = str(issuer.config.get("directory_url", ""))
        account = await asked.account(tx, scope, issuer_id, directory_url)
        spent = [
            Spent(limit, await asks.used(tx, scope, issuer_id, ctx.now() - limit.window))
            for limit in limits_of(directory_url).limits
            if limit.per is Per.ACCOUNT
        ]
        return Standing(
            directory_url=directory_url,
            url=account.url if account else "",
            key_change_open=bool(account and account.sealed_next),
            created_at=account.created_at if account else None,
            spent=spent,
            lost=await asks.lost(tx, scope, issuer_id, _SHOWN),
            pauses=await asks.pauses(tx, scope, issuer_id, _SHOWN),
        )


async def sweep(ctx: Context) -> int:
    """Forget what came to its end long ago."""
    async with ctx.database.read() as tx:
        if not await asks.has_old(tx, ctx.scope, ctx.now(), _KEPT):
            return 0
    async with ctx.database.begin("ca_ask.sweep") as tx:
        return await asks.sweep(tx, ctx.scope, ctx.now(), _KEPT)


def hash_of(order: Order) -> str:
    """Stands for the exact set of names."""
    return hashlib.sha256("\n".join(_names(order)).encode()).hexdigest()


def _names(order: Order) -> list[str]:
    return sorted({order.common_name, *(name.value for name in order.names)} - {""})


def _shown_names(order: Order) -> str:
    return ", ".join(_names(order))[:_MOST_NAMES]
