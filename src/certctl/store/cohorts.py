"""What stands in the inventory, counted as cohorts that are alike. No certificate is loaded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.scope import Scope
from certctl.core.status import VersionStatus
from certctl.store import certificates, schema
from certctl.store.stats import IN_USE
from certctl.store.tx import Tx

HOUR_SECONDS = 3600


class StandingCohort(Struct, frozen=True, kw_only=True):
    """Current versions of certificates in use; `life` to the hour upwards, `ends_at` to the hour downwards."""

    issuer_id: str
    renewal_policy_id: str
    life: timedelta
    ends_at: datetime
    count: int


async def cohorts(tx: Tx, scope: Scope) -> list[StandingCohort]:
    """All of what a scope may see."""
    c, v = schema.certificates.c, schema.versions.c
    ends, begins = hour_of(tx, v.not_after), hour_of(tx, v.not_before)
    life = (ends - begins + 1).label("life")
    together = sa.and_(v.tenant_id == c.tenant_id, v.certificate_id == c.id, v.status == VersionStatus.CURRENT)
    policy = sa.func.coalesce(c.renewal_policy_id, "").label("policy")
    rows = await tx.execute(
        sa.select(v.issuer_id, policy, life, ends.label("ends"), sa.func.count().label("number"))
        .select_from(schema.certificates.join(schema.versions, together))
        .where(certificates.in_scope(scope), c.status.in_(IN_USE))
        .group_by(v.issuer_id, policy, life, ends)
    )
    return [
        StandingCohort(
            issuer_id=row.issuer_id or "",
            renewal_policy_id=row.policy,
            life=timedelta(hours=row.life),
            ends_at=datetime.fromtimestamp(row.ends * HOUR_SECONDS, UTC),
            count=row.number,
        )
        for row in rows
    ]


def hour_of(tx: Tx, column: sa.ColumnElement[datetime]) -> sa.ColumnElement[Any]:
    """The hours since 1970 of a moment, downwards."""
    if tx.dialect == "postgresql":
        return sa.cast(sa.func.floor(sa.func.extract("epoch", column) / HOUR_SECONDS), sa.Integer)
    return sa.cast(sa.func.strftime("%s", column), sa.Integer) / sa.literal_column(str(HOUR_SECONDS))
