"""Which of many things a scope may see: one query a kind, for whoever shows a mixed list of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import sqlalchemy as sa

from certctl.core import catalogue as nouns
from certctl.core.health import HealthCheck
from certctl.core.scope import Scope
from certctl.core.target import AgentRecord, TargetRecord
from certctl.store import catalogue, certificates, schema
from certctl.store.tx import Tx

KINDS: Mapping[str, type[msgspec.Struct]] = {
    "agent": AgentRecord,
    "agent_group": nouns.AgentGroup,
    "health_check": HealthCheck,
    "issuer": nouns.IssuerRecord,
    "owner": nouns.Owner,
    "policy": nouns.PolicyRule,
    "profile": nouns.Profile,
    "renewal_policy": nouns.RenewalPolicy,
    "target": TargetRecord,
    "team": nouns.Team,
}


async def visible(tx: Tx, scope: Scope, subject_type: str, ids: Sequence[str]) -> set[str]:
    """Those of `ids` that are there and that the scope may see; nothing of a kind that is not known here."""
    wanted = tuple(set(ids))
    if subject_type == "certificate":
        table, condition = schema.certificates, certificates.in_scope(scope)
    elif subject_type in KINDS:
        kind = KINDS[subject_type]
        table, condition = catalogue.TABLES[kind][0], catalogue.in_scope(kind, scope)
    else:
        return set()
    rows = await tx.execute(sa.select(table.c.id).where(condition, table.c.id.in_(wanted)))
    return {row.id for row in rows}
