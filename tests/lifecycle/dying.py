"""A process that dies at a point, played within this one: nothing that it would still have done is done."""

from __future__ import annotations

from collections.abc import Callable


class Died(BaseException):
    """The process is gone."""


def dying_at(point: str) -> Callable[[str], None]:
    """A hook of `telemetry.points` that dies there."""

    def reach(name: str) -> None:
        if name == point:
            raise Died(name)

    return reach
