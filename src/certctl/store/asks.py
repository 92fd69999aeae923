"""New orders asked of CAs, what became of each, and for which names no more are asked until somebody says so.

An ask is written before the CA hears of it: one that is still open after a crash may have placed an order that nobody
knows the address of.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.scope import Scope
from certctl.core.status import OrderStatus
from certctl.store.schema import ca_ask_domains, ca_asks, ca_orders, ca_pauses, orders
from certctl.store.tx import Tx


class AskState(StrEnum):
    """What became of an ask: declined is the new order, refused is the proof of an order that was placed.

    Lost: it may have placed an order whose address nobody knows. Absent: it has not, as the CA's list shows.
    """

    ASKING = "asking"
    ORDERED = "ordered"
    ISSUED = "issued"
    REFUSED = "refused"
    DECLINED = "declined"
    LOST = "lost"
    ABSENT = "absent"


_FUTILE = (AskState.REFUSED, AskState.DECLINED)
PLACED = (AskState.ASKING, AskState.ORDERED, AskState.ISSUED, AskState.REFUSED, AskState.LOST)
_OPEN = (AskState.ASKING, AskState.ORDERED)


class AskRecord(Struct, frozen=True, kw_only=True):
    """One ask. `names_hash` stands for the exact set of `names`; `exempt` ones count for no limit."""

    tenant_id: str
    id: str
    issuer_id: str
    certificate_id: str
    order_id: str
    names_hash: str
    names: str
    exempt: bool
    state: AskState
    detail: str
    asked_at: datetime
    ended_at: datetime | None = None


class PauseRecord(Struct, frozen=True, kw_only=True):
    """No order is asked for these names while `resumed_at` is not set."""

    tenant_id: str
    issuer_id: str
    names_hash: str
    certificate_id: str
    names: str
    reason: str
    failures: int
    paused_at: datetime
    resumed_at: datetime | None = None


async def begin(tx: Tx, scope: Scope, record: AskRecord) -> None:
    """Write an ask before it is made."""
    row = {name: getattr(record, name) for name in record.__struct_fields__} | {"tenant_id": scope.tenant_id}
    await tx.execute(sa.insert(ca_asks).values(row))


async def newest(tx: Tx, scope: Scope, order_id: str, states: tuple[AskState, ...] = _OPEN) -> AskRecord | None:
    """The newest ask for an order of ours that stands so."""
    c = ca_asks.c
    which = sa.and_(c.tenant_id == scope.tenant_id, c.order_id == order_id, c.state.in_(states))
    return await tx.one(AskRecord, sa.select(ca_asks).where(which).order_by(c.asked_at.desc(), c.id.desc()).limit(1))


async def end(tx: Tx, scope: Scope, ask_id: str, state: AskState, detail: str, now: datetime) -> bool:
    """Write what became of an open ask; False when it has ended already."""
    c = ca_asks.c
    changed = await tx.execute(
        sa.update(ca_asks)
        .where(c.tenant_id == scope.tenant_id, c.id == ask_id, c.state.in_(_OPEN))
        .values(state=state, detail=detail[:2000], ended_at=None if state == AskState.ORDERED else now)
    )
    return changed.rowcount == 1


async def nth_newest(
    tx: Tx, scope: Scope, issuer_id: str, names_hash: str, number: int, since: datetime, states: tuple[AskState, ...]
) -> datetime | None:
    """When the `number`-th newest ask since then that stands so was made: of all, or for the names."""
    c = ca_asks.c
    which = [c.tenant_id == scope.tenant_id, c.issuer_id == issuer_id, c.asked_at > since, c.exempt.is_(False)]
    which.append(c.state.in_(states))
    if names_hash:
        which.append(c.names_hash == names_hash)
    statement = sa.select(c.asked_at).where(*which).order_by(c.asked_at.desc()).offset(number - 1).limit(1)
    found: datetime | None = await tx.scalar(statement)
    return found


async def keep_domains(
    tx: Tx, scope: Scope, ask_id: str, ca_host: str, domains: Collection[str], now: datetime
) -> None:
    """Write under which registered domains the names of an ask lie."""
    row = {"tenant_id": scope.tenant_id, "ask_id": ask_id, "ca_host": ca_host, "asked_at": now}
    await tx.execute(sa.insert(ca_ask_domains), [row | {"domain": domain} for domain in sorted(domains)])


async def nth_of_domain(
    tx: Tx, scope: Scope, ca_host: str, domain: str, number: int, since: datetime
) -> datetime | None:
    """When the `number`-th newest ask since then under the domain was made, by whichever issuer at that CA."""
    a, d = ca_asks.c, ca_ask_domains.c
    statement = (
        sa.select(d.asked_at)
        .join(ca_asks, sa.and_(a.tenant_id == d.tenant_id, a.id == d.ask_id))
        .where(d.tenant_id == scope.tenant_id, d.ca_host == ca_host, d.domain == domain, d.asked_at > since)
        .where(a.state.in_((*_OPEN, AskState.ISSUED)))
        .order_by(d.asked_at.desc())
        .offset(number - 1)
        .limit(1)
    )
    found: datetime | None = await tx.scalar(statement)
    return found


async def used(tx: Tx, scope: Scope, issuer_id: str, since: datetime) -> int:
    """How many orders were placed since then, exempt ones left out."""
    c = ca_asks.c
    which = sa.and_(c.tenant_id == scope.tenant_id, c.issuer_id == issuer_id, c.asked_at > since, c.exempt.is_(False))
    return int(await tx.scalar(sa.select(sa.func.count()).where(which, c.state.in_(PLACED))))


async def futile(tx: Tx, scope: Scope, issuer_id: str, names_hash: str, since: datetime | None) -> int:
    """How many asks for these names failed since the last that was issued, and since `since`."""
    c = ca_asks.c
    mine = [c.tenant_id == scope.tenant_id, c.issuer_id == issuer_id, c.names_hash == names_hash]
    good = await tx.scalar(sa.select(sa.func.max(c.asked_at)).where(*mine, c.state == AskState.ISSUED))
    which = [*mine, c.state.in_(_FUTILE)]
    which += [c.asked_at > moment for moment in (good, since) if moment is not None]
    return int(await tx.scalar(sa.select(sa.func.count()).where(*which)))


async def lost(tx: Tx, scope: Scope, issuer_id: str, limit: int) -> list[AskRecord]:
    """Asks that may have placed an order whose address nobody knows, newest first."""
    c = ca_asks.c
    which = sa.and_(c.tenant_id == scope.tenant_id, c.issuer_id == issuer_id, c.state == AskState.LOST)
    return await tx.all(AskRecord, sa.select(ca_asks).where(which).order_by(c.asked_at.desc()).limit(limit))


async def pause(tx: Tx, scope: Scope, record: PauseRecord) -> None:
    """Ask no more for these names."""
    row = {name: getattr(record, name) for name in record.__struct_fields__} | {"tenant_id": scope.tenant_id}
    anew = {name: row[name] for name in ("certificate_id", "names", "reason", "failures", "paused_at", "resumed_at")}
    keys = ["tenant_id", "issuer_id", "names_hash"]
    await tx.execute(tx.insert(ca_pauses).values(row).on_conflict_do_update(index_elements=keys, set_=anew))


async def paused(tx: Tx, scope: Scope, issuer_id: str, names_hash: str) -> PauseRecord | None:
    """The pause of these names, over or not."""
    c = ca_pauses.c
    which = sa.and_(c.tenant_id == scope.tenant_id, c.issuer_id == issuer_id, c.names_hash == names_hash)
    return await tx.one(PauseRecord, sa.select(ca_pauses).where(which))


async def pauses(tx: Tx, scope: Scope, issuer_id: str, limit: int) -> list[PauseRecord]:
    """The pauses of an issuer that stand, newest first."""
    c = ca_pauses.c
    which = sa.and_(c.tenant_id == scope.tenant_id, c.issuer_id == issuer_id, c.resumed_at.is_(None))
    return await tx.all(PauseRecord, sa.select(ca_pauses).where(which).order_by(c.paused_at.desc()).limit(limit))


async def number_paused(tx: Tx, scope: Scope) -> int:
    """How many pauses stand."""
    c = ca_pauses.c
    which = sa.and_(c.tenant_id == scope.tenant_id, c.resumed_at.is_(None))
    return int(await tx.scalar(sa.select(sa.func.count()).where(which)))


async def resume(tx: Tx, scope: Scope, issuer_id: str, certificate_id: str, now: datetime) -> list[PauseRecord]:
    """End the pauses of an issuer, or those of one certificate; what they were."""
    c = ca_pauses.c
    which = sa.and_(c.tenant_id == scope.tenant_id, c.issuer_id == issuer_id, c.resumed_at.is_(None))
    if certificate_id:
        which = sa.and_(which, c.certificate_id == certificate_id)
    return await tx.all(PauseRecord, sa.update(ca_pauses).where(which).values(resumed_at=now).returning(*c))


async def has_old(tx: Tx, scope: Scope, now: datetime, kept: timedelta) -> bool:
    """Whether there is something older than `kept`: a look that locks nothing."""
    a, o = ca_asks.c, ca_orders.c
    asks_there = sa.exists().where(a.tenant_id == scope.tenant_id, a.asked_at < now - kept)
    orders_there = sa.exists().where(o.tenant_id == scope.tenant_id, o.created_at < now - kept)
    return bool(await tx.scalar(sa.select(sa.or_(asks_there, orders_there))))


async def sweep(tx: Tx, scope: Scope, now: datetime, kept: timedelta) -> int:
    """Forget asks that ended and addresses of orders that came to their end, both older than `kept`."""
    before, a, o = now - kept, ca_asks.c, ca_orders.c
    asks_gone = await tx.execute(
        sa.delete(ca_asks).where(a.tenant_id == scope.tenant_id, a.asked_at < before, a.state != AskState.ASKING)
    )
    d = ca_ask_domains.c
    await tx.execute(sa.delete(ca_ask_domains).where(d.tenant_id == scope.tenant_id, d.asked_at < before))
    live = sa.select(orders.c.id).where(
        orders.c.tenant_id == scope.tenant_id, orders.c.status.not_in((OrderStatus.RECORDED, OrderStatus.REJECTED))
    )
    orders_gone = await tx.execute(
        sa.delete(ca_orders).where(o.tenant_id == scope.tenant_id, o.created_at < before, o.order_id.not_in(live))
    )
    return int(asks_gone.rowcount + orders_gone.rowcount)
