"""Endpoints that follow what is deployed: a check a target, whose expected certificate moves with each deployment.

All of it is written in the transaction that records the deployment, the edit or the end: a check never expects what
nobody serves any more, and whoever was told that something is wrong hears when nobody looks at it any more.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from certctl.connectors.dial import judge
from certctl.connectors.probe import split_endpoint
from certctl.core.actor import Actor
from certctl.core.certificate import Certificate
from certctl.core.errors import CertctlError, Misconfigured
from certctl.core.events import Event, EventType, Notice
from certctl.core.health import CheckSource, HealthCheck, HealthStatus, Protocol
from certctl.core.ids import new_id
from certctl.core.names import canonical_dns
from certctl.core.target import TargetRecord
from certctl.ledger import append, notify
from certctl.lifecycle.context import Context
from certctl.policy.jitter import fraction_of
from certctl.store import catalogue, health
from certctl.store.tx import Tx

NOTICE = "EndpointHealth"
# what servers of mail speak before TLS where their target's configuration does not say
_SPOKEN = {"postfix": Protocol.SMTP, "dovecot": Protocol.IMAP}
# an edit that turns the look elsewhere, or off, begins anew: what was seen is no longer what is asked
FRESH: dict[str, Any] = {
    "status": HealthStatus.UNKNOWN,
    "observed_fingerprint": "",
    "failure_kind": "",
    "failure_reason": "",
    "consecutive_failures": 0,
    "response_time_ms": 0,
    "tls_version": "",
    "cipher_suite": "",
    "cert_subject": "",
    "cert_issuer": "",
    "cert_expiry": None,
    "trusted_by": "",
    "acknowledged": False,
    "acknowledged_by": "",
    "acknowledged_at": None,
    "incident": "",
    "lease_owner": "",
    "run_id": "",
    "run_began_at": None,
}


def endpoint_of(config: Mapping[str, Any]) -> str:
    """Where a target serves TLS: `endpoint`, or the reference product's host fields and `port`; empty if unsaid."""
    if config.get("endpoint"):
        return str(config["endpoint"])
    host = next((str(config[name]) for name in ("host", "hostname", "target", "address") if config.get(name)), "")
    if not host:
        return ""
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{shown}:{config.get('port') or 443}"


def protocol_of(target: TargetRecord) -> Protocol:
    """How TLS begins at a target."""
    said = target.config.get("starttls", _SPOKEN.get(target.type.lower(), ""))
    return Protocol(said) if said in set(Protocol) else Protocol.TLS


def new_check(
    ctx: Context, *, endpoint: str, source: CheckSource, first_look: datetime, check_id: str = "", **more: Any
) -> HealthCheck:
    """A check that nobody has looked by yet."""
    now = ctx.now()
    blank: dict[str, Any] = {
        "tenant_id": ctx.scope.tenant_id,
        "id": check_id or new_id("hc"),
        "endpoint": endpoint,
        "server_name": "",
        "protocol": Protocol.TLS,
        "ca_pem": "",
        "certificate_id": "",
        "source": source,
        "follows": None,
        "expected_fingerprint": "",
        "last_checked_at": None,
        "last_success_at": None,
        "last_failure_at": None,
        "last_transition_at": None,
        "degraded_threshold": 2,
        "down_threshold": 5,
        "check_interval_seconds": int(ctx.watching.default_interval.total_seconds()),
        "enabled": True,
        "next_check_at": first_look,
        "created_at": now,
        "updated_at": now,
    }
    return HealthCheck(**(blank | FRESH | more))


async def deployed(tx: Tx, ctx: Context, target_id: str, common_name: str, certificate_id: str, seen: str) -> None:
    """A deployment was seen served: its target's check expects this from now on; made, if there is none yet."""
    check = await health.following(tx, ctx.scope, target_id)
    if check is None and not _makes_checks(ctx):
        return
    target = await catalogue.get(tx, ctx.scope, TargetRecord, target_id)
    await _expect(tx, ctx, check, target, common_name, certificate_id, seen)


async def deployed_all(tx: Tx, ctx: Context, served: Sequence[tuple[TargetRecord, Certificate, str]]) -> None:
    """`deployed` for many targets, each with its certificate and the fingerprint that was seen there."""
    checks = await health.following_all(tx, ctx.scope, [target.id for target, _, _ in served])
    for target, certificate, seen in served:
        check = checks.get(target.id)
        if check is not None or _makes_checks(ctx):
            await _expect(tx, ctx, check, target, certificate.common_name, certificate.id, seen)


def _makes_checks(ctx: Context) -> bool:
    return ctx.watching.enabled and ctx.watching.auto_create


async def _expect(
    tx: Tx,
    ctx: Context,
    check: HealthCheck | None,
    target: TargetRecord,
    common_name: str,
    certificate_id: str,
    seen: str,
) -> None:
    endpoint = endpoint_of(target.config)
    if not _may_look(ctx, endpoint):
        if check is not None:
            await end(tx, ctx, check, ctx.actor, f"target {target.name} names no endpoint that the server may look at")
        return
    where: dict[str, Any] = {
        "endpoint": endpoint,
        "server_name": _server_name(target.config, common_name),
        "protocol": protocol_of(target),
        "certificate_id": certificate_id,
        "expected_fingerprint": seen,
    }
    now = ctx.now()
    if check is None:
        interval = ctx.watching.default_interval
        made = new_check(
            ctx,
            source=CheckSource.DEPLOYMENT,
            follows=target.id,
            first_look=now + interval * fraction_of(f"{target.id}/{seen}"),
            **where,
        )
        if await health.follow(tx, ctx.scope, made):
            await _note(tx, ctx, ctx.actor, EventType.CONFIG_CREATED, made.id, where)
        return
    changed: dict[str, Any] = {name: value for name, value in where.items() if getattr(check, name) != value}
    if not changed:
        return
    if set(changed) & {"endpoint", "server_name", "protocol"}:
        await over(tx, ctx, check, f"{check.endpoint} is no longer where target {target.name} serves")
        changed |= FRESH
    elif check.enabled:
        changed |= {"next_check_at": now + timedelta(seconds=10), "lease_owner": ""}
    await health.change(tx, ctx.scope, check.id, updated_at=now, **changed)
    await _note(tx, ctx, ctx.actor, EventType.CONFIG_UPDATED, check.id, where)


async def applied(tx: Tx, ctx: Context, target_id: str, certificate_id: str, version_fingerprint: str) -> None:
    """A deployment is done by the agent's word, and nobody saw it: a check that is there expects it; none is made."""
    check = await health.following(tx, ctx.scope, target_id)
    if check is None or check.certificate_id != certificate_id or check.expected_fingerprint == version_fingerprint:
        return
    await health.change(tx, ctx.scope, check.id, expected_fingerprint=version_fingerprint, updated_at=ctx.now())
    details = {"expected_fingerprint": version_fingerprint}
    await _note(tx, ctx, ctx.actor, EventType.CONFIG_UPDATED, check.id, details)


async def unmapped(tx: Tx, ctx: Context, actor: Actor, certificate_id: str, targets: Iterable[str] | None) -> None:
    """A certificate is no longer deployed on these targets (None: on any): the checks of its deployments end there."""
    left = None if targets is None else set(targets)
    for check in await health.of_certificate(tx, ctx.scope, certificate_id):
        if check.follows is not None and (left is None or check.follows in left):
            await end(tx, ctx, check, actor, "the certificate is no longer deployed there")


async def retired(tx: Tx, ctx: Context, actor: Actor, target_id: str) -> None:
    """A target is gone, and its check with it."""
    check = await health.following(tx, ctx.scope, target_id)
    if check is not None:
        await end(tx, ctx, check, actor, "its target was deleted")


async def end(tx: Tx, ctx: Context, check: HealthCheck, actor: Actor, why: str) -> None:
    """Look no more: the check goes with its history, and what was told of it is over."""
    await over(tx, ctx, check, f"{check.endpoint} is watched no more: {why}")
    await health.remove(tx, ctx.scope, check.id)
    await _note(tx, ctx, actor, EventType.CONFIG_DELETED, check.id, {"endpoint": check.endpoint, "reason": why})


async def over(tx: Tx, ctx: Context, check: HealthCheck, message: str) -> None:
    """Whoever was told that something is wrong is told that it is over, if it was open."""
    if not check.incident:
        return
    notice = Notice(
        type=NOTICE,
        certificate_id=check.certificate_id,
        severity="informational",
        message=message,
        dedup_key=f"over/{check.incident}",
        incident=check.incident,
        resolves=True,
    )
    await notify(tx, ctx.scope, ctx.now(), notice)


async def _note(tx: Tx, ctx: Context, actor: Actor, kind: EventType, check_id: str, details: Mapping[str, Any]) -> None:
    event = Event(
        type=kind,
        subject_type="health_check",
        subject_id=check_id,
        actor=actor,
        details=msgspec.to_builtins(dict(details)),
    )
    await append(tx, ctx.scope, ctx.now(), event)


def _may_look(ctx: Context, endpoint: str) -> bool:
    """Whether the server may look there at all: 127.0.0.1 of an agent's host is not that of the server's."""
    try:
        host, port = split_endpoint(endpoint)
        judge(ipaddress.ip_address(host), port, ctx.probe_policy)
    except Misconfigured:
        return False
    except ValueError:
        return host.rstrip(".").lower() != "localhost" or ctx.probe_policy.allow_loopback
    return True


def _server_name(config: Mapping[str, Any], common_name: str) -> str:
    """What is asked for: what the target says, else the certificate's own name where it can be asked for."""
    said = str(config.get("sni") or common_name)
    try:
        return canonical_dns(said)
    except CertctlError:
        return ""
