"""What is going to be renewed by itself, counted as cohorts, with what CAs wish; and what was renewed a day so far."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.certificate import CLIENT_HOLDER, EXTERNAL_HOLDER
from certctl.core.scope import Scope
from certctl.core.status import VersionStatus
from certctl.store import certificates, schema
from certctl.store.cohorts import HOUR_SECONDS, hour_of
from certctl.store.stats import IN_USE, day_of
from certctl.store.tx import Tx


class RenewingCohort(Struct, frozen=True, kw_only=True):
    """Current versions that are alike to the hour; `wished_*` is what their CA suggests (RFC 9773), None if nothing."""

    renewal_policy_id: str
    life: timedelta
    ends_at: datetime
    wished_from: datetime | None
    wished_until: datetime | None
    count: int


async def renewing(tx: Tx, scope: Scope) -> list[RenewingCohort]:
    """Of certificates in use that a scope may see: versions whose key a host of ours holds."""
    c, v, s = schema.certificates.c, schema.versions.c, schema.renewal_suggestions.c
    together = sa.and_(v.tenant_id == c.tenant_id, v.certificate_id == c.id, v.status == VersionStatus.CURRENT)
    said = sa.and_(s.tenant_id == v.tenant_id, s.version_id == v.id)
    ends, begins = hour_of(tx, v.not_after), hour_of(tx, v.not_before)
    wished_from, wished_until = hour_of(tx, s.window_start), hour_of(tx, s.window_end)
    life = ends - begins + 1
    columns = (c.renewal_policy_id, life, ends, wished_from, wished_until)
    rows = await tx.execute(
        sa.select(*(each.label(f"k{at}") for at, each in enumerate(columns)), sa.func.count().label("number"))
        .select_from(schema.certificates.join(schema.versions, together).outerjoin(schema.renewal_suggestions, said))
        .where(certificates.in_scope(scope), c.status.in_(IN_USE), v.holder_id.not_in([CLIENT_HOLDER, EXTERNAL_HOLDER]))
        .group_by(*columns)
    )
    return [
        RenewingCohort(
            renewal_policy_id=policy,
            life=timedelta(hours=lives),
            ends_at=_moment(ends_in),
            wished_from=_moment(start) if start is not None and stop is not None else None,
            wished_until=_moment(stop) if start is not None and stop is not None else None,
            count=number,
        )
        for policy, lives, ends_in, start, stop, number in map(tuple, rows)
    ]


async def most_in_a_day(tx: Tx, scope: Scope, since: datetime) -> int:
    """The most renewals of one day (UTC) since a moment; 0 when there were none."""
    c, v = schema.certificates.c, schema.versions.c
    together = sa.and_(v.tenant_id == c.tenant_id, v.certificate_id == c.id)
    day = day_of(tx, v.created_at)
    a_day = (
        sa.select(sa.func.count().label("number"))
        .select_from(schema.versions.join(schema.certificates, together))
        .where(certificates.in_scope(scope), v.replaces_id != "", v.created_at >= since)
        .group_by(day)
        .subquery()
    )
    return int(await tx.scalar(sa.select(sa.func.coalesce(sa.func.max(a_day.c.number), 0))))


def _moment(hours: int) -> datetime:
    return datetime.fromtimestamp(hours * HOUR_SECONDS, UTC)
