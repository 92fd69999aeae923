"""Agents by the thousand: who calls, for whom there is work, signs of life, silence; each one statement for many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.scope import Scope
from certctl.core.status import LIVE_JOB, AgentStatus, CertificateStatus, StepStatus
from certctl.core.target import AgentRecord, TargetRecord
from certctl.store import catalogue
from certctl.store.among import any_of
from certctl.store.certificates import in_scope
from certctl.store.listings import jobs_in_scope
from certctl.store.schema import agents, certificate_targets, certificates, jobs, steps, targets
from certctl.store.tx import Tx

# the driver's own words: one round trip for any number of signs. Rows are locked in one order, so that two processes
# never wait for one another in a ring; a row that waited is judged again as it is then
_NOTE = f"""
WITH told AS (
  SELECT * FROM unnest($2::text[], $3::timestamptz[]) AS t(id, at)
), due AS MATERIALIZED (
  SELECT a.id, told.at FROM {agents.name} a JOIN told ON told.id = a.id
  WHERE a.tenant_id = $1::text AND a.status = '{AgentStatus.ONLINE}' AND a.last_heartbeat_at < told.at
  ORDER BY a.id FOR NO KEY UPDATE OF a
)
UPDATE {agents.name} a SET last_heartbeat_at = due.at FROM due
WHERE a.tenant_id = $1::text AND a.id = due.id AND a.status = '{AgentStatus.ONLINE}' AND a.last_heartbeat_at < due.at
"""


async def by_credentials(tx: Tx, scope: Scope, digests: Sequence[str]) -> dict[str, AgentRecord]:
    """The agents that these credentials (SHA-256, hexadecimal) belong to, by credential."""
    c = agents.c
    statement = sa.select(agents).where(c.tenant_id == scope.tenant_id, any_of(c.credential_hash, digests))
    return {found.credential_hash: found for found in await tx.all(AgentRecord, statement)}


async def with_due_steps(tx: Tx, scope: Scope, agent_ids: Sequence[str], now: datetime) -> set[str]:
    """Those of these agents for whom a step waits to be claimed: a look that locks nothing."""
    waits = sa.exists().where(
        steps.c.tenant_id == scope.tenant_id,
        steps.c.status == StepStatus.READY,
        steps.c.agent_id == agents.c.id,
        steps.c.run_at <= sa.bindparam(None, now, type_=steps.c.run_at.type),
    )
    mine = sa.select(agents.c.id).where(agents.c.tenant_id == scope.tenant_id, any_of(agents.c.id, agent_ids))
    return {row.id for row in await tx.execute(mine.where(waits))}


async def silent_since(tx: Tx, scope: Scope, moment: datetime) -> list[AgentRecord]:
    """Agents that read Online but have not beaten since `moment`."""
    return await tx.all(
        AgentRecord,
        sa.select(agents).where(
            agents.c.tenant_id == scope.tenant_id,
            agents.c.status == AgentStatus.ONLINE,
            agents.c.retired_at.is_(None),
            sa.func.coalesce(agents.c.last_heartbeat_at, agents.c.registered_at, type_=agents.c.registered_at.type)
            < sa.bindparam(None, moment, type_=agents.c.registered_at.type),
        ),
    )


async def note_signs(tx: Tx, scope: Scope, signs: Mapping[str, datetime]) -> None:
    """Write signs of life, by agent id: of agents that read Online, and none over a later one."""
    # in one order, see above
    told = sorted(signs.items())
    if tx.dialect == "postgresql":
        values = (scope.tenant_id, [agent_id for agent_id, _ in told], [moment for _, moment in told])
        await tx.write(_NOTE, values)
        return
    at = sa.bindparam("at", type_=agents.c.last_heartbeat_at.type)
    await tx.execute(
        sa.update(agents)
        .where(
            agents.c.tenant_id == scope.tenant_id,
            agents.c.id == sa.bindparam("of_agent"),
            agents.c.status == AgentStatus.ONLINE,
            agents.c.last_heartbeat_at < at,
        )
        .values(last_heartbeat_at=at),
        [{"of_agent": agent_id, "at": moment} for agent_id, moment in told],
    )


class Dependencies(Struct, frozen=True, kw_only=True):
    """What hangs on an agent: its unretired targets, the certificates mapped to them, its jobs that have not ended."""

    active_targets: int
    active_certificates: int
    pending_jobs: int


async def dependencies(tx: Tx, scope: Scope, agent_id: str) -> Dependencies:
    """Count what hangs on an agent, as far as a scope sees it."""
    live = sa.select(sa.func.count()).where(
        jobs_in_scope(scope), jobs.c.agent_id == agent_id, jobs.c.status.in_(tuple(LIVE_JOB))
    )
    seen = catalogue.in_scope(TargetRecord, scope)
    served = sa.select(sa.func.count()).select_from(targets).where(seen, _served_by(scope, agent_id))
    return Dependencies(
        active_targets=int(await tx.scalar(served)),
        active_certificates=len(await certificates_of(tx, scope, agent_id)),
        pending_jobs=int(await tx.scalar(live)),
    )


async def certificates_of(tx: Tx, scope: Scope, agent_id: str) -> list[str]:
    """The ids of the certificates, archived ones aside, that are mapped to an agent's unretired targets."""
    mapping = certificate_targets
    rows = await tx.execute(
        sa.select(certificates.c.id)
        .join(
            mapping,
            sa.and_(mapping.c.tenant_id == certificates.c.tenant_id, mapping.c.certificate_id == certificates.c.id),
        )
        .join(targets, sa.and_(targets.c.tenant_id == mapping.c.tenant_id, targets.c.id == mapping.c.target_id))
        .where(in_scope(scope), _served_by(scope, agent_id), certificates.c.status != CertificateStatus.ARCHIVED)
        .distinct()
        .order_by(certificates.c.id)
    )
    return [row.id for row in rows]


async def retire_targets(tx: Tx, scope: Scope, agent_id: str, reason: str, now: datetime) -> None:
    """Retire every target of an agent."""
    changes: dict[str, Any] = {
        "row_version": targets.c.row_version + 1,
        "retired_at": now,
        "retired_reason": reason,
        "updated_at": now,
    }
    await tx.execute(sa.update(targets).where(_served_by(scope, agent_id)).values(changes))


def _served_by(scope: Scope, agent_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        targets.c.tenant_id == scope.tenant_id, targets.c.agent_id == agent_id, targets.c.retired_at.is_(None)
    )
