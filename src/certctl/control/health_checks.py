"""Health checks of endpoints that people make, change, acknowledge and delete; those of deployments follow these.

A check that follows a target's deployments keeps its endpoint and expected certificate as the deployment says: only how
it is looked at is edited. Where the look is turned elsewhere, or off, what was seen before is no longer told.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from certctl.connectors.probe import split_endpoint
from certctl.control.changes import fault, note
from certctl.core.actor import Actor
from certctl.core.errors import CertctlError, Conflict, Malformed, Misconfigured, NotFound
from certctl.core.events import Event, EventType
from certctl.core.health import CheckSource, HealthCheck, HealthCounts, HealthEntry, HealthStatus, Protocol
from certctl.core.ids import check_id
from certctl.core.names import canonical_dns
from certctl.core.revision import Expected
from certctl.core.scope import Scope
from certctl.ledger import append
from certctl.lifecycle import endpoints
from certctl.lifecycle.context import Context
from certctl.pki.pem import read_certificates
from certctl.store import catalogue, health, views
from certctl.store.tx import Tx

MOST_HISTORY = 1000
SHORTEST_INTERVAL, LONGEST_INTERVAL, MOST_THRESHOLD = 10, 86_400, 1000
# what a deployment says of a check that follows it
FOLLOWED = frozenset({"endpoint", "server_name", "protocol", "certificate_id", "expected_fingerprint"})
# another of these is another question: what was seen before is no answer to it
_ANOTHER_LOOK = frozenset({"endpoint", "server_name", "protocol"})
_AILING = frozenset({HealthStatus.DEGRADED, HealthStatus.DOWN, HealthStatus.CERT_MISMATCH})


async def create(ctx: Context, scope: Scope, actor: Actor, wanted: dict[str, Any]) -> HealthCheck:
    """A new check, looked at soon; `wanted` has the API's fields. NotAllowed for a caller with limits that names no
    certificate of theirs.
    """
    given = _canonical(wanted)
    if not given.get("certificate_id"):
        scope.check_whole("a health check of no certificate")
    check = endpoints.new_check(
        ctx,
        endpoint=given.pop("endpoint", "") or _missing(),
        source=CheckSource.MANUAL,
        first_look=ctx.now(),
        check_id=check_id(given.pop("id")) if given.get("id") else "",
        **{name: value for name, value in given.items() if name != "id"},
    )
    _check_thresholds(check.degraded_threshold, check.down_threshold)
    async with ctx.database.begin("config.health_check") as tx:
        await _check_certificate(tx, scope, check.certificate_id)
        await catalogue.insert(tx, scope, check)
        await note(tx, ctx, actor, EventType.CONFIG_CREATED, "health_check", check.id)
    return check


async def update(
    ctx: Context, scope: Scope, actor: Actor, health_check_id: str, changes: dict[str, Any], expected: Expected = None
) -> HealthCheck:
    """Change what is given; absent fields stay. Conflict for what a deployment says."""
    changes = _canonical(changes)
    async with ctx.database.begin("config.health_check") as tx:
        before = await catalogue.get(tx, scope, HealthCheck, health_check_id, expected=expected)
        changed = {name: value for name, value in changes.items() if getattr(before, name) != value}
        if before.follows is not None and (said := sorted(set(changed) & FOLLOWED)):
            raise Conflict(f"{', '.join(said)} of this check follow the deployments of target {before.follows}")
        if "certificate_id" in changed:
            if not changed["certificate_id"]:
                scope.check_whole("a health check of no certificate")
            await _check_certificate(tx, scope, changed["certificate_id"])
        _check_thresholds(
            changed.get("degraded_threshold", before.degraded_threshold),
            changed.get("down_threshold", before.down_threshold),
        )
        fields = sorted(changed)
        changed |= await _turned(tx, ctx, before, changed)
        await catalogue.change(
            tx, scope, HealthCheck, health_check_id, expected=expected, updated_at=ctx.now(), **changed
        )
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "health_check", health_check_id, fields)
        return await catalogue.get(tx, scope, HealthCheck, health_check_id)


async def _turned(tx: Tx, ctx: Context, before: HealthCheck, changed: dict[str, Any]) -> dict[str, Any]:
    """What an edit does to what is known: nothing, unless the look goes elsewhere, or is switched off or on."""
    if changed.get("enabled") is False:
        await endpoints.over(tx, ctx, before, f"{before.endpoint} is watched no more: its check was switched off")
        return {**endpoints.FRESH, "next_check_at": None}
    if set(changed) & _ANOTHER_LOOK:
        await endpoints.over(tx, ctx, before, f"{before.endpoint} is watched no more: its check looks elsewhere")
        return {**endpoints.FRESH, "next_check_at": ctx.now() if changed.get("enabled", before.enabled) else None}
    if not changed.get("enabled", before.enabled):
        return {}
    # looked at anew, by the changed check; a look that is under way is refused
    return {"next_check_at": ctx.now(), "lease_owner": ""} if changed else {}


async def delete(ctx: Context, scope: Scope, actor: Actor, health_check_id: str, expected: Expected = None) -> None:
    """Delete a check with its history; one that follows deployments comes back with the next one."""
    async with ctx.database.begin("config.health_check") as tx:
        check = await catalogue.get(tx, scope, HealthCheck, health_check_id, expected=expected)
        await endpoints.over(tx, ctx, check, f"{check.endpoint} is watched no more: its check was deleted")
        await catalogue.remove(tx, scope, HealthCheck, health_check_id, expected=expected)
        await health.forget(tx, scope, health_check_id)
        await note(tx, ctx, actor, EventType.CONFIG_DELETED, "health_check", health_check_id)


async def acknowledge(ctx: Context, scope: Scope, actor: Actor, health_check_id: str, said: str = "") -> None:
    """Somebody knows of it: so it reads until its state changes. Conflict where nothing is wrong.

    `said` is the name that the caller gave: kept in the audit log, and believed by nobody.
    """
    now = ctx.now()
    async with ctx.database.begin("health.acknowledge") as tx:
        check = await catalogue.get(tx, scope, HealthCheck, health_check_id)
        if check.status not in _AILING:
            raise Conflict(f"{check.endpoint} reads {check.status}: there is nothing to acknowledge")
        if not await health.acknowledge(tx, scope, check, actor.id, now):
            raise Conflict(f"{check.endpoint} has just changed; look at it again")
        event = Event(
            type=EventType.HEALTH_ACKNOWLEDGED,
            subject_type="health_check",
            subject_id=check.id,
            actor=actor,
            details={"endpoint": check.endpoint, "status": check.status, "reason": check.failure_reason}
            | ({"said": said} if said else {}),
        )
        await append(tx, ctx.scope, now, event)


async def history(tx: Tx, scope: Scope, health_check_id: str, limit: int) -> list[HealthEntry]:
    """What the last looks of a check found, newest first; NotFound when the check is not in scope."""
    if not 1 <= limit <= MOST_HISTORY:
        raise fault("limit_out_of_range", f"limit must be 1 to {MOST_HISTORY}, not {limit}", "limit")
    await catalogue.get(tx, scope, HealthCheck, health_check_id)
    return await health.history(tx, scope, health_check_id, limit)


async def counts(tx: Tx, scope: Scope) -> HealthCounts:
    """How many checks read what."""
    return await health.counts(tx, scope)


def _canonical(wanted: dict[str, Any]) -> dict[str, Any]:
    """The fields in their one form. Raises Malformed, naming the field."""
    given = dict(wanted)
    if "endpoint" in given:
        given["endpoint"] = _endpoint(given["endpoint"])
    if given.get("server_name"):
        given["server_name"] = _server_name(given["server_name"])
    if "protocol" in given and given["protocol"] not in set(Protocol):
        raise fault("unknown_protocol", f"protocol is one of {', '.join(Protocol)}", "protocol")
    if given.get("expected_fingerprint"):
        given["expected_fingerprint"] = _fingerprint(given["expected_fingerprint"])
    if given.get("ca_pem"):
        try:
            read_certificates(given["ca_pem"])
        except Malformed as error:
            raise fault("ca_pem_has_wrong_form", f"ca_pem: {error.message}", "ca_pem") from error
    interval = given.get("check_interval_seconds", SHORTEST_INTERVAL)
    if not SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL:
        message = f"check_interval_seconds must be {SHORTEST_INTERVAL} to {LONGEST_INTERVAL}, not {interval}"
        raise fault("interval_out_of_range", message, "check_interval_seconds")
    return given


def _endpoint(text: str) -> str:
    try:
        host, port = split_endpoint(text.strip())
    except Misconfigured as error:
        raise fault("endpoint_has_wrong_form", error.message, "endpoint") from error
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"{_dns(host, 'endpoint')}:{port}"
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _server_name(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip().strip("[]")))
    except ValueError:
        return _dns(text, "server_name")


def _dns(text: str, field: str) -> str:
    try:
        return canonical_dns(text, field)
    except CertctlError as error:
        raise fault(f"{field}_has_wrong_form", error.message, field) from error


def _fingerprint(text: str) -> str:
    plain = text.strip().replace(":", "").lower()
    if len(plain) != 64 or any(each not in "0123456789abcdef" for each in plain):
        message = "expected_fingerprint is a SHA-256 in 64 hexadecimal digits"
        raise fault("fingerprint_has_wrong_form", message, "expected_fingerprint")
    return plain


def _check_thresholds(degraded: int, down: int) -> None:
    if not 1 <= degraded <= down <= MOST_THRESHOLD:
        message = f"1 <= degraded_threshold <= down_threshold <= {MOST_THRESHOLD}, not {degraded} and {down}"
        raise fault("thresholds_out_of_order", message, "degraded_threshold")


def _missing() -> str:
    raise fault("endpoint_has_wrong_form", "say what is looked at: endpoint, as host:port", "endpoint")


async def _check_certificate(tx: Tx, scope: Scope, certificate_id: str) -> None:
    if not certificate_id:
        return
    try:
        await views.certificate(tx, scope, certificate_id)
    except NotFound as error:
        raise fault("unknown_reference", f"no certificate {certificate_id}", "certificate_id") from error
