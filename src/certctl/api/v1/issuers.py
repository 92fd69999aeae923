"""/api/v1/issuers: the CAs that may be asked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from litestar import delete, get, post, put
from litestar.params import FromPath, JSONBody

from certctl.api.guard import edits, needs
from certctl.api.lists import ShowAll, answer_list, listed
from certctl.api.patching import patched
from certctl.api.request import ApiRequest
from certctl.api.shown import given, shown
from certctl.client.models.issuers import (
    IssuerAccountView,
    IssuerView,
    IssuerWrite,
    LimitView,
    LostOrderView,
    PauseView,
    ResumeBody,
    ResumedAnswer,
    TrialAnswer,
    TrialBody,
    TrialStepView,
)
from certctl.client.models.page import PageOf
from certctl.client.models.targets import TestAnswer
from certctl.control import ca_accounts, ca_asks, issuers
from certctl.core.ca_limits import limits_of
from certctl.core.catalogue import IssuerRecord
from certctl.core.names import parse_names
from certctl.core.scope import Scope
from certctl.store import catalogue, stats
from certctl.store.listings import ISSUERS
from certctl.store.tx import Tx

_RECENT = timedelta(hours=24)


def _view(issuer: IssuerRecord) -> IssuerView:
    return shown(IssuerView, issuer)


def _views(request: ApiRequest) -> ShowAll[IssuerRecord, IssuerView]:
    """Issuers with what failed of late, among the jobs that the caller may see."""
    jobs_seen, since = request.seen_by("job.read"), request.ctx.now() - _RECENT

    async def show(tx: Tx, _scope: Scope, found: Sequence[IssuerRecord]) -> list[IssuerView]:
        failures = await stats.issuer_failures(tx, jobs_seen, [issuer.id for issuer in found], since)
        return [
            shown(IssuerView, issuer, recent_failures=failed.number, last_failure_at=failed.last_at)
            for issuer in found
            for failed in [failures.get(issuer.id, stats.IssuerFailures())]
        ]

    return show


@get("/issuers", opt=needs("issuer.read") | listed(ISSUERS), summary="List issuers")
async def list_issuers(request: ApiRequest) -> PageOf[IssuerView]:
    """By name."""
    return await answer_list(request, IssuerView, show_all=_views(request))


@post("/issuers", status_code=201, opt=needs("issuer.edit"), summary="Create an issuer")
async def create_issuer(request: ApiRequest, data: JSONBody[IssuerWrite]) -> IssuerView:
    """Its `config` is judged by its type."""
    return _view(await issuers.create(request.ctx, request.visible, request.actor, given(data)))


@get("/issuers/{issuer_id:str}", opt=needs("issuer.read"), summary="One issuer")
async def show_issuer(request: ApiRequest, issuer_id: FromPath[str]) -> IssuerView:
    """One issuer, and how many of its issuances failed in the last 24 hours."""
    async with request.ctx.database.read() as tx:
        issuer = await catalogue.get(tx, request.visible, IssuerRecord, issuer_id)
        (view,) = await _views(request)(tx, request.visible, [issuer])
    return view


@put("/issuers/{issuer_id:str}", opt=edits("issuer.edit"), summary="Change an issuer")
async def update_issuer(request: ApiRequest, issuer_id: FromPath[str], data: JSONBody[IssuerWrite]) -> IssuerView:
    """What is absent stays; a `config` that is given replaces the whole."""
    changes = request.changes(data, issuer_id)
    return _view(
        await issuers.update(request.ctx, request.visible, request.actor, issuer_id, changes, request.expected)
    )


@delete("/issuers/{issuer_id:str}", status_code=204, opt=edits("issuer.delete"), summary="Delete an issuer")
async def delete_issuer(request: ApiRequest, issuer_id: FromPath[str]) -> None:
    """One that has issued, or is named, is kept (409)."""
    await issuers.delete(request.ctx, request.visible, request.actor, issuer_id, request.expected, sees=request.seen_by)


@post("/issuers/{issuer_id:str}/test", status_code=200, opt=needs("issuer.edit"), summary="Test an issuer")
async def try_issuer(request: ApiRequest, issuer_id: FromPath[str]) -> TestAnswer:
    """Tries its set-up without issuing; a failure answers 502 or 503 with the reason."""
    said = await issuers.test(request.ctx, request.visible, request.actor, issuer_id)
    return TestAnswer(status="connection_successful", message=said)


@post("/issuers/{issuer_id:str}/dry-run", status_code=200, opt=needs("issuer.edit"), summary="Dry run of an issuer")
async def dry_run_issuer(request: ApiRequest, issuer_id: FromPath[str], data: JSONBody[TrialBody]) -> TrialAnswer:
    """A whole order at the CA's directory for trials, its certificate thrown away; a step that fails is told in 200.

    Answers when it has ended, at most `timeout_seconds` and a minute for cleaning up later.
    """
    ran = await issuers.dry_run(
        request.ctx,
        request.visible,
        request.actor,
        issuer_id,
        parse_names(data.names),
        timedelta(seconds=data.timeout_seconds),
    )
    steps = [shown(TrialStepView, one) for one in ran.steps]
    return TrialAnswer(directory_url=ran.directory_url, outcome="passed" if ran.passed else "failed", steps=steps)


@get("/issuers/{issuer_id:str}/account", opt=needs("issuer.read"), summary="An issuer's account at its CA")
async def show_account(request: ApiRequest, issuer_id: FromPath[str]) -> IssuerAccountView:
    """The account, how much of the CA's limits is used, orders that were lost, names that are paused and why."""
    stands = await ca_asks.standing(request.ctx, request.visible, issuer_id)
    known = limits_of(stands.directory_url)
    return IssuerAccountView(
        directory_url=stands.directory_url,
        account_url=stands.url,
        created_at=stands.created_at,
        key_change_open=stands.key_change_open,
        limits=[
            LimitView(
                limit=ca_asks.say(one.limit),
                number=one.limit.number,
                window_seconds=int(one.limit.window.total_seconds()),
                used=one.used,
            )
            for one in stands.spent
        ],
        limits_source=known.source,
        limits_as_of=known.as_of,
        limits_note=known.note,
        lost_orders=[shown(LostOrderView, one) for one in stands.lost],
        pauses=[shown(PauseView, one) for one in stands.pauses],
    )


@post("/issuers/{issuer_id:str}/account/roll-key", status_code=200, opt=needs("issuer.edit"), summary="Change the key")
async def roll_account_key(request: ApiRequest, issuer_id: FromPath[str]) -> TestAnswer:
    """A new key for the account at the CA; a change that broke off is brought to its end."""
    said = await ca_accounts.roll_key(request.ctx, request.visible, issuer_id)
    return TestAnswer(status="key_changed", message=said)


@post("/issuers/{issuer_id:str}/resume", status_code=200, opt=needs("issuer.edit"), summary="Resume paused orders")
async def resume_orders(request: ApiRequest, issuer_id: FromPath[str], data: JSONBody[ResumeBody]) -> ResumedAnswer:
    """Names that were refused too often are asked for again, at once."""
    resumed = await ca_asks.resume(request.ctx, request.visible, request.actor, issuer_id, data.certificate_id)
    return ResumedAnswer(resumed=resumed)


HANDLERS = (
    list_issuers,
    create_issuer,
    show_issuer,
    update_issuer,
    patched(show_issuer, update_issuer),
    delete_issuer,
    try_issuer,
    dry_run_issuer,
    show_account,
    roll_account_key,
    resume_orders,
)
