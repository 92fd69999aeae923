"""Ordered rules: each is a function named as a sentence that looks at facts and may name one violation.

Every rule of a list is asked, so that a caller learns all that is wrong at once. Pure: a rule sees nothing but its
facts, has no clock and no side effect, and the same facts always give the same verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from certctl.core.errors import Violation

FactsT = TypeVar("FactsT")

Rule: TypeAlias = Callable[[FactsT], Violation | None]


def judge(rules: Sequence[Rule[FactsT]], facts: FactsT) -> tuple[Violation, ...]:
    """All violations, in the order of the rules; empty when every rule is kept."""
    return tuple(violation for rule in rules if (violation := rule(facts)) is not None)
