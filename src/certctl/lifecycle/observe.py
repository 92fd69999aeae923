"""observe: what is true over time. Agents that fell silent read Offline, and somebody is told. Endpoints are looked at,
each look under a lease: its state follows from what was seen and its thresholds, and whoever has to know hears of it.

A killed process loses nothing: what it was looking at comes up again when its lease lapses. Must never hold a
transaction open while it looks, nor write what a look found when somebody else has it by then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import structlog
from msgspec import Struct

from certctl.connectors.probe import Served, Starttls, probe_tls, split_endpoint
from certctl.connectors.roots import system_roots
from certctl.core.errors import ConnectorError, Malformed, Rejected, Temporary
from certctl.core.events import Event, EventType, Notice
from certctl.core.health import FaultKind, HealthCheck, HealthEntry, HealthStatus, Protocol
from certctl.core.ids import new_id, uuid7
from certctl.core.notification import incident
from certctl.core.status import AgentStatus
from certctl.core.target import AgentRecord
from certctl.ledger import append, notify
from certctl.lifecycle import endpoints
from certctl.lifecycle.context import Context
from certctl.pki.pem import read_certificates
from certctl.policy.health import ALERTED, Fault, Judged, RootSet, judge_served, next_status, root_set
from certctl.policy.jitter import fraction_of
from certctl.store import agents, authority, catalogue, health
from certctl.store.tx import Tx
from certctl.telemetry import metrics, points

log = structlog.get_logger(__name__)

# looks that end within so many seconds are written in one commit; as many are begun at most as may be under way
_GATHER_SECONDS = 0.2
# no look begins so many seconds after a turn did: whoever stops the process waits no longer than for the last of them
_BEGIN_WITHIN = 10.0
# an entry of the history that nothing changes is closed after this, so that the history has points, and can be purged
_LONGEST_RUN = timedelta(hours=1)
_LONGEST_REASON = 500
_STARTTLS: Mapping[str, Starttls] = {Protocol.SMTP: "smtp", Protocol.IMAP: "imap", Protocol.POP3: "pop3"}


async def tick(ctx: Context) -> int:
    """Mark agents that have not been heard from for too long; returns how many fell silent."""
    now = ctx.now()
    async with ctx.database.begin("observe") as tx:
        silent = await agents.silent_since(tx, ctx.scope, now - ctx.patience.agent_silence)
        for agent in silent:
            await catalogue.change(tx, ctx.scope, AgentRecord, agent.id, status=AgentStatus.OFFLINE)
            last = agent.last_heartbeat_at.isoformat() if agent.last_heartbeat_at else "never"
            await append(
                tx,
                ctx.scope,
                now,
                Event(
                    type=EventType.AGENT_SILENT,
                    subject_type="agent",
                    subject_id=agent.id,
                    actor=ctx.actor,
                    details={"last_heartbeat_at": last},
                ),
            )
            notice = Notice(
                type="AgentOffline",
                certificate_id="",
                severity="warning",
                message=f"agent {agent.name} has not been heard from since {last}",
                dedup_key=f"agent-silent/{agent.id}/{last}",
                incident=incident("agent", agent.id),
            )
            await notify(tx, ctx.scope, now, notice)
        return len(silent)


class _Sight(Struct, frozen=True):
    """What one look brought: something served, or the error in its way."""

    check: HealthCheck
    milliseconds: int
    judged: Judged | None = None
    served: Served | None = None
    fault: Fault | None = None


async def look(ctx: Context) -> int:
    """Look at the endpoints that are due; returns how many. What becomes due meanwhile is left to the next turn."""
    async with ctx.database.read() as tx:
        if not await health.has_due(tx, ctx.scope, ctx.now()):
            return 0
        own = await authority.signing_cas(tx, ctx.scope, roots=True)
    roots = root_set("certctl", [ca.certificate_der for ca in own if not ca.parent_id])
    token = f"{ctx.owner}/{uuid7()}"
    until = asyncio.get_running_loop().time() + _BEGIN_WITHIN
    busy: set[asyncio.Task[_Sight]] = set()
    looked, is_dry = 0, False
    try:
        while True:
            free = ctx.watching.most_at_once - len(busy)
            if free > 0 and not is_dry and asyncio.get_running_loop().time() < until:
                claimed, chains = await _claim(ctx, token, free)
                is_dry = len(claimed) < free
                for check in claimed:
                    anchors = _anchors(check, roots, chains.get(check.expected_fingerprint, ""))
                    busy.add(asyncio.create_task(_look(ctx, check, anchors), name=f"look-{check.id}"))
            if not busy:
                return looked
            await asyncio.wait(busy, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(_GATHER_SECONDS)
            done = {task for task in busy if task.done()}
            busy -= done
            looked += len(done)
            await _record(ctx, token, [task.result() for task in done])
    finally:
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)


async def _claim(ctx: Context, token: str, limit: int) -> tuple[list[HealthCheck], dict[str, str]]:
    """What is looked at next, and the chains that other CAs gave with what is expected there."""
    async with ctx.database.begin("observe.claim") as tx:
        now = ctx.now()
        until = now + ctx.watching.timeout + ctx.patience.lease
        claimed = await health.claim(tx, ctx.scope, token, now, until, limit)
        expected = [check.expected_fingerprint for check in claimed if check.expected_fingerprint]
        return claimed, await health.foreign_chains(tx, ctx.scope, expected) if expected else {}


def _anchors(check: HealthCheck, own: RootSet, chain_pem: str) -> tuple[RootSet, ...]:
    """The roots that count: those given with the check alone, else our own, the machine's, and the root that the CA of
    the expected certificate gave with it.
    """
    if check.ca_pem:
        return (root_set("given", _ders(check.ca_pem)),)
    foreign = _ders(chain_pem) if chain_pem else ()
    return (own, _of_system(), *((root_set("issuer", foreign[-1:]),) if foreign else ()))


def _ders(pem: str) -> tuple[bytes, ...]:
    try:
        return read_certificates(pem)
    except Malformed:
        return ()


@lru_cache(maxsize=1)
def _of_system() -> RootSet:
    return root_set("system", system_roots())


async def _look(ctx: Context, check: HealthCheck, anchors: Sequence[RootSet]) -> _Sight:
    begun = time.monotonic()

    def took() -> int:
        return int((time.monotonic() - begun) * 1000)

    try:
        host, port = split_endpoint(check.endpoint)
        name = check.server_name or host
        sni = "" if _is_address(name) else name
        starttls = _STARTTLS.get(check.protocol, "")
        served = await probe_tls(host, port, sni, ctx.probe_policy, ctx.watching.timeout, starttls=starttls)
        milliseconds = took()
        judged = judge_served(served.leaf_der, served.chain_der, name, anchors, ctx.now())
        return _Sight(check, milliseconds, judged, served)
    except ConnectorError as error:
        return _Sight(check, took(), fault=Fault(_kind_of(error), error.message))
    except Exception:
        log.exception("look_failed", health_check=check.id)
        why = "certctl's own look broke down, which says nothing about the endpoint; see the server's log"
        return _Sight(check, took(), fault=Fault(FaultKind.LOOK_FAILED, why))


def _is_address(name: str) -> bool:
    return ":" in name or name.replace(".", "").isdigit()


def _kind_of(error: ConnectorError) -> FaultKind:
    if isinstance(error, Rejected):
        return FaultKind.NO_TLS
    if isinstance(error, Temporary):
        return FaultKind.TIMED_OUT if isinstance(error.__cause__, TimeoutError) else FaultKind.UNREACHABLE
    return FaultKind.REFUSED


async def _record(ctx: Context, token: str, seen: Sequence[_Sight]) -> None:
    """Write what the looks found, each by the check as it is now: an edit or a renewal may have come meanwhile."""
    points.reach("observe.looked")
    async with ctx.database.begin("observe.record") as tx:
        held = await health.held(tx, ctx.scope, token, [sight.check.id for sight in seen])
        for sight in sorted(seen, key=lambda each: each.check.id):
            check = held.get(sight.check.id)
            if check is not None:
                await _settle(tx, ctx, token, check, sight)


async def _settle(tx: Tx, ctx: Context, token: str, check: HealthCheck, sight: _Sight) -> None:
    now = ctx.now()
    faults = await _faults(tx, ctx, check, sight)
    first = faults[0] if faults else None
    kind = first.kind if first else None
    before = HealthStatus(check.status)
    status, failures = next_status(
        before, check.consecutive_failures, kind, check.degraded_threshold, check.down_threshold
    )
    reason = "; ".join(fault.message for fault in faults)[:_LONGEST_REASON]
    values: dict[str, Any] = {
        "status": status,
        "consecutive_failures": failures,
        "failure_kind": str(kind or ""),
        "failure_reason": reason,
        "response_time_ms": sight.milliseconds,
        "last_checked_at": now,
        ("last_failure_at" if first else "last_success_at"): now,
        "next_check_at": now + _until_next(check, now),
    }
    if sight.served is not None and sight.judged is not None:
        values |= _told_by(sight.served, sight.judged)
    tx.count(ctx.scope.tenant_id, metrics.HEALTH_LOOKS, result=str(kind or "ok"))
    values |= await _extend_history(tx, ctx, check, values, sight)
    if status != before:
        values |= {"last_transition_at": now, "acknowledged": False, "acknowledged_by": "", "acknowledged_at": None}
        values |= await _tell(tx, ctx, check, status, reason)
    await health.settle(tx, ctx.scope, check.id, token, **values)


async def _faults(tx: Tx, ctx: Context, check: HealthCheck, sight: _Sight) -> list[Fault]:
    """What is wrong, the gravest first; whether it is the certificate that is expected, by what is expected now."""
    if sight.fault is not None:
        return [sight.fault]
    if sight.served is None or sight.judged is None:
        raise TypeError("a look brings something served or a fault")
    faults = list(sight.judged.faults)
    seen, pinned = sight.served.fingerprint_sha256, check.expected_fingerprint
    if seen == pinned or not (pinned or check.certificate_id):
        return faults
    allowed: set[str] = set()
    if check.certificate_id:
        allowed = await health.accepted(tx, ctx.scope, check.certificate_id, check.follows, pinned=bool(pinned))
    if seen in allowed or (not pinned and not allowed):
        return faults
    expected = pinned or "the certificate that was issued"
    faults.append(Fault(FaultKind.WRONG_CERTIFICATE, f"it serves the certificate {seen}, not {expected}"))
    return sorted(faults, key=lambda fault: list(FaultKind).index(fault.kind))


def _told_by(served: Served, judged: Judged) -> dict[str, Any]:
    facts = judged.facts
    return {
        "observed_fingerprint": served.fingerprint_sha256,
        "tls_version": served.tls_version,
        "cipher_suite": served.cipher,
        "cert_subject": facts.subject[:_LONGEST_REASON] if facts else "",
        "cert_issuer": facts.issuer[:_LONGEST_REASON] if facts else "",
        "cert_expiry": facts.not_after if facts else None,
        "trusted_by": judged.trusted_by,
    }


def _until_next(check: HealthCheck, now: datetime) -> timedelta:
    """The interval, a tenth more or less: checks that were made together are not looked at together for ever."""
    spread = 0.9 + 0.2 * fraction_of(f"{check.id}/{now.isoformat()}")
    return timedelta(seconds=check.check_interval_seconds * spread)


async def _extend_history(
    tx: Tx, ctx: Context, check: HealthCheck, values: Mapping[str, Any], sight: _Sight
) -> dict[str, Any]:
    """One entry for a run of looks that found the same, so that a quiet endpoint keeps a history of months small."""
    now, fingerprint = ctx.now(), sight.served.fingerprint_sha256 if sight.served else ""
    is_same = (
        check.run_began_at is not None
        and now - check.run_began_at < _LONGEST_RUN
        and values["status"] == check.status
        and values["failure_kind"] == check.failure_kind
        and (not fingerprint or fingerprint == check.observed_fingerprint)
    )
    if is_same:
        await health.extend_entry(tx, ctx.scope, check.run_id, now, sight.milliseconds)
        return {}
    entry = HealthEntry(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("hh"),
        health_check_id=check.id,
        status=values["status"],
        failure_kind=values["failure_kind"],
        failure_reason=values["failure_reason"],
        fingerprint=fingerprint,
        response_time_ms=sight.milliseconds,
        looks=1,
        checked_at=now,
        last_checked_at=now,
    )
    await health.add_entry(tx, ctx.scope, entry)
    return {"run_id": entry.id, "run_began_at": now}


async def _tell(tx: Tx, ctx: Context, check: HealthCheck, status: HealthStatus, reason: str) -> dict[str, Any]:
    """An event for each change of state; a notice for what is wrong, and one when it is over. Nothing is known of what
    cannot be looked at: then nothing is over.
    """
    now = ctx.now()
    details = {"endpoint": check.endpoint, "from": check.status, "to": str(status), "reason": reason}
    event = Event(
        type=EventType.HEALTH_CHANGED,
        subject_type="health_check",
        subject_id=check.id,
        actor=ctx.actor,
        details=details,
    )
    await append(tx, ctx.scope, now, event)
    if status in ALERTED:
        name = check.incident or incident("health", check.id, now.isoformat())
        shown = f"{check.endpoint} ({check.server_name})" if check.server_name else check.endpoint
        words = {HealthStatus.CERT_MISMATCH: "serves the wrong certificate"}
        notice = Notice(
            type=endpoints.NOTICE,
            certificate_id=check.certificate_id,
            severity=ALERTED[status],
            message=f"{shown} {words.get(status, f'is {status}')}: {reason}",
            dedup_key=f"{name}/{status}/{now.isoformat()}",
            incident=name,
        )
        await notify(tx, ctx.scope, now, notice)
        return {"incident": name}
    if status is HealthStatus.HEALTHY:
        await endpoints.over(tx, ctx, check, f"{check.endpoint} is healthy again")
        return {"incident": ""}
    return {}


async def purge(ctx: Context) -> int:
    """Forget history that is older than it is kept; returns how many entries."""
    gone, before = 0, ctx.now() - ctx.watching.history
    while True:
        async with ctx.database.read() as tx:
            if not await health.is_older(tx, ctx.scope, before):
                return gone
        async with ctx.database.begin("observe.purge") as tx:
            gone += await health.purge(tx, ctx.scope, before)
