"""Who may see a page: default deny, as in the API. Also whether a form was sent by a page of ours.

A route says which permission it needs, or that it is public, or that any session will do. A page is opened with a
session's cookie or, as any call, with an API key in its header.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from certctl.core.errors import NotAllowed
from certctl.core.permissions import PERMISSIONS
from certctl.doors.edge import HttpScope, headers_of, knock_of, note_caller
from certctl.doors.entry import Visit, admit
from certctl.doors.identity import authorise
from certctl.doors.state import AppState
from certctl.web.words import speak, tell_times_in

PERMISSION = "permission"
PUBLIC: dict[str, Any] = {PERMISSION: "public"}
SIGNED_IN: dict[str, Any] = {PERMISSION: "signed in"}
_OURS = frozenset({"same-origin", "none"})


def needs(permission: str) -> dict[str, Any]:
    """What a page's `opt` says; a permission outside the catalogue is a mistake found at import."""
    if permission not in PERMISSIONS:
        raise ValueError(f"{permission} is no permission")
    return {PERMISSION: permission}


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Know the caller, then judge the page's permission. Runs before the body is read."""
    asked = str(handler.opt.get(PERMISSION, ""))
    scope = cast("HttpScope", connection.scope)
    state: AppState = connection.app.state.door
    knock = knock_of(scope)
    # before anything of the page is put into words
    speak(knock.headers.get("accept-language", ""))
    tell_times_in(connection.cookies)
    if knock.method == "POST":
        check_origin(headers_of(scope))
    if asked == PUBLIC[PERMISSION]:
        await Visit(state, knock.address).count()
        return
    caller = await admit(state, knock, browsers=True)
    note_caller(scope, caller)
    if caller.agent is not None:
        raise NotAllowed("an agent's credential opens the agents' own routes alone")
    if not asked:
        raise NotAllowed("this page declares no permission and answers nobody")
    if asked != SIGNED_IN[PERMISSION]:
        authorise(caller, asked)


def check_origin(headers: Mapping[str, str]) -> None:
    """NotAllowed for a form that another site's page sent, signing in included; names are lowercase.

    Browsers say where a request comes from (Fetch Metadata); older ones send Origin with every form.
    """
    site = headers.get("sec-fetch-site")
    ours = site in _OURS if site is not None else headers.get("origin", "") == f"https://{headers.get('host', '')}"
    if not ours:
        raise NotAllowed("this form was not sent by a page of this server; open the page here and send it again")
