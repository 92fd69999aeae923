"""What a process does for its first pages before anybody asks for them: templates, time zones, the overview's counts.

Of a large inventory alone: elsewhere the first pages are quick, and a start should cost no more than it must. Runs
beside the serving, in small steps, so that no call waits for it. Nothing depends on it: what it has not done yet is
done by the first page that needs it.
"""

from __future__ import annotations

import asyncio

import structlog

from certctl.core.errors import CertctlError
from certctl.doors.state import AppState
from certctl.web import overview, words
from certctl.web.pages import templates

log = structlog.get_logger(__name__)

_FIRST = ("base.html", "parts.html", "overview.html", "login.html", "certificates.html")
_PAUSE_SECONDS = 0.05


async def warm(state: AppState) -> None:
    """Make ready what the first pages need; what fails is told and left to them."""
    try:
        if not await overview.is_long_to_count(state.ctx):
            return
        for name in _FIRST:
            await asyncio.to_thread(templates().get_template, name)
        await overview.count_ahead(state)
        await asyncio.to_thread(words.zones)
        for name in templates().list_templates():
            await asyncio.sleep(_PAUSE_SECONDS)
            await asyncio.to_thread(templates().get_template, name)
    except CertctlError as error:
        log.warning("pages_not_made_ready", error=error.message, detail=error.detail)
    except Exception:
        log.exception("pages_not_made_ready")
