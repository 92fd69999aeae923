"""Targets: servers that take certificates, each reached through one agent. Used ones are retired, unused ones deleted.

Configuration is decoded by the connector's own class: unknown fields and wrong types are refused at once.
"""

from __future__ import annotations

from typing import Any

from certctl.connectors.registry import TARGETS, check_target_config, find_entry
from certctl.control.changes import check_name, fault, note
from certctl.control.enrolment import REFERENCE_PROTOCOL
from certctl.core.actor import Actor
from certctl.core.errors import Conflict, Unsupported
from certctl.core.events import EventType
from certctl.core.ids import check_id, new_id
from certctl.core.revision import Expected
from certctl.core.scope import Scope
from certctl.core.status import LIVE_JOB, AgentStatus
from certctl.core.target import AgentRecord, TargetRecord
from certctl.lifecycle import endpoints
from certctl.lifecycle.context import Context
from certctl.store import catalogue, schema, views
from certctl.store.lists import Slice
from certctl.store.tx import Tx

# Fields that an agent of the reference product understands and ours refuses: there a server may name commands.
_REFERENCE_WORDS = frozenset(
    {
        *("reload_command", "validate_command", "restart_command", "backup_retention"),
        *("host", "hostname", "target", "address", "port"),
        *("post_deploy_verify", "post_deploy_verify_attempts"),
        *("post_deploy_verify_backoff", "post_deploy_verify_max_backoff"),
    }
)


async def create(ctx: Context, scope: Scope, actor: Actor, wanted: dict[str, Any]) -> TargetRecord:
    """A new target; `wanted` has the API's fields. Malformed for an unknown kind, agent or configuration."""
    scope.check_whole("a new target")
    now = ctx.now()
    kind = _kind(wanted.get("type", ""))
    target = TargetRecord(
        tenant_id=scope.tenant_id,
        id=check_id(wanted["id"]) if wanted.get("id") else new_id("target"),
        name=check_name(wanted.get("name", "")),
        type=kind,
        agent_id=wanted.get("agent_id", ""),
        config=wanted.get("config", {}),
        sealed_config=None,
        enabled=wanted.get("enabled", True),
        last_tested_at=None,
        test_status="untested",
        source="database",
        retired_at=None,
        retired_reason="",
        created_at=now,
        updated_at=now,
    )
    async with ctx.database.begin("config.target") as tx:
        _check_config(target, await _check_agent(tx, scope, target))
        await catalogue.insert(tx, scope, target)
        await note(tx, ctx, actor, EventType.CONFIG_CREATED, "target", target.id)
    return target


async def update(
    ctx: Context, scope: Scope, actor: Actor, target_id: str, changes: dict[str, Any], expected: Expected = None
) -> TargetRecord:
    """Change `name`, `agent_id`, `config` or `enabled`; absent fields stay. A type never changes."""
    if "name" in changes:
        changes = changes | {"name": check_name(changes["name"])}
    async with ctx.database.begin("config.target") as tx:
        before = await catalogue.get(tx, scope, TargetRecord, target_id, expected=expected)
        if before.retired_at is not None:
            raise Conflict(f"target {target_id} was retired: {before.retired_reason or 'no reason given'}")
        if changes.pop("type", before.type).casefold() != before.type.casefold():
            raise fault("type_never_changes", f"target {target_id} is of type {before.type}", "type")
        if "config" in changes:
            changes |= {"test_status": "untested", "last_tested_at": None}
        await catalogue.change(tx, scope, TargetRecord, target_id, expected=expected, updated_at=ctx.now(), **changes)
        after = await catalogue.get(tx, scope, TargetRecord, target_id)
        agent = await _check_agent(tx, scope, after)
        if {"config", "agent_id"} & set(changes):
            _check_config(after, agent)
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "target", target_id, changes)
        return after


async def delete(ctx: Context, scope: Scope, actor: Actor, target_id: str, expected: Expected = None) -> None:
    """Delete a target that was never used; one that was is retired, so that its history can still be read.

    Conflict while a deployment to it is under way.
    """
    now = ctx.now()
    async with ctx.database.begin("config.target") as tx:
        target = await catalogue.get(tx, scope, TargetRecord, target_id, expected=expected)
        if target.retired_at is not None:
            return
        # seen or not: what was ever used is retired
        whole = Scope.whole(scope.tenant_id)
        mapped = await catalogue.uses(tx, whole, schema.certificate_targets.c.target_id, target_id)
        used = await catalogue.uses(tx, whole, schema.deployments.c.target_id, target_id)
        if await _is_busy(tx, scope, target_id):
            raise Conflict(f"a deployment to target {target_id} is under way; cancel it or wait for its end")
        if mapped or used:
            await catalogue.change(
                tx,
                scope,
                TargetRecord,
                target_id,
                retired_at=now,
                retired_reason="deleted",
                enabled=False,
                updated_at=now,
            )
        else:
            await catalogue.remove(tx, scope, TargetRecord, target_id, expected=expected)
        await endpoints.retired(tx, ctx, actor, target_id)
        await note(tx, ctx, actor, EventType.CONFIG_DELETED, "target", target_id)


async def _is_busy(tx: Tx, scope: Scope, target_id: str) -> bool:
    for status in LIVE_JOB:
        equal = {"target_id": target_id, "status": str(status)}
        if (await views.job_page(tx, Scope.whole(scope.tenant_id), equal, Slice(limit=1))).total:
            return True
    return False


async def test(ctx: Context, scope: Scope, actor: Actor, target_id: str) -> tuple[bool, str]:
    """Whether its agent is heard from, and a sentence. The server itself is looked at when something is deployed."""
    async with ctx.database.begin("config.target") as tx:
        target = await catalogue.get(tx, scope, TargetRecord, target_id)
        agent = await catalogue.find(tx, scope, AgentRecord, id=target.agent_id) if target.agent_id else None
        good, said = _judge(agent)
        status = "success" if good else "failed"
        await catalogue.change(tx, scope, TargetRecord, target_id, test_status=status, last_tested_at=ctx.now())
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "target", target_id, ("test_status",))
    return good, said


def _judge(agent: AgentRecord | None) -> tuple[bool, str]:
    if agent is None:
        return False, "no agent is assigned to this target"
    if agent.retired_at is not None:
        return False, f"agent {agent.name} was retired"
    if agent.status != AgentStatus.ONLINE:
        return False, f"agent {agent.name} is {agent.status}: it is not heard from"
    return True, f"agent {agent.name} is online"


def _kind(text: str) -> str:
    try:
        return find_entry(TARGETS, text, "target").kind
    except Unsupported as error:
        raise fault("unknown_type", error.message, "type") from error


def _check_config(target: TargetRecord, agent: AgentRecord) -> None:
    """Decode the configuration. An agent of the reference product may be told in its own words how to reload."""
    words = _REFERENCE_WORDS if agent.protocol == REFERENCE_PROTOCOL else frozenset()
    check_target_config(target.type, {name: value for name, value in target.config.items() if name not in words})


async def _check_agent(tx: Tx, scope: Scope, target: TargetRecord) -> AgentRecord:
    if not target.agent_id:
        raise fault("target_needs_an_agent", "agent_id is needed: an agent on the host does the work", "agent_id")
    agent = await catalogue.find(tx, scope, AgentRecord, id=target.agent_id)
    if agent is None or agent.retired_at is not None:
        raise fault("unknown_reference", f"no agent {target.agent_id}, or it was retired", "agent_id")
    return agent
