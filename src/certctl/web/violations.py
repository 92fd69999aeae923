"""/violations: which certificates break which rule of the organisation, since when, and the page where it is cured."""

from __future__ import annotations

from litestar import Response, get

from certctl.core.catalogue import PolicyRule
from certctl.core.scope import Scope
from certctl.store import truths
from certctl.store.act_listings import VIOLATIONS
from certctl.web import tables
from certctl.web.configure.sides import tabs_of
from certctl.web.guard import needs
from certctl.web.marks import Mark
from certctl.web.pages import render
from certctl.web.request import WebRequest
from certctl.web.words import gettext as _

PATH = "/violations"


@get(PATH, opt=needs("policy.read"))
async def show(request: WebRequest) -> Response[str]:
    """Newest first; of certificates that the caller may read."""
    scope = request.seen_by("cert.read")
    async with request.ctx.database.read() as tx:
        table = await tables.read(request, tx, VIOLATIONS, scope)
        certificates = await truths.named_certificates(tx, scope, [row.certificate_id for row in table.rows])
        whole = Scope.whole(scope.tenant_id)
        rules = await truths.named(tx, whole, PolicyRule, [row.rule_id for row in table.rows])
    return await render(
        request,
        "violations.html",
        table=table,
        beside=tabs_of(request, PATH),
        certificates=certificates,
        rules=rules,
        marks={row.id: severity_mark(row.severity) for row in table.rows},
        tabs=[
            (_("Open"), table.to(resolved=""), not table.chosen("resolved")),
            (_("Cured"), table.to(resolved="true"), table.chosen("resolved") == "true"),
        ],
    )


def severity_mark(severity: str) -> Mark:
    """How grave it is, in the policies' own words."""
    return {
        "critical": Mark("bad", "s-bad", _("Critical")),
        "error": Mark("bad", "s-warn", _("Error")),
        "warning": Mark("warn", "s-warn", _("Warning")),
    }.get(severity.lower(), Mark("unk", "s-none", severity))


HANDLERS = (show,)
