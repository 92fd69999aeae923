"""What would be so if a form were saved: whom a rule would find, whom a group would gather. Nothing is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct

from certctl.control import agent_groups, policies
from certctl.core.catalogue import AgentGroup
from certctl.core.target import AgentRecord
from certctl.store import truths
from certctl.web.request import WebRequest
from certctl.web.words import gettext as _
from certctl.web.words import ngettext, number

_NAMED = 20


class Tried(Struct, frozen=True, kw_only=True):
    """What was found: a sentence, and the first of them as address, name and why."""

    told: str
    heads: tuple[str, str]
    named: list[tuple[str, str, str]]


# gets the type and body that the form says, and the record that it is of
Try = Callable[[WebRequest, str, Mapping[str, Any], Any], Awaitable[Tried]]


async def policy(request: WebRequest, type_: str, wanted: Mapping[str, Any], _record: Any) -> Tried:
    """What in the inventory a rule would find."""
    rule = policies.imagined(type_, wanted["config"])
    trial = await policies.evaluate(request.ctx, request.seen_by("cert.read"), rule, limit=_NAMED)
    told = ngettext("{number} certificate breaks it", "{number} certificates break it", trial.violations)
    told = told.format(number=number(trial.violations)) + ", "
    told += _("of {number} looked at").format(number=number(trial.looked_at))
    if trial.go_on_after:
        told += f" ({_('there are more: the time was too short for all')})"
    return Tried(
        told=f"{told}.",
        heads=(_("Certificate"), _("Why")),
        named=[(f"/certificates/{each.certificate_id}", each.name, each.message) for each in trial.offenders],
    )


async def group(request: WebRequest, _type: str, wanted: Mapping[str, Any], record: AgentGroup | None) -> Tried:
    """Which agents would belong to a group."""
    async with request.ctx.database.read() as tx:
        found = await agent_groups.would_be_members(tx, request.seen_by("agent.read"), wanted, record)
        first = found[:_NAMED]
        names = await truths.named(tx, request.seen_by("agent.read"), AgentRecord, [each.id for each in first])
    told = ngettext("{number} agent belongs to it.", "{number} agents belong to it.", len(found))
    return Tried(
        told=told.format(number=number(len(found))),
        heads=(_("Agent"), _("As it said")),
        named=[
            (
                f"/agents/{each.id}",
                names.get(each.id, each.id),
                " ".join(filter(None, (each.os, each.architecture, each.ip_address, each.version))),
            )
            for each in first
        ],
    )
