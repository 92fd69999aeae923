"""/certificates/{id}/edit: what people say of a certificate (owner, team, tags, names, places, rules) in one form.

The fields and their judges are the API's own; `#f-owner_id` and the like lead to one of them, as the list of violations
does. Names, issuer, profile and life change with the next version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar import Response, get
from litestar.params import FromPath

from certctl.client.models.certificates import CertificateWrite
from certctl.core.catalogue import IssuerRecord, Owner, Profile, RenewalPolicy, Team
from certctl.core.certificate import Certificate
from certctl.core.scope import Scope
from certctl.core.status import CertificateStatus
from certctl.core.target import TargetRecord
from certctl.lifecycle import request as request_stage
from certctl.store import views
from certctl.store.listings import CERTIFICATES
from certctl.store.tx import Tx
from certctl.web.configure import pages as configure
from certctl.web.configure.fields import Label
from certctl.web.configure.kinds import Kind, without_sees
from certctl.web.configure.words_of import Words
from certctl.web.guard import needs
from certctl.web.marks import Mark
from certctl.web.request import WebRequest
from certctl.web.words import gettext as _

PATH = "/certificates"


class Editable(Certificate, frozen=True, kw_only=True):
    """A certificate with the places that it is mapped to."""

    target_ids: list[str]


async def _load(tx: Tx, scope: Scope, certificate_id: str) -> Editable:
    certificate = await views.certificate(tx, scope, certificate_id)
    mapped = await views.target_ids(tx, scope, [certificate_id])
    fields = {name: getattr(certificate, name) for name in certificate.__struct_fields__}
    return Editable(**fields, target_ids=mapped.get(certificate_id, []))


async def _update(ctx: Any, scope: Any, actor: Any, certificate_id: str, changes: dict[str, Any], *more: Any) -> Any:
    said = request_stage.CertificateChanges(**changes)
    return await request_stage.update(ctx, scope, actor, certificate_id, said, *more)


def _words() -> Words:
    return Words(
        many=_("Certificates"),
        new=_("Request a certificate"),
        lead="",
        empty="",
        heads=(),
        row=lambda _certificate, _names: (),
        mark=lambda certificate: Mark("unk", "s-none", str(certificate.status)),
        removal="",
    )


def _labels() -> Mapping[str, Label]:
    later = _("Changes with the next version")
    return {
        "common_name": (_("Common name"), later),
        "sans": (_("Names"), _("One a line; they change with the next version")),
        "environment": (_("Environment"), _("Such as production")),
        "owner_id": (_("Owner"), _("Who answers for it, and is told")),
        "issuer_id": (_("Issuer"), later),
        "renewal_policy_id": (_("Renewal policy"), _("When it is renewed, and who is told when that fails")),
        "certificate_profile_id": (_("Profile"), later),
        "target_ids": (
            _("Places"),
            _("Each gets a version of its own at once; one that is taken away keeps what it has"),
        ),
        "tags": (_("Tags"), _("One a line, such as cost-centre: 4711")),
        "validity_seconds": (_("Wished life"), _("Seconds; empty: as profile and issuer have it")),
    }


def _fixed(certificate: Editable) -> str:
    return _("It is archived: nothing is changed any more.") if certificate.status == CertificateStatus.ARCHIVED else ""


KIND = Kind(
    path=PATH,
    record=Certificate,
    body=CertificateWrite,
    listing=CERTIFICATES,
    read="cert.read",
    edit="cert.edit",
    delete="",
    load=_load,
    create=request_stage.create,
    update=_update,
    remove=without_sees(request_stage.archive),
    words=_words,
    labels=_labels,
    apart=True,
    fixed=_fixed,
    settled=lambda _certificate: frozenset({"csr_pem"}),
    references={
        "owner_id": (Owner, "owner.read"),
        "team_id": (Team, "team.read"),
        "issuer_id": (IssuerRecord, "issuer.read"),
        "renewal_policy_id": (RenewalPolicy, "policy.read"),
        "certificate_profile_id": (Profile, "profile.read"),
        "target_ids": (TargetRecord, "target.read"),
    },
)


@get(f"{PATH}/{{certificate_id:str}}/edit", opt=needs("cert.edit"))
async def edit(request: WebRequest, certificate_id: FromPath[str]) -> Response[str]:
    """The form, filled with what is stored."""
    return await configure.edit_page(request, KIND, certificate_id)


HANDLERS = (edit, configure.save_page(KIND))
