"""Rules written as CEL expressions (Common Expression Language, cel-spec): one that is true is kept.

Google's own runtime compiles and evaluates them: typed, no I/O, no loops but over what is there, regular expressions
in linear time, 32 levels deep and ten thousand iterations at most. What cannot be judged is not kept: a rule that
blocks then blocks. It comes with `certctl[cel]`; without it such a rule is refused, and one that is there is not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from certctl.core.errors import Malformed
from certctl.core.names import Name
from certctl.policy.rules.subject import Subject

LONGEST = 4000
MISSING = "CEL rules need the extra certctl[cel] on this server: pip install 'certctl[cel]'"
_MOST_TOLD = 300
_DAY_SECONDS = 86400.0

# what an expression may speak of, and its type
FACTS: dict[str, str] = {
    "issuer_id": "string",
    "names": "list<string>",
    "dns_names": "list<string>",
    "ip_addresses": "list<string>",
    "email_addresses": "list<string>",
    "uris": "list<string>",
    "environment": "string",
    "owner_id": "string",
    "team_id": "string",
    "tags": "map<string, string>",
    "validity_days": "double",
    "lifetime_days": "double",
    "remaining_days": "double",
    "lead_days": "double",
    "renews_itself": "bool",
    "is_issued": "bool",
}


def facts_of(subject: Subject) -> dict[str, Any]:
    """A certificate as expressions see it. Days are 0 where there is nothing yet: `is_issued`, `renews_itself` tell."""
    by_kind: dict[str, list[str]] = {"dns": [], "ip": [], "email": [], "uri": []}
    for name in subject.names:
        by_kind.setdefault(str(name.kind), []).append(str(name.value))
    return {
        "issuer_id": subject.issuer_id,
        "names": _values(subject.names),
        "dns_names": by_kind["dns"],
        "ip_addresses": by_kind["ip"],
        "email_addresses": by_kind["email"],
        "uris": by_kind["uri"],
        "environment": subject.environment,
        "owner_id": subject.owner_id,
        "team_id": subject.team_id,
        "tags": dict(subject.tags),
        "validity_days": _days(subject.validity),
        "lifetime_days": _days(subject.lifetime),
        "remaining_days": _days(subject.remaining),
        "lead_days": _days(subject.lead),
        "renews_itself": subject.lead is not None,
        "is_issued": subject.lifetime is not None,
    }


def check(expression: str) -> None:
    """Malformed, with where and why, for what is no expression over these facts that says yes or no."""
    if len(expression) > LONGEST:
        raise Malformed(f"an expression has at most {LONGEST} characters")
    compiled = _compile(expression)
    if isinstance(compiled, str):
        raise Malformed(compiled)


def fault(expression: str, subject: Subject) -> str | None:
    """Why a certificate does not keep an expression; None when it does."""
    compiled = _compile(expression)
    if isinstance(compiled, str):
        return f"it cannot be judged: {compiled}"
    try:
        said = compiled.eval(data=facts_of(subject)).value()
    except Exception as error:  # the runtime has no narrower one for what it gives up on
        return f"it cannot be judged: {_told(error)}"
    if said is True:
        return None
    return "it is false" if said is False else f"it cannot be judged: {_told(said)}"


@lru_cache(maxsize=256)
def _compile(expression: str) -> Any:
    """The compiled expression, or as text why there is none."""
    environment = _environment()
    if environment is None:
        return MISSING
    try:
        compiled = environment.compile(expression)
    except Exception as error:
        return _told(error)
    kind = compiled.return_type().name()
    return compiled if kind == "BOOL" else f"an expression says true or false; this one gives {kind.lower()}"


@cache
def _environment() -> Any:
    try:
        from cel_expr_python import cel
    except ImportError:
        return None
    one = {"string": cel.Type.STRING, "double": cel.Type.DOUBLE, "bool": cel.Type.BOOL}
    several = {
        "list<string>": cel.Type.List(cel.Type.STRING),
        "map<string, string>": cel.Type.Map(cel.Type.STRING, cel.Type.STRING),
    }
    return cel.NewEnv(variables={name: (one | several)[kind] for name, kind in FACTS.items()})


def _values(names: Sequence[Name]) -> list[str]:
    return [str(name.value) for name in names]


def _days(span: Any) -> float:
    return span.total_seconds() / _DAY_SECONDS if span is not None else 0.0


def _told(error: object) -> str:
    """The runtime's words on one line, without its code at either end."""
    text = " ".join(str(error).split()).removeprefix("INVALID_ARGUMENT: ").removeprefix("ERROR: ")
    return text.rpartition(" [")[0][:_MOST_TOLD] if text.endswith("]") else text[:_MOST_TOLD]
