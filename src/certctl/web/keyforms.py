"""What the pages of all kinds of keys share: those of who calls the API and those that vouch for ACME accounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Response

from certctl.web.configure.fields import Field
from certctl.web.configure.form import Line
from certctl.web.pages import render
from certctl.web.request import WebRequest
from certctl.web.tables import Table
from certctl.web.words import gettext as _

_LONGEST_DAYS = 3650


def tabs_by_revocation(table: Table[Any]) -> list[tuple[str, str, bool]]:
    """All, good and revoked ones: word, address, whether it is shown now."""
    words = ((_("All"), ""), (_("Good"), "false"), (_("Revoked"), "true"))
    return [(text, table.to(revoked=value), (table.chosen("revoked") or "") == value) for text, value in words]


def days_field(label: str, default: int) -> Field:
    """When a new key ends, told in days from now."""
    return Field(
        path="days",
        kind="number",
        label=label,
        hint=_("Empty: until it is revoked"),
        least=1,
        most=_LONGEST_DAYS,
        default=default,
    )


async def new_page(
    request: WebRequest, template: str, lines: Sequence[Line], faults: Sequence[str] = ()
) -> Response[str]:
    """The form of a new key; 400 when it is shown again for what is wrong in it."""
    wrong = bool(faults) or any(line.fault for line in lines)
    return await render(
        request,
        template,
        status=400 if wrong else 200,
        front=[line for line in lines if not line.field.rare],
        rare=[line for line in lines if line.field.rare],
        faults=list(faults),
    )
