"""What keeps a thing from being deleted, told as far as its caller may see (docs/adr/0024-what-is-in-use.md).

That something out of sight uses it is said, never how much or what: the refusal itself would tell as much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sqlalchemy as sa

from certctl.core.errors import Blocked
from certctl.core.scope import Scope
from certctl.store import catalogue
from certctl.store.tx import Tx

# how far a permission of the caller reaches
Sees = Callable[[str], Scope]
# the permission to read rows, and the column in which they name the thing; `named_in` has them by the rows' word
Naming = tuple[str, sa.Column[str]]

OTHERS = "others that you may not see"


async def check_unused(
    tx: Tx, scope: Scope, name: str, thing_id: str, named_in: Mapping[str, Naming], sees: Sees | None
) -> None:
    """Blocked while rows name a thing. Without `sees` the caller sees what `scope` does."""
    whole = Scope.whole(scope.tenant_id)
    total = {word: await catalogue.uses(tx, whole, column, thing_id) for word, (_, column) in named_in.items()}
    if not any(total.values()):
        return
    seen = {
        word: await catalogue.uses(tx, sees(permission) if sees else scope, column, thing_id)
        for word, (permission, column) in named_in.items()
    }
    raise Blocked(f"{name} {thing_id} is still named by {told(seen, total)}", counts=seen)


def told(seen: Mapping[str, int], total: Mapping[str, int]) -> str:
    """The numbers that a caller may know, and that there is more."""
    words = [f"{number} {word.replace('_', ' ')}" for word, number in seen.items() if number]
    if dict(seen) != dict(total):
        words.append(OTHERS)
    return " and ".join(words)
