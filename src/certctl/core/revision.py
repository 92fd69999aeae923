"""Row versions: every change of what people edit raises its row's; a caller may say which one it has seen."""

from __future__ import annotations

# the row versions that a change may meet; None: whatever stands there
Expected = frozenset[int] | None


def changed_meanwhile(name: str) -> str:
    """What a caller is told whose `If-Match` speaks of an older row."""
    return f"{name} was changed meanwhile; read it again and decide anew"
