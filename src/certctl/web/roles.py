"""/roles: what each role holds; roles of one's own made, changed one permission at a time, and taken away."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath

from certctl.client.models.auth import RoleWrite
from certctl.control import roles
from certctl.core.catalogue import Role
from certctl.core.errors import CallerError, NotFound
from certctl.core.permissions import PERMISSIONS, ROLES, limits_of, namespace
from certctl.core.scope import GLOBAL, SCOPE_TYPES, Scope
from certctl.store.identity_listings import KEYS
from certctl.store.lists import Asked, read_list
from certctl.store.tx import Tx
from certctl.store.whole_listings import EVERY_ROLE, RoleRow
from certctl.web.acts import act, going
from certctl.web.configure import pages as configure
from certctl.web.configure.kinds import Kind
from certctl.web.configure.sides import tabs_of
from certctl.web.configure.words_of import Words
from certctl.web.guard import needs
from certctl.web.marks import Mark
from certctl.web.pages import render
from certctl.web.request import Fields, WebRequest
from certctl.web.words import gettext as _

PATH = "/roles"
_AT = f"{PATH}/{{role_id:str}}"
_MOST = 500


def _words() -> Words:
    return Words(
        many=_("Roles"),
        new=_("New role"),
        lead=_("What keys and people may do."),
        empty="",
        heads=(),
        row=lambda _role, _names: (),
        mark=_mark,
        removal=_("One that a key or a person still has is kept."),
    )


async def known_roles(tx: Tx, scope: Scope) -> list[RoleRow]:
    """The built-in ones first, then the others by name."""
    found = await read_list(tx, scope, EVERY_ROLE, Asked(sort="place", limit=_MOST))
    return found.data


def _mark(role: Role | RoleRow) -> Mark:
    built_in = role.id in ROLES
    return Mark("unk", "s-ok", _("Built in")) if built_in else Mark("unk", "s-none", _("Your own"))


KIND = Kind(
    path=PATH,
    record=Role,
    body=RoleWrite,
    listing=KEYS,
    read="auth.role.list",
    edit="auth.role.edit",
    delete="auth.role.delete",
    create=lambda ctx, _scope, actor, wanted: roles.create(ctx, actor, wanted["name"], wanted.get("description", "")),
    update=lambda ctx, _scope, actor, *rest: roles.update(ctx, actor, *rest),
    remove=lambda ctx, _scope, actor, role_id, expected, *, sees: roles.delete(ctx, actor, role_id, expected),  # noqa: ARG005
    words=_words,
)


@get(PATH, opt=needs("auth.role.list"))
async def show_all(request: WebRequest) -> Response[str]:
    """The built-in ones first."""
    async with request.ctx.database.read() as tx:
        every = await known_roles(tx, request.ctx.scope)
        held = {role.id: len((await roles.get(tx, request.ctx.scope, role.id))[1]) for role in every}
    return await render(
        request,
        "roles.html",
        roles=every,
        held=held,
        marks={role.id: _mark(role) for role in every},
        beside=tabs_of(request, PATH),
    )


@get(_AT, opt=needs("auth.role.list"))
async def show(request: WebRequest, role_id: FromPath[str]) -> Response[str]:
    """One role with what it holds."""
    return await _page(request, role_id)


async def _page(request: WebRequest, role_id: str, fault: str = "", status: int = 400) -> Response[str]:
    async with request.ctx.database.read() as tx:
        role, held = await roles.get(tx, request.ctx.scope, role_id)
    built_in = role_id in ROLES
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for each in sorted(held, key=lambda row: (row.permission, row.scope_type, row.scope_id)):
        groups.setdefault(namespace(each.permission), []).append((each.permission, each.scope_type, each.scope_id))
    whole = {each.permission for each in held if each.scope_type == GLOBAL}
    lacking = sorted(PERMISSIONS - whole)
    return await render(
        request,
        "role.html",
        status=status if fault else 200,
        role=role,
        mark=_mark(role),
        groups=groups,
        lacking=[(name, name) for name in lacking],
        reaches=[(GLOBAL, _("everywhere")), *((word, word) for word in sorted(SCOPE_TYPES))],
        limited={name: sorted(limits_of(name)) for name in lacking},
        may_edit=request.may("auth.role.edit") and not built_in,
        may_delete=request.may("auth.role.delete") and not built_in,
        version_field=configure.VERSION_FIELD,
        fault=fault,
    )


@post(f"{_AT}/add", opt=needs("auth.role.edit"))
async def add(request: WebRequest, role_id: FromPath[str]) -> Response[str]:
    """For all who have the role; nobody adds what they lack."""

    async def doing(fields: Fields) -> str:
        await roles.add_permission(
            request.ctx,
            request.caller.giver,
            role_id,
            fields.get("permission"),
            fields.get("scope_type", GLOBAL),
            fields.get("scope_id"),
        )
        return going(f"{PATH}/{role_id}", "saved")

    return await _one(request, role_id, doing)


@post(f"{_AT}/take", opt=needs("auth.role.edit"))
async def take(request: WebRequest, role_id: FromPath[str]) -> Response[str]:
    """From all who have the role."""

    async def doing(fields: Fields) -> str:
        await roles.remove_permission(
            request.ctx,
            request.actor,
            role_id,
            fields.get("permission"),
            fields.get("scope_type"),
            fields.get("scope_id"),
            configure.seen_version(fields),
        )
        return going(f"{PATH}/{role_id}", "saved")

    return await _one(request, role_id, doing)


async def _one(request: WebRequest, role_id: str, doing: configure.Act) -> Response[str]:
    try:
        return await act(request, doing)
    except NotFound:
        raise
    except CallerError as error:
        return await _page(request, role_id, error.message[:1].upper() + error.message[1:])


HANDLERS = (
    show_all,
    *configure.new_pages(KIND, "auth.role.create"),
    show,
    configure.save_page(KIND),
    *configure.removal_pages(KIND),
    add,
    take,
)
