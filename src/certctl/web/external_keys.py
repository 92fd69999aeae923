"""/external-keys: who vouches for ACME accounts. A secret is shown once, in the answer to the making of its key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath

from certctl.client.models.acme import ExternalKeyWrite
from certctl.control import external_accounts
from certctl.core.acme import ExternalKey
from certctl.core.catalogue import Owner, Profile, Team
from certctl.core.errors import CallerError, NotFound
from certctl.store import acme, views
from certctl.store.acme_listings import EXTERNAL_KEYS
from certctl.store.lists import Slice
from certctl.web import tables
from certctl.web.acts import act, going
from certctl.web.configure.fields import ABSENT, Faults, fields_of, read
from certctl.web.configure.form import Filled, faults_of
from certctl.web.configure.sides import tabs_of
from certctl.web.guard import needs
from certctl.web.keyforms import days_field, new_page, tabs_by_revocation
from certctl.web.marks import Mark
from certctl.web.pages import render
from certctl.web.request import Fields, WebRequest
from certctl.web.words import gettext as _

PATH = "/external-keys"
_AT = f"{PATH}/{{key_id:str}}"
_MOST = 500
_REFERENCES: dict[str, tuple[type[Any], str]] = {
    "profile_id": (Profile, "profile.read"),
    "owner_id": (Owner, "owner.read"),
    "team_id": (Team, "team.read"),
}
_FORM = "external-key-new.html"


def mark_of(key: ExternalKey, now: Any) -> Mark:
    """How a key stands."""
    if key.revoked_at is not None:
        return Mark("unk", "s-off", _("Revoked"))
    if key.bound_account_id and not key.reusable:
        return Mark("unk", "s-ok", _("In use"))
    if key.expires_at is not None and key.expires_at <= now:
        return Mark("unk", "s-none", _("Ended"))
    return Mark("unk", "s-ok", _("In use")) if key.bound_account_id else Mark("unk", "s-unknown", _("Never used"))


@get(PATH, opt=needs("auth.key.list"))
async def show_all(request: WebRequest) -> Response[str]:
    """All that the caller may see, revoked ones too, never a secret."""
    async with request.ctx.database.read() as tx:
        table = await tables.read(request, tx, EXTERNAL_KEYS, request.visible)
    now = request.ctx.now()
    return await render(
        request,
        "external-keys.html",
        table=table,
        marks={key.id: mark_of(key, now) for key in table.rows},
        beside=tabs_of(request, PATH),
        tabs=tabs_by_revocation(table),
        may_revoke=request.may("auth.key.delete"),
    )


async def _form(request: WebRequest) -> Filled:
    """The fields of a new key: the API's, with its end told in days from now."""
    options: dict[str, Sequence[tuple[str, str]]] = {}
    async with request.ctx.database.read() as tx:
        for name, (kind, permission) in _REFERENCES.items():
            found = await views.record_page(tx, request.seen_by(permission), kind, Slice(limit=_MOST))
            first = [] if name == "profile_id" else [("", _("None"))]
            options[name] = [*first, *((row.id, row.name) for row in found.data)]
    words = {
        "name": (_("Name"), _("For people, such as web team")),
        "profile_id": (_("Profile"), _("Whose ACME directory it opens, with all that is offered there")),
        "allowed_names": (
            _("Only for names"),
            _("One a line: a domain with all below it, =one.exact.name or 10.0.0.0/8; none: what the profile allows"),
        ),
        "reusable": (_("For any number of accounts"), _("Else one account is bound with it")),
        "owner_id": (_("Owner"), _("Written to the certificates")),
        "team_id": (_("Team"), _("Written to the certificates")),
    }
    fields = fields_of(
        msgspec.json.schema(ExternalKeyWrite),
        words=words,
        options=options,
        left_out=frozenset({"expires_at"}),
        front=frozenset({"name", "profile_id", "allowed_names"}),
    )
    days = days_field(_("Binds for so many days"), 30)
    return Filled(fields=(*fields, days))


@get(f"{PATH}/new", opt=needs("auth.key.create"))
async def ask(request: WebRequest) -> Response[str]:
    """An empty form."""
    form = await _form(request)
    return await new_page(request, _FORM, form.lines({}))


@post(f"{PATH}/new", opt=needs("auth.key.create"))
async def make(request: WebRequest) -> Response[str]:
    """Make it; the answer is the one page that shows its secret."""
    said = await request.checked()
    form = await _form(request)
    faults: Faults = {}
    values = {field.path: read(field, said, faults) for field in form.fields}
    if faults:
        return await new_page(request, _FORM, form.sent(said, faults))
    days = values["days"]
    try:
        wish = external_accounts.ExternalKeyWish(
            name=values["name"],
            profile_id=values["profile_id"],
            owner_id=values["owner_id"] or "",
            team_id=values["team_id"] or "",
            allowed_names=tuple(values["allowed_names"] or ()),
            reusable=bool(values["reusable"]),
            expires_at=None if days is ABSENT else request.ctx.now() + timedelta(days=days),
        )
        key, secret = await external_accounts.create(request.ctx, request.caller.giver, wish)
    except CallerError as error:
        found, rest = faults_of(form, error)
        return await new_page(request, _FORM, form.sent(said, found), rest)
    directory = f"{request.ctx.addresses.base_url}/acme/profile/{key.profile_id}/directory"
    return await render(request, "external-key-shown.html", key=key, value=secret.reveal(), directory=directory)


async def _load(request: WebRequest, key_id: str) -> ExternalKey:
    async with request.ctx.database.read() as tx:
        found = await acme.external_key(tx, request.visible, key_id)
    if found is None:
        raise NotFound(f"no external account key {key_id}")
    return found


@get(f"{_AT}/delete", opt=needs("auth.key.delete"))
async def ask_revoke(request: WebRequest, key_id: FromPath[str]) -> Response[str]:
    """What revoking means."""
    return await _revoke_page(request, await _load(request, key_id))


async def _revoke_page(request: WebRequest, key: ExternalKey, fault: str = "") -> Response[str]:
    return await render(request, "external-key-revoke.html", status=400 if fault else 200, key=key, fault=fault)


@post(f"{_AT}/delete", opt=needs("auth.key.delete"))
async def revoke(request: WebRequest, key_id: FromPath[str]) -> Response[str]:
    """At once, for good."""
    said = await request.checked()
    key = await _load(request, key_id)
    if said.get("typed") != key.name:
        return await _revoke_page(request, key, _("Type the name as it stands: {name}").format(name=key.name))

    async def doing(_fields: Fields) -> str:
        await external_accounts.revoke(request.ctx, request.caller.giver, request.visible, key_id)
        return going(PATH, "external-key-revoked")

    return await act(request, doing)


HANDLERS = (show_all, ask, make, ask_revoke, revoke)
