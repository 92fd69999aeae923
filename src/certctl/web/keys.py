"""/keys: who may call the API, with what and for how long; a value is shown once, in the answer to its making."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath

from certctl.client.models.auth import KeyWrite
from certctl.control import keys
from certctl.core.actor import ActorType
from certctl.core.catalogue import ApiKey, IssuerRecord, Profile, Team
from certctl.core.errors import CallerError, Conflict, Malformed
from certctl.core.secret import Secret
from certctl.store import identity, views
from certctl.store.identity_listings import keys_made_by
from certctl.store.lists import Slice
from certctl.web import tables
from certctl.web.acts import act, going
from certctl.web.configure.fields import ABSENT, Faults, fields_of, read
from certctl.web.configure.form import Filled, faults_of
from certctl.web.configure.pages import VERSION_FIELD, seen_version
from certctl.web.configure.sides import tabs_of
from certctl.web.guard import needs
from certctl.web.keyforms import days_field, new_page, tabs_by_revocation
from certctl.web.marks import Mark
from certctl.web.pages import render
from certctl.web.request import Fields, WebRequest
from certctl.web.roles import known_roles
from certctl.web.words import gettext as _

PATH = "/keys"
_AT = f"{PATH}/{{key_id:str}}"
_MOST = 500
_LIMITS: dict[str, tuple[type[Any], str]] = {
    "teams": (Team, "team.read"),
    "profiles": (Profile, "profile.read"),
    "issuers": (IssuerRecord, "issuer.read"),
}
_FORM = "key-new.html"


def mark_of(key: ApiKey, now: Any) -> Mark:
    """How a key stands."""
    if key.revoked_at is not None:
        return Mark("unk", "s-off", _("Revoked"))
    if key.expires_at is not None and key.expires_at <= now:
        return Mark("unk", "s-none", _("Ended"))
    if key.previous_until is not None and key.previous_until > now:
        return Mark("work", "s-work", _("Two values"))
    return Mark("unk", "s-ok", _("In use")) if key.last_used_at else Mark("unk", "s-unknown", _("Never used"))


@get(PATH, opt=needs("auth.key.list"))
async def show_all(request: WebRequest) -> Response[str]:
    """All keys; with a limited grant one's own and those one made."""
    listing = keys_made_by(keys.maker(request.actor, request.visible))
    async with request.ctx.database.read() as tx:
        table = await tables.read(request, tx, listing, request.ctx.scope)
        names = {role.id: role.name for role in await known_roles(tx, request.ctx.scope)}
    now = request.ctx.now()
    return await render(
        request,
        "keys.html",
        table=table,
        roles={key.id: [names.get(each, each) for each in key.role_ids] for key in table.rows},
        marks={key.id: mark_of(key, now) for key in table.rows},
        beside=tabs_of(request, PATH),
        tabs=tabs_by_revocation(table),
    )


async def _form(request: WebRequest) -> Filled:
    """The fields of a new key: the API's, with its end told in days from now."""
    options: dict[str, Sequence[tuple[str, str]]] = {}
    async with request.ctx.database.read() as tx:
        known = await known_roles(tx, request.ctx.scope)
        for name, (kind, permission) in _LIMITS.items():
            found = await views.record_page(tx, request.seen_by(permission), kind, Slice(limit=_MOST))
            options[name] = [(row.id, row.name) for row in found.data]
    options["role_ids"] = [(role.id, f"{role.name}: {role.description}".rstrip(": ")) for role in known]
    words = {
        "name": (_("Name"), _("a-z, 0-9, dot, dash and underscore, such as deploy-bot; it stands in the audit log")),
        "role_ids": (_("Roles"), _("What it may do; you can give no more than you have")),
        "teams": (_("Only for teams"), _("None ticked: for all")),
        "profiles": (_("Only for profiles"), _("None ticked: for all")),
        "issuers": (_("Only for issuers"), _("None ticked: for all")),
        "person": (_("Whose"), _("When another person is to use it; empty: yours")),
    }
    fields = fields_of(
        msgspec.json.schema(KeyWrite),
        words=words,
        options=options,
        left_out=frozenset({"agent_id", "expires_at"}),
        front=frozenset({"name", "role_ids"}),
    )
    days = days_field(_("Good for so many days"), 90)
    return Filled(fields=(*fields[:2], days, *fields[2:]))


@get(f"{PATH}/new", opt=needs("auth.key.create"))
async def ask(request: WebRequest) -> Response[str]:
    """An empty form."""
    form = await _form(request)
    return await new_page(request, _FORM, form.lines({}))


@post(f"{PATH}/new", opt=needs("auth.key.create"))
async def make(request: WebRequest) -> Response[str]:
    """Make it; the answer is the one page that shows its value."""
    said = await request.checked()
    form = await _form(request)
    faults: Faults = {}
    values = {field.path: read(field, said, faults) for field in form.fields}
    if not values["role_ids"]:
        faults["role_ids"] = _("Tick one at least.")
    if faults:
        return await new_page(request, _FORM, form.sent(said, faults))
    days = values["days"]
    try:
        wish = keys.KeyWish(
            name=values["name"],
            role_ids=tuple(values["role_ids"]),
            expires_at=None if days is ABSENT else request.ctx.now() + timedelta(days=days),
            teams=values["teams"] or None,
            profiles=values["profiles"] or None,
            issuers=values["issuers"] or None,
            person=values["person"],
        )
        key, value = await keys.create(request.ctx, request.caller.giver, wish)
    except CallerError as error:
        found, rest = faults_of(form, error)
        return await new_page(request, _FORM, form.sent(said, found), rest)
    return await _shown(request, key, value)


async def _shown(request: WebRequest, key: ApiKey, value: Secret) -> Response[str]:
    return await render(request, "key-shown.html", key=key, value=value.reveal())


async def _load(request: WebRequest, key_id: str) -> ApiKey:
    async with request.ctx.database.read() as tx:
        return await keys.find(tx, request.ctx, request.caller.giver, "auth.key.list", key_id)


@get(_AT, opt=needs("auth.key.list"))
async def show(request: WebRequest, key_id: FromPath[str]) -> Response[str]:
    """One key, never its value."""
    return await _page(request, await _load(request, key_id))


async def _page(request: WebRequest, key: ApiKey, fault: str = "") -> Response[str]:
    async with request.ctx.database.read() as tx:
        names = {role.id: role.name for role in await known_roles(tx, request.ctx.scope)}
        granted = await identity.grants_of(tx, request.ctx.scope, ActorType.API_KEY, [key.name])
    limits = [(word, ids) for word, ids in _limits(key) if ids is not None]
    return await render(
        request,
        "key.html",
        status=409 if fault else 200,
        key=key,
        mark=mark_of(key, request.ctx.now()),
        roles=[names.get(each, each) for each in key.role_ids],
        granted=[(names.get(each.role_id, each.role_id), each) for each in granted],
        limits=limits,
        overlaps=[("0", _("It ends now")), ("3600", _("One hour")), ("86400", _("One day")), ("604800", _("A week"))],
        may_rotate=request.may("auth.key.rotate") and key.revoked_at is None,
        may_revoke=request.may("auth.key.delete") and key.revoked_at is None,
        version_field=VERSION_FIELD,
        fault=fault,
    )


def _limits(key: ApiKey) -> list[tuple[str, list[str] | None]]:
    return [(_("Teams"), key.teams), (_("Profiles"), key.profiles), (_("Issuers"), key.issuers)]


@post(f"{_AT}/rotate", opt=needs("auth.key.rotate"))
async def rotate(request: WebRequest, key_id: FromPath[str]) -> Response[str]:
    """A fresh value, shown on the page that answers."""
    said = await request.checked()
    text = said.get("overlap_seconds", "0")
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Malformed("overlap_seconds is a number of seconds")
    wish = keys.Rotation(overlap=timedelta(seconds=int(text)), expected=seen_version(said))
    try:
        key, value = await keys.rotate(request.ctx, request.caller.giver, key_id, wish)
    except Conflict as error:
        return await _page(request, await _load(request, key_id), error.message[:1].upper() + error.message[1:])
    return await _shown(request, key, value)


@get(f"{_AT}/delete", opt=needs("auth.key.delete"))
async def ask_revoke(request: WebRequest, key_id: FromPath[str]) -> Response[str]:
    """What revoking means."""
    return await _revoke_page(request, await _load(request, key_id))


async def _revoke_page(request: WebRequest, key: ApiKey, fault: str = "", status: int = 400) -> Response[str]:
    return await render(
        request,
        "key-revoke.html",
        status=status if fault else 200,
        key=key,
        fault=fault,
        version_field=VERSION_FIELD,
    )


@post(f"{_AT}/delete", opt=needs("auth.key.delete"))
async def revoke(request: WebRequest, key_id: FromPath[str]) -> Response[str]:
    """At once, for good."""
    said = await request.checked()
    key = await _load(request, key_id)
    if said.get("typed") != key.name:
        return await _revoke_page(request, key, _("Type the name as it stands: {name}").format(name=key.name))

    async def doing(fields: Fields) -> str:
        await keys.revoke(request.ctx, request.caller.giver, key_id, seen_version(fields))
        return going(PATH, "key-revoked")

    try:
        return await act(request, doing)
    except Conflict as error:
        return await _revoke_page(request, key, error.message[:1].upper() + error.message[1:], 409)


HANDLERS = (show_all, ask, make, show, rotate, ask_revoke, revoke)
