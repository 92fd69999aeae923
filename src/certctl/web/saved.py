"""Which lists' filters can be kept, and what stands of them on a list's page: one's own views as tabs above it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

from certctl.store import saved_views
from certctl.web.request import WebRequest
from certctl.web.words import gettext as _

_PASSING = frozenset({"cursor", "done"})

Tab = tuple[str, str, bool]


def lists() -> Mapping[str, tuple[str, str]]:
    """A list's word and permission, by its path."""
    return {
        "/certificates": (_("Certificates"), "cert.read"),
        "/jobs": (_("Jobs"), "job.read"),
        "/agents": (_("Agents"), "agent.read"),
        "/health-checks": (_("Health checks"), "healthcheck.read"),
        "/notifications": (_("Notifications"), "notification.read"),
        "/violations": (_("Violations"), "policy.read"),
        "/audit": (_("Audit"), "audit.read"),
    }


async def of_page(request: WebRequest) -> tuple[list[Tab], str]:
    """The caller's views of this list, and where this one can be kept; nothing elsewhere, or for nobody."""
    path = request.scope["path"]
    if request.known is None or path not in lists():
        return [], ""
    async with request.ctx.database.read() as tx:
        kept = await saved_views.of_actor(tx, request.ctx.scope, request.actor.id, path)
    asked = parse_qsl(request.scope.get("query_string", b"").decode("ascii", "replace"))
    now = urlencode([pair for pair in asked if pair[0] not in _PASSING])
    tabs = [(view.name, f"{path}?{view.query}" if view.query else path, view.query == now) for view in kept]
    new = f"/views?{urlencode({'path': path, 'query': now})}" if now and now not in {v.query for v in kept} else ""
    return tabs, new
