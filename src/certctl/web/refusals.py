"""A refusal as a page: what happened, what it means, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from litestar import Response

from certctl.core.errors import CertctlError, Violation
from certctl.doors.edge import headers_of, note_caller, request_id_of
from certctl.doors.entry import recognise
from certctl.doors.errors import Refusal
from certctl.web.pages import render
from certctl.web.request import WebRequest
from certctl.web.words import gettext as _


async def page_of(request: WebRequest, refusal: Refusal, violations: Sequence[Violation] = ()) -> Response[str]:
    """The page; it keeps the refusal's status."""
    await _know_the_caller(request)
    title, cure = _told(refusal.status)
    grave = refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    message = refusal.message
    return await render(
        request,
        "refusal.html",
        status=refusal.status,
        headers={name: value for name, value in refusal.headers if name == "Retry-After"},
        title=title,
        message=message[:1].upper() + message[1:] + ("" if message.endswith((".", "!", "?")) else "."),
        cure=cure,
        kind="bad" if grave else "warn",
        shape="s-bad" if grave else "s-warn",
        violations=list(violations) if len(violations) > 1 else [],
        back=_back(request),
        request_id=request_id_of(request.edge_scope),
    )


async def _know_the_caller(request: WebRequest) -> None:
    """On a path that no route serves no guard has run: who is signed in still sees the way on."""
    if request.known is None and request.csrf:
        try:
            note_caller(request.edge_scope, await recognise(request.door, request.knock, browsers=True))
        except CertctlError:
            return


def _back(request: WebRequest) -> str:
    """The page of ours that a form was sent from."""
    came: Any = urlsplit(headers_of(request.edge_scope).get("referer", ""))
    if (
        came.netloc != request.headers.get("host", "")
        or not came.path.startswith("/")
        or came.path == request.scope["path"]
    ):
        return ""
    return str(came.path) + (f"?{came.query}" if came.query else "")


def _told(status: int) -> tuple[str, str]:
    """The title, and what to do."""
    return {
        400: (
            _("This cannot be understood"),
            _("Nothing was changed. Go back, mend what is named above and send it again."),
        ),
        403: (
            _("You may not do this"),
            _("Nothing was changed. Somebody who manages roles can grant the permission that is named above."),
        ),
        404: (_("There is no such thing"), _("It was never there, is gone, or lies outside what you may see.")),
        405: (_("There is no such thing"), _("This address only takes what a form sends.")),
        409: (
            _("The state of things does not allow this"),
            _("Nothing was changed. Look at how it stands now; somebody or something else may have been faster."),
        ),
        412: (_("It was changed meanwhile"), _("Nothing was changed. Open it anew and look at what others did.")),
        422: (
            _("Profile or policy forbids this"),
            _("Nothing was requested. The rules that are broken are named above."),
        ),
        429: (_("Too many requests"), _("Wait a little, then try again.")),
        503: (_("Not possible right now"), _("Nothing is lost. Try again in a few seconds.")),
    }.get(
        status,
        (
            _("Something went wrong here"),
            _("It is recorded under the number below. Try again; if it stays, find it in the server's log."),
        ),
    )
