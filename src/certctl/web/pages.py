"""Makes pages: templates filled strictly, the same head and navigation on each, our policy in every header.

Everything in a template is escaped; no page has inline script or style. Must never put a secret on a page.
"""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from litestar import Response
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import Cookie
from markupsafe import Markup, escape

from certctl import __version__
from certctl.store.stats import Summary
from certctl.web import samples, saved, words
from certctl.web.assets import address
from certctl.web.entries import Group, entries
from certctl.web.request import CSRF_FIELD, ONCE_FIELD, WebRequest
from certctl.web.words import gettext as _

_TEMPLATES = Path(__file__).parent / "templates"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    # forms have to say where they come from
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
}
THEME_COOKIE = "certctl_theme"
THEMES = ("light", "dark")
_MOST_BREAKS = 64
# control, direction and zero-width characters change how the text around them reads
_UNSEEN = re.compile("[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


@lru_cache(maxsize=1)
def templates() -> jinja2.Environment:
    """The templates, read once; an unknown name in one is an error, not an empty place."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n"],
    )
    translations: Any = environment
    translations.install_gettext_callables(words.gettext, words.ngettext, newstyle=True)
    environment.globals |= {"static": address, "csrf_field": CSRF_FIELD, "once_field": ONCE_FIELD}
    environment.filters |= {
        "shown": shown,
        "broken": broken,
        "span": words.span,
        "exact": words.exact,
        "clock": words.clock,
        "number": words.number,
    }
    return environment


def shown(text: str) -> str:
    """Text of others with what cannot be seen made visible, as code points. Not escaped: whoever shows it does that,
    also where a template's own sentence had escaped it before.
    """
    plain = text.unescape() if isinstance(text, Markup) else str(text)
    return _UNSEEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", plain)


def broken(name: str) -> Markup:
    """A name that may break after its dots, isolated from the direction of what stands around it."""
    # no escape has a dot: the first dots of the text are the first dots of what it is escaped to
    return Markup(f"<bdi>{str(escape(shown(name))).replace('.', '.<wbr>', _MOST_BREAKS - 1)}</bdi>")  # noqa: S704


async def render(
    request: WebRequest,
    template: str,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    cookies: list[Cookie] | None = None,
    background: BackgroundTask | None = None,
    **values: Any,
) -> Response[str]:
    """A page, or the part of it that htmx asks for (it picks the part itself)."""
    words.speak(request.headers.get("accept-language", ""))
    words.tell_times_in(request.cookies)
    around = await _around(request)
    if both := (around.keys() & values.keys()) - {"csrf"}:
        raise RuntimeError(f"a page may not take the names of what every page has: {sorted(both)}")
    body = templates().get_template(template).render(around | values)
    return Response(
        body,
        status_code=status,
        media_type="text/html",
        headers=HEADERS | (headers or {}),
        cookies=cookies or [],
        background=background,
    )


async def _around(request: WebRequest) -> dict[str, Any]:
    """What every page has."""
    now: datetime = request.ctx.now()
    own_views, keep_view = await saved.of_page(request)
    theme = request.cookies.get(THEME_COOKIE, "")

    def when(moment: datetime) -> str:
        return words.relative(moment, now)

    return {
        "now": now,
        "when": when,
        "day": lambda moment: words.day(moment, now),
        "language": words.language(),
        "theme": theme if theme in THEMES else "",
        "zone": words.zone(),
        "version": __version__,
        "here": request.here,
        "path": request.scope["path"],
        "own_views": own_views,
        "keep_view": keep_view,
        "samples": await samples.are_shown(request.ctx),
        "csrf": request.csrf,
        "once": lambda: secrets.token_hex(16),
        "me": request.known.actor.id if request.known is not None else "",
        "may": request.may,
        "navigation": await navigation(request) if request.known is not None else [],
        "done": DONE.get(request.query_params.get("done", ""), lambda: "")(),
    }


async def navigation(request: WebRequest) -> list[Group]:
    """What the caller may open; what is not built does not appear."""
    counts = await _counts(request)
    groups = []
    for heading, listed in entries(counts):
        allowed = [entry for entry in listed if not entry.permission or request.may(entry.permission)]
        if allowed:
            groups.append(Group(heading=heading, entries=allowed))
    return groups


async def _counts(request: WebRequest) -> Summary | None:
    if not request.may("stats.read"):
        return None
    return await request.door.summaries.of(request.ctx, request.seen_by("stats.read"))


# what a form did, told on the page where it leads; the word stands in the address, so the text is never the caller's
DONE: dict[str, Any] = {
    "renewal": lambda: _("Renewal has begun. Each step shows below as it is done."),
    "deployment": lambda: _("Deployment has begun. A place is proven when it is seen serving the version."),
    "rollback": lambda: _("The older version is on its way back to its places."),
    "revoked": lambda: _("Revoked. OCSP and CRL say so from now on."),
    "archived": lambda: _("Archived. What was issued stays valid until it ends or is revoked."),
    "requested": lambda: _("Requested. Each step shows below as it is done."),
    "approved": lambda: _("Approved. The work goes on by itself."),
    "rejected": lambda: _("Rejected. The job is cancelled."),
    "cancelled": lambda: _("Cancelled. A result that comes later is refused."),
    "ended": lambda: _("The session has ended."),
    "saved": lambda: _("Saved."),
    "waits": lambda: _(
        "It waits for another person: the change is made once it is approved. Until then it is as before."
    ),
    "same": lambda: _("Nothing was changed: it stands there as you sent it."),
    "external-key-revoked": lambda: _("Revoked. No account is made with it from now on."),
    "key-revoked": lambda: _("Revoked. Whoever calls with it is refused from now on."),
    "ca-made": lambda: _("Made. It stands in the tree below."),
    "orders-resumed": lambda: _("Resumed: the CA is asked again."),
    "account-key-changed": lambda: _("The account has another key from now on."),
    "ca-retired": lambda: _("It issues no more. Retire it again once nothing needs it, to end its CRL and OCSP."),
    "requeued": lambda: _("It is on its way again, tried from the beginning."),
    "read": lambda: _("Marked as read."),
    "acknowledged": lambda: _("Noted: it reads as known to you until its state changes."),
    "ca-revoked": lambda: _("Revoked. The CRL of the CA above it says so from now on."),
    "deleted": lambda: _("Deleted, or retired where something was made with it."),
    "retired": lambda: _("Retired."),
    "batch": lambda: _("The batch has begun."),
    "view-gone": lambda: _("Taken away. The list itself is as it was."),
    "signed-out": lambda: _("You are signed out."),
}
