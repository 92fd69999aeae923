"""Policies: rules of the organisation's own that decide what is issued and say what in the inventory breaks them.

Configuration is read by its kind's own class: unknown keys and wrong values are refused at once. An edited rule is
held against the inventory by the next tick, not here: a million certificates take their time.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import Struct

from certctl.control.changes import check_name, fault, note
from certctl.core.actor import Actor
from certctl.core.catalogue import IssuerRecord, PolicyRule
from certctl.core.errors import NotFound
from certctl.core.events import EventType
from certctl.core.ids import check_id, new_id
from certctl.core.revision import Expected
from certctl.core.scope import Scope
from certctl.lifecycle import compliance
from certctl.lifecycle.context import Context
from certctl.policy.rules.configs import AllowedIssuers, PolicySeverity, read_config, read_severity, read_type
from certctl.policy.rules.judge import Rule
from certctl.store import catalogue, policies
from certctl.store.tx import Tx

_DECIDES = frozenset({"type", "config", "enabled", "severity", "name"})
_TRIAL_SECONDS = 5.0


class Offender(Struct, frozen=True):
    """A certificate that would break a rule, and how."""

    certificate_id: str
    name: str
    message: str


class Trial(Struct, frozen=True):
    """What a rule would find. `go_on_after` is where to go on when the time was too short for the whole inventory."""

    looked_at: int
    violations: int
    offenders: tuple[Offender, ...]
    go_on_after: str


async def create(ctx: Context, scope: Scope, actor: Actor, wanted: dict[str, Any]) -> PolicyRule:
    """A new rule; `wanted` has the API's fields. Conflict when its id or name is taken."""
    now = ctx.now()
    rule = PolicyRule(
        tenant_id=scope.tenant_id,
        id=check_id(wanted["id"]) if wanted.get("id") else new_id("pr"),
        name=check_name(wanted.get("name", "")),
        type=str(read_type(wanted.get("type", ""))),
        config=wanted.get("config", {}),
        enabled=wanted.get("enabled", True),
        severity=str(read_severity(wanted.get("severity", PolicySeverity.WARNING))),
        version=1,
        evaluated_version=0,
        evaluated_at=None,
        scan_after="",
        created_at=now,
        updated_at=now,
    )
    async with ctx.database.begin("config.policy") as tx:
        await _check(tx, scope, rule)
        await catalogue.insert(tx, scope, rule)
        await note(tx, ctx, actor, EventType.CONFIG_CREATED, "policy", rule.id)
    return rule


async def update(
    ctx: Context, scope: Scope, actor: Actor, policy_id: str, changes: dict[str, Any], expected: Expected = None
) -> PolicyRule:
    """Change fields; absent ones stay. The inventory is held against the new rule from its beginning."""
    if "name" in changes:
        changes = changes | {"name": check_name(changes["name"])}
    if "type" in changes:
        changes = changes | {"type": str(read_type(changes["type"]))}
    if "severity" in changes:
        changes = changes | {"severity": str(read_severity(changes["severity"]))}
    async with ctx.database.begin("config.policy") as tx:
        before = await catalogue.get(tx, scope, PolicyRule, policy_id, expected=expected)
        if _DECIDES & set(changes):
            changes = changes | {"version": before.version + 1, "scan_after": ""}
        after = msgspec.structs.replace(before, **changes, updated_at=ctx.now())
        await _check(tx, scope, after)
        await catalogue.change(
            tx, scope, PolicyRule, policy_id, expected=expected, **changes, updated_at=after.updated_at
        )
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "policy", policy_id, _DECIDES & set(changes))
        return await catalogue.get(tx, scope, PolicyRule, policy_id)


async def delete(ctx: Context, scope: Scope, actor: Actor, policy_id: str, expected: Expected = None) -> None:
    """Delete a rule and what was told of it; the event log keeps both."""
    async with ctx.database.begin("config.policy") as tx:
        await catalogue.get(tx, scope, PolicyRule, policy_id, expected=expected)
        await policies.remove_violations(tx, scope, policy_id)
        await catalogue.remove(tx, scope, PolicyRule, policy_id, expected=expected)
        await note(tx, ctx, actor, EventType.CONFIG_DELETED, "policy", policy_id)


async def stored(ctx: Context, scope: Scope, policy_id: str) -> Rule:
    """A rule as it judges; NotFound otherwise."""
    async with ctx.database.read() as tx:
        return compliance.readable(await catalogue.get(tx, scope, PolicyRule, policy_id))


def imagined(kind: str, config: dict[str, Any]) -> Rule:
    """A rule that nobody has written yet. Raises Malformed for one that could not be."""
    return Rule(id="", name="dry run", severity=PolicySeverity.WARNING, config=read_config(read_type(kind), config))


async def evaluate(ctx: Context, scope: Scope, rule: Rule, *, limit: int, after: str = "") -> Trial:
    """Hold a rule against the inventory that the caller may see, from behind `after`, and write nothing.

    Counts every offender and names the first `limit`; gives back where it stands after five seconds.
    """
    clock = asyncio.get_running_loop()
    deadline = clock.time() + _TRIAL_SECONDS
    looked_at = violations = 0
    offenders: list[Offender] = []
    while True:
        async with ctx.database.read() as tx:
            batch = await compliance.look(tx, scope, rule, after, ctx.now())
        looked_at += batch.number
        violations += len(batch.found)
        offenders += [
            Offender(certificate.id, certificate.name, found.violation.message)
            for certificate, found in batch.found[: limit - len(offenders)]
        ]
        after = batch.after
        if not after or clock.time() >= deadline:
            return Trial(looked_at, violations, tuple(offenders), after)
        await asyncio.sleep(0)


async def _check(tx: Tx, scope: Scope, rule: PolicyRule) -> None:
    config = read_config(read_type(rule.type), rule.config)
    if isinstance(config, AllowedIssuers):
        for index, issuer_id in enumerate(config.allowed_issuer_ids):
            try:
                await catalogue.get(tx, scope, IssuerRecord, issuer_id)
            except NotFound as error:
                raise fault("unknown_reference", error.message, f"config.allowed_issuer_ids[{index}]") from error
