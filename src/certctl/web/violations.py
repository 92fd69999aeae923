"""/violations: which certificates break which rule of the organisation, since when; a link to where each is cured."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from litestar import Response, get
from msgspec import Struct

from certctl.core.catalogue import PolicyRule, PolicyViolation
from certctl.core.scope import Scope
from certctl.policy.rules.configs import PolicyType
from certctl.store import catalogue, truths
from certctl.store.act_listings import VIOLATIONS
from certctl.store.tx import Tx
from certctl.web import tables
from certctl.web.configure.sides import tabs_of
from certctl.web.guard import needs
from certctl.web.marks import Mark
from certctl.web.pages import render
from certctl.web.request import WebRequest
from certctl.web.words import gettext as _

PATH = "/violations"


class Cure(Struct, frozen=True):
    """The page, with the field on it, where a violation ends; what its link says."""

    href: str
    act: str


@get(PATH, opt=needs("policy.read"))
async def show(request: WebRequest) -> Response[str]:
    """Newest first; of certificates that the caller may read."""
    scope = request.seen_by("cert.read")
    async with request.ctx.database.read() as tx:
        table = await tables.read(request, tx, VIOLATIONS, scope)
        certificates = await truths.named_certificates(tx, scope, [row.certificate_id for row in table.rows])
        rules = await _rules(tx, Scope.whole(scope.tenant_id), {row.rule_id for row in table.rows})
    return await render(
        request,
        "violations.html",
        table=table,
        beside=tabs_of(request, PATH),
        certificates=certificates,
        rules={rule_id: rule.name for rule_id, rule in rules.items()},
        cures={row.id: cure for row in table.rows if (cure := cure_of(request, row, rules)) is not None},
        messages={row.id: _without_name(row, rules) for row in table.rows},
        marks={row.id: severity_mark(row.severity) for row in table.rows},
        tabs=[
            (_("Open"), table.to(resolved=""), not table.chosen("resolved")),
            (_("Cured"), table.to(resolved="true"), table.chosen("resolved") == "true"),
        ],
    )


async def _rules(tx: Tx, scope: Scope, ids: set[str]) -> dict[str, PolicyRule]:
    """The rules of a page: few, however many certificates break them."""
    found = [await catalogue.find(tx, scope, PolicyRule, id=rule_id) for rule_id in sorted(ids)]
    return {rule.id: rule for rule in found if rule is not None}


def _without_name(row: PolicyViolation, rules: Mapping[str, PolicyRule]) -> str:
    """What is broken; the rule's name, which stands beside it, left out."""
    return row.message.removeprefix(f"policy {rules[row.rule_id].name}: ") if row.rule_id in rules else row.message


def cure_of(request: WebRequest, row: PolicyViolation, rules: Mapping[str, PolicyRule]) -> Cure | None:
    """Where whoever looks can end it: at the field of the certificate, else at the rule; None for nowhere."""
    rule = rules.get(row.rule_id)
    if row.resolved_at is not None or rule is None:
        return None
    if request.may("cert.edit"):
        field, act = _field(rule, row.message)
        return Cure(f"/certificates/{quote(row.certificate_id)}/edit{f'#f-{field}' if field else ''}", act)
    if request.may("policy.edit"):
        return Cure(f"/policies/{quote(row.rule_id)}", _("Change the rule"))
    return None


def _field(rule: PolicyRule, message: str) -> tuple[str, str]:
    """The field of a certificate that a kind of rule judges, and what is done there."""
    p = PolicyType
    if rule.type == p.REQUIRED_METADATA:
        # "owner, team must be given": the first of them
        first = message.removeprefix(f"policy {rule.name}: ").replace(",", " ").partition(" ")[0]
        return {
            "owner": ("owner_id", _("Say who owns it")),
            "team": ("team_id", _("Name its team")),
            "environment": ("environment", _("Say its environment")),
        }.get(first, ("tags", _("Give it the tag")))
    told: Mapping[str, tuple[str, str]] = {
        p.ALLOWED_ISSUERS: ("issuer_id", _("Choose another issuer")),
        p.ALLOWED_DOMAINS: ("sans", _("Change its names")),
        p.ALLOWED_ENVIRONMENTS: ("environment", _("Say its environment")),
        p.RENEWAL_LEAD_TIME: ("renewal_policy_id", _("Renew it earlier")),
        p.CERTIFICATE_LIFETIME: ("validity_seconds", _("Shorten its life")),
    }
    return told.get(rule.type, ("", _("Change it")))


def severity_mark(severity: str) -> Mark:
    """How grave it is, in the policies' own words."""
    return {
        "critical": Mark("bad", "s-bad", _("Critical")),
        "error": Mark("bad", "s-warn", _("Error")),
        "warning": Mark("warn", "s-warn", _("Warning")),
    }.get(severity.lower(), Mark("unk", "s-none", severity))


HANDLERS = (show,)
