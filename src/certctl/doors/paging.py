"""Pages of lists: `page` and `per_page`, named as in the reference product; wrong values are refused, never ignored."""

from __future__ import annotations

from msgspec import Struct

from certctl.core.errors import Malformed, Violation
from certctl.store.views import Slice

DEFAULT_PER_PAGE = 50
MOST_PER_PAGE = 500
# keeps the offset well within what both databases count in
MOST_PAGES = 10_000_000


class Paging(Struct, frozen=True):
    """Which page, and how long pages are."""

    page: int = 1
    per_page: int = DEFAULT_PER_PAGE

    @property
    def part(self) -> Slice:
        """The rows of this page."""
        return Slice(limit=self.per_page, offset=(self.page - 1) * self.per_page)


def read_paging(page: int = 1, per_page: int = DEFAULT_PER_PAGE) -> Paging:
    """The page asked for; Malformed names what is out of range."""
    violations: list[Violation] = []
    if not 1 <= page <= MOST_PAGES:
        violations.append(Violation("page_out_of_range", f"page must be 1 to {MOST_PAGES}, not {page}", "page"))
    if not 1 <= per_page <= MOST_PER_PAGE:
        message = f"per_page must be 1 to {MOST_PER_PAGE}, not {per_page}"
        violations.append(Violation("per_page_out_of_range", message, "per_page"))
    if violations:
        raise Malformed("; ".join(each.message for each in violations), violations=tuple(violations))
    return Paging(page, per_page)
