"""Every change of what operators configure is one event: what was done, to what, by whom, and which fields."""

from __future__ import annotations

from collections.abc import Iterable

from certctl.core.actor import Actor
from certctl.core.difference import difference
from certctl.core.errors import Malformed, Violation
from certctl.core.events import Event, EventType
from certctl.core.labels import check_label
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.store.tx import Tx


async def note(
    tx: Tx, ctx: Context, actor: Actor, kind: EventType, subject: str, subject_id: str, fields: Iterable[str] = ()
) -> None:
    """Record a change in its own transaction: the names of `fields`, and of what `store.catalogue` wrote in it under
    this id how it was before and is after, without secrets.
    """
    was, now = tx.images.pop((subject, subject_id), (None, None))
    event = Event(
        type=kind,
        subject_type=subject,
        subject_id=subject_id,
        actor=actor,
        details={"fields": sorted(fields)} | difference(was, now),
    )
    await append(tx, ctx.scope, ctx.now(), event)


def fault(rule: str, message: str, field: str) -> Malformed:
    """A refusal that names one field."""
    return Malformed(message, violations=(Violation(rule, message, field),))


def check_name(name: str) -> str:
    """A name for people: something, at most 255 characters, each of which can be seen."""
    return check_label(name)
