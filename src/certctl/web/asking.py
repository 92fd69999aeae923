"""/request: ask for a certificate. The same door as the API: profile, policy and approval judge it."""

from __future__ import annotations

from typing import Any

from litestar import Response, get, post

from certctl.core.catalogue import IssuerRecord, Owner, Profile, RenewalPolicy, Team
from certctl.core.errors import CallerError, Violation
from certctl.core.scope import Scope
from certctl.core.target import TargetRecord
from certctl.doors.driving import drive, ids
from certctl.lifecycle import request as request_stage
from certctl.store import views
from certctl.store.lists import Slice
from certctl.store.tx import Tx
from certctl.web.acts import act, going
from certctl.web.guard import needs
from certctl.web.pages import render
from certctl.web.request import Fields, WebRequest
from certctl.web.words import gettext as _

PATH = "/request"
_MOST = 200
_TEXTS = ("common_name", "name", "environment")
_PICKED = ("certificate_profile_id", "issuer_id", "renewal_policy_id", "team_id", "owner_id")


@get(PATH, opt=needs("cert.issue"))
async def show(request: WebRequest) -> Response[str]:
    """The empty form; `name` fills the first field in, `target_ids` ticks a place."""
    asked = request.query_params
    given = (("common_name", asked.get("name", "")[:255]), ("target_ids", asked.get("target_ids", "")[:128]))
    return await _page(request, Fields(given))


async def _page(
    request: WebRequest, said: Fields, faults: dict[str, str] | None = None, fault: str = ""
) -> Response[str]:
    async with request.ctx.database.read() as tx:
        options = {
            "certificate_profile_id": await _named(tx, request.seen_by("profile.read"), Profile),
            "issuer_id": await _named(tx, request.seen_by("issuer.read"), IssuerRecord),
            "renewal_policy_id": await _named(tx, request.seen_by("policy.read"), RenewalPolicy),
            "team_id": [("", _("None")), *await _named(tx, request.seen_by("team.read"), Team)],
            "owner_id": [("", _("Nobody")), *await _named(tx, request.seen_by("owner.read"), Owner)],
        }
        targets = (await views.record_page(tx, request.seen_by("target.read"), TargetRecord, Slice(limit=_MOST))).data
    usual = {
        "certificate_profile_id": request_stage.DEFAULT_PROFILE,
        "issuer_id": request_stage.DEFAULT_ISSUER,
        "renewal_policy_id": request_stage.DEFAULT_POLICY,
    }
    said_now = {name: said.get(name, usual.get(name, "")) for name in (*_TEXTS, *_PICKED)}
    return await render(
        request,
        "request.html",
        status=400 if faults or fault else 200,
        said=said_now,
        sans=said.get("sans"),
        picked=set(said.every("target_ids")),
        options=options,
        targets=[each for each in targets if each.retired_at is None],
        faults=faults or {},
        fault=fault,
    )


async def _named(
    tx: Tx, scope: Scope, kind: type[Profile | IssuerRecord | RenewalPolicy | Team | Owner]
) -> list[tuple[str, str]]:
    found = await views.record_page(tx, scope, kind, Slice(limit=_MOST))
    return [(row.id, row.name) for row in found.data]


@post(PATH, opt=needs("cert.issue"))
async def ask(request: WebRequest) -> Response[str]:
    """Write the request; what the rules refuse is said at the field."""
    said = await request.checked()

    async def doing(fields: Fields) -> str:
        texts: dict[str, Any] = {name: fields.get(name) for name in (*_TEXTS, *_PICKED) if fields.get(name)}
        wanted = request_stage.NewCertificate(
            **texts,
            sans=fields.get("sans").replace(",", " ").split(),
            target_ids=fields.every("target_ids"),
            source="Dashboard",
        )
        certificate, jobs = await request_stage.create(request.ctx, request.visible, request.actor, wanted)
        await drive(request.door, ids(jobs))
        return going(f"/certificates/{certificate.id}", "requested")

    if not said.get("common_name"):
        return await _page(
            request, said, {"common_name": _("Give the name that clients connect to, such as shop.example.com")}
        )
    try:
        return await act(request, doing)
    except CallerError as error:
        violations: tuple[Violation, ...] = getattr(error, "violations", ())
        at_fields = {each.field.split("[")[0].split(".")[0]: each.message for each in violations if each.field}
        known = {name: text for name, text in at_fields.items() if name in {*_TEXTS, *_PICKED, "sans", "target_ids"}}
        rest = [each.message for each in violations if each.message not in known.values()]
        fault = "; ".join(rest) if violations else error.message
        return await _page(request, said, known, fault[:1].upper() + fault[1:])


HANDLERS = (show, ask)
