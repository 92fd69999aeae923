"""What many issuances write together: what they intend by one commit, what they have come to by another (ADR 44).

Each table's rows go as arrays. Who would be refused is found before (`taken`); what another process was faster with is
a Conflict of the whole commit, and whoever asked tries again one by one. Only the lifecycle writes through here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct, structs

from certctl.core.certificate import Certificate, OrderRecord, Version
from certctl.core.errors import Conflict
from certctl.core.job import Job, Step
from certctl.core.scope import Scope
from certctl.core.status import LIVE_JOB, JobStatus, JobType, OrderStatus, StepStatus, VersionStatus
from certctl.store import arrays, names, schema
from certctl.store.among import any_given
from certctl.store.certificates import own_names
from certctl.store.schema import certificate_targets, certificates, jobs, orders, steps, versions
from certctl.store.statements import Statement, struct_reader
from certctl.store.statuses import is_one_of
from certctl.store.tx import Tx
from certctl.store.wake import job_channel
from certctl.telemetry import metrics


class Intended(Struct, frozen=True):
    """One request with its order, whose serial and TBS are stored with it."""

    certificate: Certificate
    job: Job
    live_key: str
    steps: Sequence[Step]
    order: OrderRecord


class Issued(Struct, frozen=True):
    """What one came to: the leased step that ends, the one behind it that is done, and what its row says from now on.

    `order` holds its answer.
    """

    step: Step
    done: Step
    job: Job
    order: OrderRecord
    version: Version
    columns: dict[str, Any]


@contextlib.contextmanager
def conflicts() -> Iterator[None]:
    """Around a commit: what stands already is a Conflict, and nothing of it was written."""
    try:
        yield
    except sa.exc.IntegrityError as error:
        raise Conflict("something of this stands already", detail=str(error.orig)) from error


_TENANT: sa.BindParameter[str] = sa.bindparam("tenant")
_CERTIFICATES, _MINE = certificates.c, certificates.c.tenant_id == _TENANT

_TAKEN = Statement(
    sa.union_all(
        *(
            sa.select(sa.literal_column(f"'{what}'").label("what"), column.label("value")).where(
                _MINE, any_given(column, f"{what}s")
            )
            for what, column in (("id", _CERTIFICATES.id), ("name", _CERTIFICATES.name))
        )
    )
)


async def taken(tx: Tx, scope: Scope, wanted: Sequence[Certificate]) -> tuple[set[str], set[str]]:
    """Which of the ids, and which of the names, certificates have already."""
    ids, labels = [one.id for one in wanted], [one.name for one in wanted]
    rows = (await tx.execute(_TAKEN, tenant=scope.tenant_id, ids=ids, names=labels)).all()
    return {row.value for row in rows if row.what == "id"}, {row.value for row in rows if row.what == "name"}


async def intend(tx: Tx, scope: Scope, made: Sequence[Intended]) -> None:
    """Write certificates, each with its one job, the steps of that and its order. Conflicts are told by `conflicts`."""
    del scope
    # in one order, whoever brings them: two that write the same names queue and do not deadlock
    made = sorted(made, key=lambda one: (one.certificate.name, one.certificate.id))
    await arrays.insert(tx, certificates, [structs.asdict(one.certificate) for one in made])
    await names.write(tx, [row for one in made for row in own_names(one.certificate)])
    await arrays.insert(tx, jobs, [structs.asdict(one.job) | {"live_key": one.live_key} for one in made])
    await arrays.insert(tx, steps, [structs.asdict(step) for one in made for step in one.steps])
    await draw(tx, [one.order for one in made])


async def draw(tx: Tx, made: Sequence[OrderRecord]) -> None:
    """Write orders with their intents. Conflicts, such as that a job has one already, are told by `conflicts`."""
    rows = [structs.asdict(one) | {"serial_number": one.serial_number or None} for one in made]
    await arrays.insert(tx, orders, rows)


_HELD = Statement(
    sa.select(certificates, steps.c.id.label("held_step"), steps.c.fence.label("held_fence"))
    .join(jobs, sa.and_(jobs.c.tenant_id == _CERTIFICATES.tenant_id, jobs.c.certificate_id == _CERTIFICATES.id))
    .join(steps, sa.and_(steps.c.tenant_id == jobs.c.tenant_id, steps.c.job_id == jobs.c.id))
    .where(
        _MINE,
        any_given(_CERTIFICATES.id, "certificate_ids"),
        any_given(jobs.c.id, "job_ids"),
        any_given(steps.c.id, "step_ids"),
        is_one_of(steps.c.status, (StepStatus.LEASED,)),
        is_one_of(jobs.c.status, (JobStatus.RUNNING,)),
    )
    .with_for_update()
)


async def held(tx: Tx, scope: Scope, leased: Sequence[tuple[str, Step]]) -> dict[str, Certificate]:
    """The certificates of these steps (each with the id of its certificate), by step id, where the step is still
    leased under its fence and its job runs. All three are locked; each is looked up by its own key.
    """
    fences = {step.id: step.fence for _, step in leased}
    found = await tx.execute(
        _HELD,
        tenant=scope.tenant_id,
        certificate_ids=[certificate_id for certificate_id, _ in leased],
        job_ids=[step.job_id for _, step in leased],
        step_ids=list(fences),
    )
    read = struct_reader(Certificate, tuple(found.keys()))
    return {row.held_step: read(row) for row in found if row.held_fence == fences[row.held_step]}


def _beside() -> Iterator[sa.ColumnElement[bool]]:
    """What may stand beside a certificate's own row, each as the question whether there is any."""
    told = schema.notifications
    beside: tuple[tuple[sa.Table, Sequence[sa.ColumnElement[bool]]], ...] = (
        (versions, [is_one_of(versions.c.status, (VersionStatus.CURRENT,))]),
        (certificate_targets, []),
        (told, [told.c.incident != sa.literal_column("''")]),
        (
            jobs,
            [
                is_one_of(jobs.c.type, (JobType.ISSUANCE, JobType.RENEWAL)),
                is_one_of(jobs.c.status, LIVE_JOB),
                sa.not_(any_given(jobs.c.id, "job_ids")),
            ],
        ),
    )
    for table, more in beside:
        yield sa.exists().where(table.c.tenant_id == _TENANT, table.c.certificate_id == _CERTIFICATES.id, *more)


_NOT_BARE = Statement(
    sa.select(_CERTIFICATES.id).where(_MINE, any_given(_CERTIFICATES.id, "certificate_ids"), sa.or_(*_beside()))
)


async def not_bare(tx: Tx, scope: Scope, certificate_ids: Sequence[str], job_ids: Sequence[str]) -> set[str]:
    """Those of these certificates that have a current version, a target, a told incident, or a live issuing job other
    than `job_ids`: asked behind their locks.
    """
    found = await tx.execute(_NOT_BARE, tenant=scope.tenant_id, certificate_ids=certificate_ids, job_ids=job_ids)
    return set(found.scalars())


async def issued(tx: Tx, scope: Scope, now: datetime, made: Sequence[Issued]) -> None:
    """Write what issuances have come to. Steps, jobs and certificates are locked (`held`)."""
    tenant = scope.tenant_id
    found_by: list[dict[str, str]] = []
    for one in made:
        version = one.version
        found_by += names.version_rows(
            tenant, version.certificate_id, version.serial_number, version.fingerprint_sha256
        )
        tx.wake(job_channel(one.job.id))
    current = {"status": VersionStatus.CURRENT}
    await arrays.insert(tx, versions, [structs.asdict(one.version) | current for one in made])
    await names.write(tx, found_by)
    ended = {"tenant_id": tenant, "status": StepStatus.DONE, "ended_at": now, "lease_owner": "", "lease_until": None}
    await arrays.change(tx, steps, [ended | {"id": one.step.id} for one in made])
    await arrays.insert(tx, steps, [structs.asdict(one.done) for one in made])
    answered: dict[str, Any] = {"tenant_id": tenant, "status": OrderStatus.RECORDED}
    answers = [
        answered | {"id": one.order.id, "leaf_der": one.order.leaf_der, "chain_pem": one.order.chain_pem}
        for one in made
    ]
    await arrays.change(tx, orders, answers)
    over: dict[str, Any] = {
        "tenant_id": tenant,
        "status": JobStatus.COMPLETED,
        "completed_at": now,
        "live_key": None,
        "last_error": "",
    }
    await arrays.change(tx, jobs, [over | {"id": one.job.id, "version_id": one.version.id} for one in made])
    rows = [one.columns | {"tenant_id": tenant, "id": one.job.certificate_id} for one in made]
    await arrays.change(tx, certificates, rows, grows=("row_version",))
    tx.count(tenant, metrics.JOB_COMPLETED, len(made))
