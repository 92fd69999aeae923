"""Gathers what pages show of many certificates at once: a few queries for a whole page, never one a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from certctl.core.catalogue import IssuerRecord, RenewalPolicy, Team
from certctl.core.certificate import CLIENT_HOLDER, EXTERNAL_HOLDER, Certificate
from certctl.core.scope import Scope
from certctl.core.status import CertificateStatus
from certctl.lifecycle.facts import renewal_facts
from certctl.policy.renewal import renews_at
from certctl.store import asked, catalogue, labels, truths
from certctl.store.truths import Leaf
from certctl.store.tx import Tx
from certctl.web import marks
from certctl.web.axis import Axis, Life, life
from certctl.web.marks import Facts, Mark, Truth

_ENDED = frozenset({CertificateStatus.REVOKED, CertificateStatus.ARCHIVED})
# whoever holds such a key has to come with a new request
_NOT_OURS = frozenset({CLIENT_HOLDER, EXTERNAL_HOLDER})


class Row(Struct, frozen=True, kw_only=True):
    """One certificate of a list."""

    facts: Facts
    mark: Mark
    truths: tuple[Truth, Truth, Truth, Truth]
    spoken: str
    life: Life
    renews: datetime | None
    issuer: str
    team: str
    more_names: int


class Names(Struct, frozen=True, kw_only=True):
    """The names of what certificates point at, by id."""

    issuers: Mapping[str, str]
    teams: Mapping[str, str]
    policies: Mapping[str, RenewalPolicy]


async def gather(tx: Tx, scope: Scope, found: Sequence[Certificate], now: datetime) -> list[Facts]:
    """The facts of certificates that the scope may see."""
    ids = [each.id for each in found]
    leaves = await truths.leaves(tx, scope, ids)
    places = await truths.places(tx, scope, ids)
    jobs = await truths.underway(tx, scope, ids)
    # only a CA that is not ours says when it would like to be asked
    foreign = tuple(leaf.id for each in ids for leaf in leaves[each] if not leaf.ca_certificate_id)
    said = await asked.suggestions(tx, scope, foreign)
    return [
        Facts(
            certificate=each,
            leaves=leaves[each.id],
            places=places[each.id],
            jobs=jobs[each.id],
            now=now,
            suggested=said,
        )
        for each in found
    ]


async def names_of(tx: Tx, scope: Scope, found: Sequence[Certificate]) -> Names:
    """What the certificates' ids stand for; what is gone keeps its id."""
    whole = Scope.whole(scope.tenant_id)
    named = await labels.named(
        tx,
        {
            IssuerRecord: (whole, [each.issuer_id for each in found]),
            Team: (whole, [each.team_id for each in found]),
        },
    )
    policy_ids = tuple(dict.fromkeys(each.renewal_policy_id for each in found if each.renewal_policy_id))
    return Names(
        issuers=named[IssuerRecord],
        teams=named[Team],
        policies=await catalogue.many(tx, whole, RenewalPolicy, policy_ids),
    )


def rows(gathered: Sequence[Facts], names: Names, axis: Axis) -> list[Row]:
    """How they are shown."""
    return [_row(facts, names, axis) for facts in gathered]


def _row(facts: Facts, names: Names, axis: Axis) -> Row:
    certificate = facts.certificate
    four = marks.truths(facts)
    shown = marks.mark(facts)
    renews = planned(facts, names.policies.get(certificate.renewal_policy_id))
    begin = min((leaf.not_before for leaf in facts.leaves), default=None)
    end = certificate.expires_at if facts.leaves or certificate.status in _ENDED else None
    return Row(
        facts=facts,
        mark=shown,
        truths=four,
        spoken=marks.spoken(four),
        life=life(
            axis,
            begin,
            end,
            renews,
            "unk" if certificate.status in _ENDED else shown.kind if shown.kind in {"bad", "warn"} else "",
        ),
        renews=renews,
        issuer=names.issuers.get(certificate.issuer_id, certificate.issuer_id),
        team=names.teams.get(certificate.team_id, certificate.team_id),
        more_names=max(0, len(set(certificate.sans) - {certificate.common_name})),
    )


def planned(facts: Facts, policy: RenewalPolicy | None) -> datetime | None:
    """When the first of its versions falls due by its policy; None when nothing renews it by itself."""
    certificate = facts.certificate
    if policy is None or not policy.auto_renew or certificate.status in _ENDED:
        return None
    return min((_due(facts, leaf, policy) for leaf in facts.leaves if leaf.holder_id not in _NOT_OURS), default=None)


def _due(facts: Facts, leaf: Leaf, policy: RenewalPolicy) -> datetime:
    busy, said = facts.issuing() is not None, facts.suggested.get(leaf.id)
    return renews_at(renewal_facts(facts.certificate, leaf, policy, live_job=busy, now=facts.now, suggestion=said))
