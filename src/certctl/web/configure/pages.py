"""The pages of what is configured: a list, a new one, one, its test, its removal; the same for every kind.

Whoever saves says which version they saw: what somebody else changed meanwhile is never overwritten, but shown beside
what was typed, to be decided anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Struct

from certctl.connectors.base.config import REDACTED
from certctl.core.errors import CallerError, CertctlError, Malformed, NotFound, PreconditionFailed
from certctl.core.revision import Expected
from certctl.store import catalogue, truths, views
from certctl.store.lists import Slice
from certctl.store.tx import Tx
from certctl.web import tables
from certctl.web.acts import Act, act, going
from certctl.web.configure.fields import ABSENT, shown_of, value_at
from certctl.web.configure.form import Form, Line, as_body, faults_of, form_of, read_form
from certctl.web.configure.kinds import KINDS, Kind, Option, Waits
from certctl.web.configure.sides import tabs_of
from certctl.web.configure.trials import Tried, Try
from certctl.web.guard import needs
from certctl.web.marks import Mark
from certctl.web.pages import render
from certctl.web.request import Fields, WebRequest
from certctl.web.words import gettext as _

__all__ = ["HANDLERS", "VERSION_FIELD", "Act", "edit_page", "new_pages", "removal_pages", "save_page", "seen_version"]

_MOST = 500
VERSION_FIELD = "row_version"


class Told(Struct, frozen=True, kw_only=True):
    """What a page says beside its form."""

    status: int = 200
    faults: list[str] = []
    result: Mark | None = None
    said: str = ""
    # label, what was typed, what stands there now
    meanwhile: list[tuple[str, str, str]] = []
    trial: Tried | None = None


def handlers_of(kind: Kind) -> list[HTTPRouteHandler]:
    """The routes of one kind."""
    made = [_list_page(kind), *new_pages(kind), _one_page(kind), save_page(kind), *removal_pages(kind)]
    if kind.test is not None:
        made.append(_test_page(kind))
    if kind.trial is not None:
        made.append(_trial_page(kind, kind.trial))
    return made


def _list_page(kind: Kind) -> HTTPRouteHandler:
    @get(kind.path, opt=needs(kind.read))
    async def show_all(request: WebRequest) -> Response[str]:
        words = kind.words()
        async with request.ctx.database.read() as tx:
            table = await tables.read(request, tx, kind.listing, request.visible)
            names = await _names(request, tx, kind, table.rows)
        return await render(
            request,
            "configured.html",
            kind=kind,
            words=words,
            table=table,
            tabs=tabs_of(request, kind.path),
            cells={row.id: words.row(row, names) for row in table.rows},
            marks={row.id: words.mark(row) for row in table.rows},
        )

    return show_all


async def _names(request: WebRequest, tx: Tx, kind: Kind, rows: list[Any]) -> dict[str, str]:
    """The names of what these rows refer to, as far as the caller may see it."""
    names: dict[str, str] = {}
    for field, (record, permission) in kind.references.items():
        ids = {getattr(row, field, "") for row in rows} - {""}
        names |= await truths.named(tx, request.seen_by(permission), record, sorted(ids))
    return names


async def _form(
    request: WebRequest, kind: Kind, type_: str, body: Mapping[str, Any], settled: frozenset[str] = frozenset()
) -> Form:
    """The form; what `body` names may be chosen again, even where the caller cannot see it listed."""
    options: dict[str, list[Option]] = {}
    async with request.ctx.database.read() as tx:
        for path, (record, permission) in kind.references.items():
            scope = request.seen_by(permission)
            found = await views.record_page(tx, scope, record, Slice(limit=_MOST))
            listed = [(row.id, row.name) for row in found.data if getattr(row, "retired_at", None) is None]
            named = _ids_at(body, path) - {key for key, _name in listed}
            names = await truths.named(tx, scope, record, sorted(named))
            listed += [(each, names.get(each, each)) for each in sorted(named)]
            nothing = _("Choose one") if path in kind.needed else _("None")
            options[path] = listed if path.endswith("_ids") else [("", nothing), *listed]
    return form_of(kind, type_, options, body, settled)


async def _form_of(request: WebRequest, kind: Kind, record: Any) -> Form:
    return await _form(request, kind, getattr(record, "type", ""), _body(kind, record), kind.settled(record))


def _ids_at(body: Mapping[str, Any], path: str) -> set[str]:
    found = value_at(body, path)
    if found is ABSENT or not found:
        return set()
    return {found} if isinstance(found, str) else set(found)


def new_pages(kind: Kind, permission: str = "") -> list[HTTPRouteHandler]:
    """An empty form, and what it sends; `permission` where making one needs another than changing one."""
    allowed = needs(permission or kind.edit)

    @get(f"{kind.path}/new", opt=allowed)
    async def ask(request: WebRequest) -> Response[str]:
        type_ = request.query_params.get("type", "")
        fillable = {*kind.references, *kind.given}
        given = {name: request.query_params[name][:255] for name in fillable if name in request.query_params}
        if kind.types is not None and type_ not in dict(kind.types()):
            return await render(
                request,
                "choose.html",
                kind=kind,
                words=kind.words(),
                types=[(text, f"{kind.path}/new?{urlencode({'type': type_} | given)}") for type_, text in kind.types()],
                tabs=tabs_of(request, kind.path),
            )
        begun = {**kind.starts, **kind.starts_as(type_), **given}
        form = await _form(request, kind, type_, begun)
        return await _page(request, form, form.lines(begun))

    @post(f"{kind.path}/new", opt=allowed)
    async def make(request: WebRequest) -> Response[str]:
        said = await request.checked()
        # a form may come with one already chosen that is not among the first hundreds; the API judges it
        form = await _form(request, kind, _type(kind, said), {name: said.get(name) for name in kind.references})

        async def doing(fields: Fields) -> str:
            wanted, faults = read_form(form, fields, None)
            if faults:
                raise _Typed(faults)
            made = await kind.create(request.ctx, request.visible, request.actor, as_body(kind, wanted))
            return going(f"{kind.path}/{made.id}", "saved")

        try:
            return await act(request, doing)
        except CallerError as error:
            return await _refused(request, form, said, error)

    return [ask, make]


class _Typed(Malformed):
    """What was typed cannot be read; said at the fields."""

    def __init__(self, faults: dict[str, str]) -> None:
        super().__init__("a field cannot be read")
        self.faults = faults


def _type(kind: Kind, said: Fields) -> str:
    type_ = said.get("type")
    if kind.types is not None and type_ not in dict(kind.types()):
        raise Malformed("choose a kind that is listed")
    return type_


def _one_page(kind: Kind) -> HTTPRouteHandler:
    @get(f"{kind.path}/{{record_id:str}}", opt=needs(kind.read))
    async def show(request: WebRequest, record_id: FromPath[str]) -> Response[str]:
        return await edit_page(request, kind, record_id)

    return show


async def edit_page(request: WebRequest, kind: Kind, record_id: str) -> Response[str]:
    """The form of one, filled with what is stored."""
    record = await _record(request, kind, record_id)
    form = await _form_of(request, kind, record)
    return await _page(request, form, form.lines(_body(kind, record)), record)


def save_page(kind: Kind) -> HTTPRouteHandler:
    """What the form of one sends: changes of the version that it was made of."""

    @post(f"{kind.path}/{{record_id:str}}", opt=needs(kind.edit))
    async def save(request: WebRequest, record_id: FromPath[str]) -> Response[str]:
        said = await request.checked()
        record = await _record(request, kind, record_id)
        form = await _form_of(request, kind, record)

        async def doing(fields: Fields) -> str:
            wanted, faults = read_form(form, fields, _body(kind, record))
            if faults:
                raise _Typed(faults)
            expected = seen_version(fields)
            if record.row_version not in expected:
                raise PreconditionFailed(f"{record_id} was changed meanwhile")
            if not wanted:
                return going(f"{kind.path}/{record_id}", "same")
            changes = as_body(kind, wanted)
            made = await kind.update(request.ctx, request.visible, request.actor, record_id, changes, expected)
            return going(f"{kind.path}/{record_id}", "waits" if isinstance(made, Waits) else "saved")

        try:
            return await act(request, doing)
        except NotFound:
            raise
        except CallerError as error:
            return await _refused(request, form, said, error, await _record(request, kind, record_id))

    return save


def seen_version(fields: Fields) -> frozenset[int]:
    """The version that a form was made of."""
    text = fields.get(VERSION_FIELD)
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Malformed("this form does not say which version it shows; open the page again")
    return frozenset({int(text)})


async def _record(request: WebRequest, kind: Kind, record_id: str) -> Any:
    async with request.ctx.database.read() as tx:
        if kind.load is not None:
            return await kind.load(tx, request.visible, record_id)
        return await catalogue.get(tx, request.visible, kind.record, record_id)


def _body(kind: Kind, record: Any) -> dict[str, Any]:
    body = {name: getattr(record, name) for name in kind.body.__struct_fields__ if hasattr(record, name)}
    # secrets that are kept apart stand in the configuration as what may not be seen
    hidden = dict.fromkeys(getattr(record, "secrets", ()), REDACTED)
    return body | {"config": body["config"] | hidden} if hidden else body


async def _refused(
    request: WebRequest, form: Form, said: Fields, error: CallerError, record: Any = None
) -> Response[str]:
    """The form again with all that was typed; the faults at their fields."""
    if isinstance(error, PreconditionFailed) and record is not None:
        lines = form.sent(said, {})
        meanwhile = _meanwhile(form, said, record)
        return await _page(request, form, lines, record, Told(status=412, meanwhile=meanwhile))
    faults, rest = (error.faults, []) if isinstance(error, _Typed) else faults_of(form, error)
    status = 409 if error.code in {"conflict", "blocked_by_dependencies"} else 400
    version = said.get(VERSION_FIELD)
    return await _page(request, form, form.sent(said, faults), record, Told(status=status, faults=rest), version)


def _meanwhile(form: Form, said: Fields, record: Any) -> list[tuple[str, str, str]]:
    """What stands there now and reads otherwise than what was typed."""
    body = _body(form.kind, record)
    found = []
    for line in form.sent(said, {}):
        now = shown_of(line.field, value_at(body, line.field.path))
        if now != line.shown:
            found.append((line.field.label, _told(line.field, line.shown), _told(line.field, now)))
    return found


def _told(field: Any, shown: Any) -> str:
    if field.kind == "tick":
        return _("yes") if shown else _("no")
    if field.kind == "rows":
        return ", ".join(" ".join(filter(None, row.values())) for row in shown if any(row.values())) or _("nothing")
    if field.kind in {"pick", "ticks"}:
        names = dict(field.options)
        chosen = [shown] if isinstance(shown, str) else shown
        return ", ".join(names.get(each, each) for each in chosen) or _("nothing")
    return shown or _("nothing")


async def _page(
    request: WebRequest, form: Form, lines: list[Line], record: Any = None, told: Told | None = None, version: str = ""
) -> Response[str]:
    kind, words, told = form.kind, form.kind.words(), told or Told()
    types = dict(kind.types()) if kind.types is not None else {}
    fixed = kind.fixed(record) if record is not None else ""
    retired = getattr(record, "retired_at", None) is not None
    rare = [line for line in lines if line.field.rare]
    return await render(
        request,
        "configure.html",
        status=told.status,
        kind=kind,
        words=words,
        form=form,
        record=record,
        title=kind.named(record) if record is not None else words.new,
        type_word=types.get(form.type, form.type),
        front=[line for line in lines if not line.field.rare],
        rare=rare,
        rare_open=any(line.fault for line in rare),
        told=told,
        mark=words.mark(record) if record is not None else None,
        seen=version or (record.row_version if record is not None else ""),
        may_edit=request.may(kind.edit) and not retired and not fixed,
        may_test=record is not None and kind.test is not None and request.may(kind.edit) and not retired,
        may_delete=record is not None and request.may(kind.delete) and not retired and not fixed,
        fixed=fixed,
        inventory=f"/certificates?{kind.inventory}=" if kind.inventory and request.may("cert.read") else "",
        version_field=VERSION_FIELD,
        faulty=sum(bool(line.fault) for line in lines),
    )


def _test_page(kind: Kind) -> HTTPRouteHandler:
    @post(f"{kind.path}/{{record_id:str}}/test", opt=needs(kind.edit))
    async def test(request: WebRequest, record_id: FromPath[str]) -> Response[str]:
        await request.checked()
        result, said = await _tested(request, kind, record_id)
        record = await _record(request, kind, record_id)
        form = await _form_of(request, kind, record)
        return await _page(request, form, form.lines(_body(kind, record)), record, Told(result=result, said=said))

    return test


async def _tested(request: WebRequest, kind: Kind, record_id: str) -> tuple[Mark, str]:
    """How the test went, as the API tells it."""
    assert kind.test is not None
    try:
        good, said = await kind.test(request.ctx, request.visible, request.actor, record_id)
    except CallerError:
        raise
    except CertctlError as error:
        good, said = False, error.message
    word = _("The test went well") if good else _("The test failed")
    return Mark("ok", "s-ok", word) if good else Mark("bad", "s-bad", word), said[:1].upper() + said[1:]


def _trial_page(kind: Kind, trial: Try) -> HTTPRouteHandler:
    @post(f"{kind.path}/try", opt=needs(kind.edit))
    async def try_it(request: WebRequest) -> Response[str]:
        """What would be so, as it stands in the form; nothing is written."""
        said = await request.checked()
        type_ = _type(kind, said)
        form = await _form(request, kind, type_, {})
        record_id = said.get("record_id")
        record = await _record(request, kind, record_id) if record_id else None
        wanted, faults = read_form(form, said, None)
        version = said.get(VERSION_FIELD)
        if faults:
            return await _page(request, form, form.sent(said, faults), record, Told(status=400), version)
        try:
            found = await trial(request, type_, wanted, record)
        except CallerError as error:
            return await _refused(request, form, said, error, record)
        return await _page(request, form, form.sent(said, {}), record, Told(trial=found), version)

    return try_it


def removal_pages(kind: Kind) -> list[HTTPRouteHandler]:
    """What deleting one means, and doing it by its typed name."""

    @get(f"{kind.path}/{{record_id:str}}/delete", opt=needs(kind.delete))
    async def ask(request: WebRequest, record_id: FromPath[str]) -> Response[str]:
        return await _removal_page(request, kind, await _record(request, kind, record_id))

    @post(f"{kind.path}/{{record_id:str}}/delete", opt=needs(kind.delete))
    async def remove(request: WebRequest, record_id: FromPath[str]) -> Response[str]:
        said = await request.checked()
        record = await _record(request, kind, record_id)
        if said.get("typed") != kind.named(record).strip():
            fault = _("Type the name as it stands: {name}").format(name=kind.named(record))
            return await _removal_page(request, kind, record, fault)

        async def doing(fields: Fields) -> str:
            expected: Expected = seen_version(fields)
            await kind.remove(request.ctx, request.visible, request.actor, record_id, expected, sees=request.seen_by)
            return going(kind.path, "deleted")

        try:
            return await act(request, doing)
        except (NotFound, Malformed, PreconditionFailed):
            raise
        except CallerError as error:
            return await _removal_page(request, kind, record, error.message[:1].upper() + error.message[1:], 409)

    return [ask, remove]


async def _removal_page(
    request: WebRequest, kind: Kind, record: Any, fault: str = "", status: int = 400
) -> Response[str]:
    return await render(
        request,
        "remove.html",
        status=status if fault else 200,
        kind=kind,
        words=kind.words(),
        record=record,
        name=kind.named(record),
        fault=fault,
        version_field=VERSION_FIELD,
    )


HANDLERS = tuple(handler for kind in KINDS for handler in handlers_of(kind))
