"""What a process remembers of those who call, so that a known credential costs no query.

Correct over replicas by two things. The bound: an entry is used for less than a second after the moment before it was
read, so whoever takes a right away anywhere is obeyed everywhere within that second, whatever messages are lost. The
hint: every change tells all processes after its commit, and the process that made it hears before it answers. An entry
that was being read while a hint came is not kept.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from certctl.core.actor import ActorType
from certctl.core.people import Session
from certctl.core.scope import Scope

LONGEST_SECONDS = 0.9
_MOST = 10_000


@dataclass(slots=True)
class Known:
    """A credential that was good when it was read; `ends_at` is when, by the clock, it or one of its grants ends.

    `until` is when the credential itself ends, `touched_at` when its use was last noted.
    """

    actor_id: str
    actor_type: ActorType
    permissions: Mapping[str, Scope]
    role_ids: tuple[str, ...]
    ends_at: datetime | None
    touched_at: datetime | None
    read_at: float
    key_id: str = ""
    until: datetime | None = None
    session: Session | None = None


class Callers:
    """The credentials that one process knows, by the hash of their value."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._epoch = 0

    @property
    def epoch(self) -> int:
        """Grows with every hint."""
        return self._epoch

    def forget(self) -> None:
        """Somewhere a right changed: read everything anew."""
        self._epoch += 1
        self._known.clear()

    def drop(self, hashed: str) -> None:
        """Read this one anew."""
        self._known.pop(hashed, None)

    def find(self, hashed: str, now: datetime) -> Known | None:
        """What is known of a credential, unless it is too old or something of it has ended."""
        known = self._known.get(hashed)
        if known is None:
            return None
        if time.monotonic() - known.read_at >= LONGEST_SECONDS or (known.ends_at is not None and known.ends_at <= now):
            del self._known[hashed]
            return None
        self._known.move_to_end(hashed)
        return known

    def keep(self, hashed: str, known: Known, epoch: int) -> None:
        """Remember what was read after `epoch` was seen; not when a hint came in between."""
        if epoch != self._epoch:
            return
        self._known[hashed] = known
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
