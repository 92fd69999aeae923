"""/api/v1/profiles: the rules a certificate must keep."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, delete, get, post, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody

from certctl.api.guard import edits, needs
from certctl.api.lists import answer_list, listed
from certctl.api.patching import patched
from certctl.api.request import ApiRequest
from certctl.api.shown import given, shown
from certctl.client.models.page import PageOf
from certctl.client.models.profiles import KeyRuleView, ProfileView, ProfileWrite
from certctl.control import profile_edits, profiles
from certctl.core.catalogue import Profile
from certctl.store import catalogue
from certctl.store.listings import PROFILES


def _values(values: dict[str, Any]) -> dict[str, Any]:
    if "allowed_key_algorithms" in values:
        values["allowed_key_algorithms"] = msgspec.to_builtins(values["allowed_key_algorithms"])
    return values


def _view(profile: Profile) -> ProfileView:
    rules = msgspec.convert(profile.allowed_key_algorithms, list[KeyRuleView])
    return shown(ProfileView, profile, allowed_key_algorithms=rules)


@get("/profiles", opt=needs("profile.read") | listed(PROFILES), summary="List profiles")
async def list_profiles(request: ApiRequest) -> PageOf[ProfileView]:
    """By name."""
    return await answer_list(request, ProfileView, show=_view)


@post("/profiles", status_code=201, opt=needs("profile.edit"), summary="Create a profile")
async def create_profile(request: ApiRequest, data: JSONBody[ProfileWrite]) -> ProfileView:
    """An id or name that is taken answers 409."""
    return _view(await profiles.create(request.ctx, request.visible, request.actor, _values(given(data))))


@get("/profiles/{profile_id:str}", opt=needs("profile.read"), summary="One profile")
async def show_profile(request: ApiRequest, profile_id: FromPath[str]) -> ProfileView:
    """One profile."""
    async with request.ctx.database.read() as tx:
        return _view(await catalogue.get(tx, request.visible, Profile, profile_id))


@put(
    "/profiles/{profile_id:str}",
    opt=edits("profile.edit"),
    summary="Change a profile",
    responses={202: ResponseSpec(ProfileView, description="another person decides: look at /api/v1/approvals/{id}")},
)
async def update_profile(
    request: ApiRequest, profile_id: FromPath[str], data: JSONBody[ProfileWrite]
) -> Response[ProfileView]:
    """What is absent stays. A profile that asks for a second person asks for one here, too: 202."""
    changes = _values(request.changes(data, profile_id))
    profile, waits = await profile_edits.update(
        request.ctx, request.visible, request.actor, profile_id, changes, request.expected
    )
    view = _view(profile)
    if waits is None:
        return Response(view, media_type="application/json")
    said = "this profile asks for a second person: the change is made when it is approved"
    asked = msgspec.structs.replace(view, status="pending_approval", pending_approval_id=waits.id, message=said)
    return Response(asked, status_code=202, media_type="application/json")


@delete("/profiles/{profile_id:str}", status_code=204, opt=edits("profile.delete"), summary="Delete a profile")
async def delete_profile(request: ApiRequest, profile_id: FromPath[str]) -> None:
    """One that is still named is kept (409)."""
    await profiles.delete(
        request.ctx, request.visible, request.actor, profile_id, request.expected, sees=request.seen_by
    )


HANDLERS = (
    list_profiles,
    create_profile,
    show_profile,
    update_profile,
    patched(show_profile, update_profile),
    delete_profile,
)
