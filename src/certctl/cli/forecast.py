"""`certctl forecast`: the renewals to come, month by month, as bars."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from certctl.cli import options, output
from certctl.cli.connection import connect

if TYPE_CHECKING:  # the help loads no HTTP client
    from certctl.client.models.stats import ForecastCollisions, ForecastMonth, ForecastQueue, RenewalForecast

_BAR = 30
_EIGHTHS = " ▏▎▍▌▋▊▉"


def forecast(
    until: Annotated[datetime | None, typer.Option("--until", formats=["%Y-%m-%d"], help="The last day.")] = None,
    limited: Annotated[
        list[str] | None,
        typer.Option("--limited", help="An issuer that the limits of public trust bind, * for all; else each ACME."),
    ] = None,
    orders: Annotated[int, typer.Option("--orders", help="The CA's rate limit: so many orders...", min=0)] = 0,
    per_hours: Annotated[int, typer.Option("--per-hours", help="...within so many hours.", min=0)] = 0,
    json: options.Json = False,
) -> None:
    """The renewals to come until 2030, as lives become shorter: 200, 100, then 47 days."""
    with connect() as client:
        found = client.get_renewal_forecast(until.date() if until else None, limited or (), orders, per_hours)
    if json:
        output.print_data(found)
        return
    typer.echo("\n".join(lines(found)))


def lines(found: RenewalForecast) -> list[str]:
    """The forecast as text."""
    bound = ", ".join(found.limited_issuers) or "none of its issuers"
    told = [f"{found.certificates:,} certificates stand; the limits of public trust bind {bound}.", ""]
    steps = {one.date.replace(day=1): one for one in found.limits}
    most = max((one.renewals for one in found.months), default=0)
    told.append(f"{'month':<8}  {'renewals':>10}  {'busiest hour':>12}  {'unspread':>9}")
    for month in found.months:
        if month.date in steps and (step := steps[month.date]) and found.limited_issuers:
            told.append(f"-- {step.date}: at most {step.days} days --")
        told.append(_line(month, most))
    told += (
        ["", "Expected counts. Unspread: the busiest hour, if all that are alike came at once."] if found.months else []
    )
    for one in found.collisions:
        told += _budget_lines(one)
    return told


def _line(month: ForecastMonth, most: int) -> str:
    figures = f"{month.renewals:>10,}  {month.busiest_hour_renewals:>12,}  {month.busiest_hour_unspread:>9,}"
    return f"{month.date:%Y-%m}   {figures}  {_bar(month.renewals / most if most else 0.0)}".rstrip()


def _bar(share: float) -> str:
    eighths = round(share * _BAR * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _budget_lines(one: ForecastCollisions) -> list[str]:
    return [
        f"{one.issuer_id}, within the budget:",
        f"  as certctl spreads them   {_queue(one.spread)}",
        f"  all at once               {_queue(one.unspread)}",
    ]


def _queue(found: ForecastQueue) -> str:
    if not found.hours_over or found.first_at is None:
        return "nobody waits"
    waits = "beyond the end" if found.longest_wait_hours is None else f"{found.longest_wait_hours:,} h at most"
    return f"up to {found.most_waiting:,} wait, {waits}; first on {found.first_at.date()}"
