"""What every list takes: search, filters, order, a page of it or all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from certctl.cli.exits import UsageFault

if TYPE_CHECKING:
    from certctl.client import Client
    from certctl.client.calls import Resource
    from certctl.client.models.page import PageOf

ViewT = TypeVar("ViewT")

Search = Annotated[str, typer.Option("--search", "-q", help="What to look for, in the fields that the API searches.")]
Filters = Annotated[
    list[str] | None,
    typer.Option("--filter", metavar="FIELD=VALUE", help="Only rows with this value; again for more."),
]
Sort = Annotated[str, typer.Option("--sort", help="The field to sort by; -field the other way.")]
Page = Annotated[int, typer.Option("--page", help="Which page.", min=1)]
All = Annotated[bool, typer.Option("--all", help="Every row, however many.")]
Limit = Annotated[int, typer.Option("--limit", "-n", "--per-page", help="How many rows at most.", min=1, max=500)]


def filters(given: list[str] | None) -> dict[str, str]:
    """`field=value` pairs as a query."""
    pairs = [text.partition("=") for text in given or []]
    if any(not name or not sign for name, sign, _ in pairs):
        raise UsageFault("--filter takes field=value")
    return {name: value for name, _, value in pairs}


def fetch(
    client: Client, resource: Resource[ViewT], *, page: int = 1, limit: int, every: bool = False, **query: str
) -> PageOf[ViewT]:
    """One page, or with `every` the whole list as one."""
    if not every:
        return client.send(resource.list(page, limit, **query))
    from certctl.client.models.page import PageOf

    rows = list(client.each(resource, **query))
    return PageOf(data=rows, total=len(rows))
