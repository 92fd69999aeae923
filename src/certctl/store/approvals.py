"""Approvals: written with the job that waits, decided once, seen by whoever may see the certificate.

A row that waits for nothing any more (its job was cancelled, replaced, revoked; its profile was edited meanwhile) and
was never decided reads expired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa

from certctl.core.approval import ISSUANCE, PROFILE_EDIT, Approval, Word
from certctl.core.catalogue import Profile
from certctl.core.errors import Conflict, NotFound
from certctl.core.scope import Scope
from certctl.core.status import ApprovalState, JobStatus
from certctl.store import arrays, catalogue
from certctl.store.among import any_of
from certctl.store.certificates import in_scope
from certctl.store.schema import approval_words, approvals, certificates, jobs, profiles
from certctl.store.tx import Tx


async def insert(tx: Tx, scope: Scope, approval: Approval) -> None:
    """Write what is to be decided, once a job."""
    del scope
    row = {name: getattr(approval, name) for name in approval.__struct_fields__}
    await tx.execute(tx.insert(approvals).values(row).on_conflict_do_nothing())


async def insert_all(tx: Tx, scope: Scope, made: Sequence[Approval]) -> None:
    """`insert` for many at once."""
    del scope
    await arrays.insert(tx, approvals, [msgspec.structs.asdict(one) for one in made], once=True)


async def of_job(tx: Tx, scope: Scope, job_id: str) -> Approval | None:
    """What is to be decided about a job."""
    return await tx.one(
        Approval, sa.select(approvals).where(approvals.c.tenant_id == scope.tenant_id, approvals.c.job_id == job_id)
    )


async def of_jobs(tx: Tx, scope: Scope, job_ids: Sequence[str]) -> dict[str, Approval]:
    """`of_job` for many, by job."""
    if not job_ids:
        return {}
    mine = (approvals.c.tenant_id == scope.tenant_id, any_of(approvals.c.job_id, list(job_ids)))
    return {one.job_id: one for one in await tx.all(Approval, sa.select(approvals).where(*mine))}


async def waiting_in_batch(
    tx: Tx, scope: Scope, batch_id: str, person: str, after: str, limit: int
) -> list[tuple[str, datetime]]:
    """The next jobs of a batch, behind `after` by their ids, that wait for somebody's word and not for one that this
    person has given; and when each was written.
    """
    j, a, w = jobs.c, approvals.c, approval_words.c
    said = (
        sa.select(w.approval_id)
        .join(approvals, sa.and_(a.tenant_id == w.tenant_id, a.id == w.approval_id))
        .where(w.tenant_id == j.tenant_id, a.job_id == j.id, w.person == person)
        .exists()
    )
    mine = (j.tenant_id == scope.tenant_id, j.parent_id == batch_id, j.id > after)
    waits = j.status == JobStatus.AWAITING_APPROVAL
    rows = await tx.execute(sa.select(j.id, j.created_at).where(*mine, waits, ~said).order_by(j.id).limit(limit))
    return [(row.id, row.created_at) for row in rows]


async def count_yes(
    tx: Tx,
    scope: Scope,
    asked: Sequence[Approval],
    is_last: Callable[[Approval], bool],
    now: datetime,
    *,
    decided_by: str,
    note: str,
) -> None:
    """One yes more for each; approved where it is the last. Conflict, for all, when one is not as it was read."""
    rows = [
        {
            "row_id": one.id,
            "was_given": one.given,
            "given": one.given + 1,
            "state": ApprovalState.APPROVED if is_last(one) else ApprovalState.PENDING,
            "decided_by": decided_by if is_last(one) else "",
            "decided_at": now if is_last(one) else None,
            "decision_note": note if is_last(one) else "",
        }
        for one in asked
    ]
    counted = await arrays.update(
        tx,
        approvals,
        rows,
        match={"row_id": "id", "was_given": "given"},
        alike={"updated_at": now},
        where={"tenant_id": scope.tenant_id, "state": ApprovalState.PENDING},
    )
    if counted != len(asked):
        raise Conflict("somebody else decided at this moment; look at it again")


async def add_words(tx: Tx, scope: Scope, said: Sequence[Word]) -> None:
    """Write who has said yes; the caller counts them (`count_yes`)."""
    del scope
    await arrays.insert(tx, approval_words, [msgspec.structs.asdict(one) for one in said])


async def decide(
    tx: Tx, scope: Scope, approval: Approval, state: ApprovalState, now: datetime, *, decided_by: str, note: str
) -> None:
    """Write a decision once; Conflict when it was made before, or another word came in since `approval` was read."""
    decided = await tx.execute(
        sa.update(approvals)
        .where(*_as_read(scope, approval))
        .values(state=state, decided_by=decided_by, decided_at=now, decision_note=note, updated_at=now)
    )
    if decided.rowcount != 1:
        raise Conflict("this was decided before")


async def add_word(tx: Tx, scope: Scope, approval: Approval, word: Word) -> None:
    """Count one more yes; Conflict when the approval is not as it was read, or this person has said so before."""
    counted = await tx.execute(
        sa.update(approvals)
        .where(*_as_read(scope, approval))
        .values(given=approvals.c.given + 1, updated_at=word.created_at)
    )
    if counted.rowcount != 1:
        raise Conflict("somebody else decided at this moment; look at it again")
    row = {name: getattr(word, name) for name in word.__struct_fields__}
    written = await tx.execute(tx.insert(approval_words).values(row).on_conflict_do_nothing())
    if written.rowcount != 1:
        raise Conflict(f"{word.person} has approved this before: it takes another person")


def _as_read(scope: Scope, approval: Approval) -> list[sa.ColumnElement[bool]]:
    return [
        approvals.c.tenant_id == scope.tenant_id,
        approvals.c.id == approval.id,
        approvals.c.state == ApprovalState.PENDING,
        approvals.c.given == approval.given,
    ]


async def words(tx: Tx, scope: Scope, approval_id: str) -> list[Word]:
    """Who has said yes, in order."""
    mine = sa.and_(approval_words.c.tenant_id == scope.tenant_id, approval_words.c.approval_id == approval_id)
    return await tx.all(
        Word, sa.select(approval_words).where(mine).order_by(approval_words.c.created_at, approval_words.c.person)
    )


async def words_of(tx: Tx, scope: Scope, approval_ids: Sequence[str]) -> dict[str, list[Word]]:
    """`words` for many, by approval."""
    found: dict[str, list[Word]] = {}
    if approval_ids:
        mine = (
            approval_words.c.tenant_id == scope.tenant_id,
            any_of(approval_words.c.approval_id, list(approval_ids)),
        )
        for one in await tx.all(Word, sa.select(approval_words).where(*mine)):
            found.setdefault(one.approval_id, []).append(one)
    return found


async def approval(tx: Tx, scope: Scope, approval_id: str) -> Approval:
    """One approval whose certificate (or profile, of an edit) the scope may see; NotFound otherwise."""
    seen = sa.select(WITH_STATE).where(visible(scope), WITH_STATE.c.id == approval_id)
    found = await tx.one(Approval, seen)
    if found is None:
        raise NotFound(f"no approval {approval_id}")
    return found


def _with_state() -> sa.Subquery:
    job_ended = sa.and_(approvals.c.kind == ISSUANCE, jobs.c.status.is_distinct_from(JobStatus.AWAITING_APPROVAL))
    edited_since = sa.and_(
        approvals.c.kind == PROFILE_EDIT, profiles.c.version.is_distinct_from(approvals.c.profile_version)
    )
    gone = sa.and_(approvals.c.state == ApprovalState.PENDING, sa.or_(job_ended, edited_since))
    state = sa.case((gone, sa.literal(str(ApprovalState.EXPIRED))), else_=approvals.c.state).label("state")
    columns = [column for column in approvals.c if column.name != "state"]
    of_it = sa.and_(jobs.c.tenant_id == approvals.c.tenant_id, jobs.c.id == approvals.c.job_id)
    under = sa.and_(profiles.c.tenant_id == approvals.c.tenant_id, profiles.c.id == approvals.c.profile_id)
    return sa.select(*columns, state).outerjoin(jobs, of_it).outerjoin(profiles, under).subquery("approvals_with_state")


WITH_STATE = _with_state()


def visible(scope: Scope) -> sa.ColumnElement[bool]:
    """What a scope may see: what is about its certificates, and edits of its profiles."""
    mine = WITH_STATE.c.tenant_id == scope.tenant_id
    if scope == Scope.whole(scope.tenant_id):
        return mine
    certificate = WITH_STATE.c.certificate_id.in_(sa.select(certificates.c.id).where(in_scope(scope)))
    profile = WITH_STATE.c.profile_id.in_(sa.select(profiles.c.id).where(catalogue.in_scope(Profile, scope)))
    return sa.and_(mine, sa.or_(certificate, sa.and_(WITH_STATE.c.kind == PROFILE_EDIT, profile)))
