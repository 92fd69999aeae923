"""/api/v1/health-checks: endpoints that are looked at, and what was seen there."""

from __future__ import annotations

from typing import Annotated

from litestar import delete, get, post, put
from litestar.params import FromPath, JSONBody, QueryParameter

from certctl.api.guard import edits, needs
from certctl.api.lists import answer_list, listed
from certctl.api.patching import patched
from certctl.api.request import ApiRequest
from certctl.api.shown import given, shown
from certctl.client.models.health import (
    AcknowledgeBody,
    HealthCheckView,
    HealthCheckWrite,
    HealthEntryView,
    HealthSummary,
)
from certctl.client.models.page import PageOf
from certctl.control import health_checks
from certctl.core.health import HealthCheck
from certctl.store import catalogue
from certctl.store.health_listings import HEALTH_CHECKS

Limit = Annotated[int, QueryParameter(description=f"1 to {health_checks.MOST_HISTORY} entries")]


def _view(check: HealthCheck) -> HealthCheckView:
    return shown(HealthCheckView, check, target_id=check.follows or "")


@get("/health-checks/summary", opt=needs("healthcheck.read"), summary="How endpoints stand")
async def show_health_summary(request: ApiRequest) -> HealthSummary:
    """How many checks read what, of those that the caller may see."""
    async with request.ctx.database.read() as tx:
        return shown(HealthSummary, await health_checks.counts(tx, request.visible))


@get("/health-checks", opt=needs("healthcheck.read") | listed(HEALTH_CHECKS), summary="List health checks")
async def list_health_checks(request: ApiRequest) -> PageOf[HealthCheckView]:
    """By endpoint."""
    return await answer_list(request, HealthCheckView, show=_view)


@post("/health-checks", status_code=201, opt=needs("healthcheck.edit"), summary="Create a health check")
async def create_health_check(request: ApiRequest, data: JSONBody[HealthCheckWrite]) -> HealthCheckView:
    """Looked at within seconds; until then it reads unknown."""
    return _view(await health_checks.create(request.ctx, request.visible, request.actor, given(data)))


@get("/health-checks/{health_check_id:str}", opt=needs("healthcheck.read"), summary="One health check")
async def show_health_check(request: ApiRequest, health_check_id: FromPath[str]) -> HealthCheckView:
    """One check, as it was seen last."""
    async with request.ctx.database.read() as tx:
        return _view(await catalogue.get(tx, request.visible, HealthCheck, health_check_id))


@put("/health-checks/{health_check_id:str}", opt=edits("healthcheck.edit"), summary="Change a health check")
async def update_health_check(
    request: ApiRequest, health_check_id: FromPath[str], data: JSONBody[HealthCheckWrite]
) -> HealthCheckView:
    """What is absent stays; a look that goes elsewhere begins anew, unknown."""
    changes = request.changes(data, health_check_id)
    changed = await health_checks.update(
        request.ctx, request.visible, request.actor, health_check_id, changes, request.expected
    )
    return _view(changed)


@delete(
    "/health-checks/{health_check_id:str}",
    status_code=204,
    opt=edits("healthcheck.delete"),
    summary="Delete a health check",
)
async def delete_health_check(request: ApiRequest, health_check_id: FromPath[str]) -> None:
    """With its history. One that follows deployments comes back with the next: switch it off instead."""
    await health_checks.delete(request.ctx, request.visible, request.actor, health_check_id, request.expected)


@get("/health-checks/{health_check_id:str}/history", opt=needs("healthcheck.read"), summary="What looks found")
async def show_health_history(
    request: ApiRequest, health_check_id: FromPath[str], limit: Limit = 100
) -> list[HealthEntryView]:
    """Newest first; looks that found the same for up to an hour are one entry."""
    async with request.ctx.database.read() as tx:
        found = await health_checks.history(tx, request.visible, health_check_id, limit)
    return [shown(HealthEntryView, entry) for entry in found]


@post(
    "/health-checks/{health_check_id:str}/acknowledge",
    status_code=204,
    opt=needs("healthcheck.acknowledge"),
    summary="Acknowledge what is wrong",
)
async def acknowledge_health_check(
    request: ApiRequest, health_check_id: FromPath[str], data: JSONBody[AcknowledgeBody | None] = None
) -> None:
    """Holds until the state changes; 409 where nothing is wrong. Who acknowledges is who calls."""
    said = data.actor if data is not None else ""
    await health_checks.acknowledge(request.ctx, request.visible, request.actor, health_check_id, said)


HANDLERS = (
    show_health_summary,
    list_health_checks,
    create_health_check,
    show_health_check,
    update_health_check,
    patched(show_health_check, update_health_check),
    delete_health_check,
    show_health_history,
    acknowledge_health_check,
)
