"""Named points of death: every commit and every outside call passes one, so that tests can kill a process exactly
there.

In production the hook does nothing; only a test's own start-up code sets it.
"""

from __future__ import annotations

from collections.abc import Callable

hook: Callable[[str], None] | None = None


def reach(name: str) -> None:
    """Pass the point called `name` (`commit.issue.intent`, `sent.deploy`)."""
    if hook is not None:
        hook(name)
