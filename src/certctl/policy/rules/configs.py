"""What each kind of rule is told, with the reference product's keys; an unknown key is refused, never ignored."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from certctl.core.errors import Malformed, Violation
from certctl.policy.patterns import check_pattern
from certctl.policy.rules.expressions import check as check_expression

Word = Annotated[str, Meta(min_length=1, max_length=255)]
WordT = TypeVar("WordT", bound=StrEnum)
Words = Annotated[list[Word], Meta(min_length=1, max_length=1000)]
Days = Annotated[int, Meta(ge=1, le=36_500)]

_WHERE = re.compile(r" - at `\$\.?(.*)`$")


class PolicyType(StrEnum):
    """What a rule looks at."""

    ALLOWED_ISSUERS = "AllowedIssuers"
    ALLOWED_DOMAINS = "AllowedDomains"
    REQUIRED_METADATA = "RequiredMetadata"
    ALLOWED_ENVIRONMENTS = "AllowedEnvironments"
    RENEWAL_LEAD_TIME = "RenewalLeadTime"
    CERTIFICATE_LIFETIME = "CertificateLifetime"
    CEL = "CEL"


class PolicySeverity(StrEnum):
    """How bad a violation is."""

    WARNING = "Warning"
    ERROR = "Error"
    CRITICAL = "Critical"


BLOCKING = frozenset({PolicySeverity.ERROR, PolicySeverity.CRITICAL})


class AllowedIssuers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The issuers that may be asked, by id."""

    allowed_issuer_ids: Words


class AllowedDomains(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Patterns of names (see `policy.patterns`); each name of a certificate must match one."""

    allowed_domains: Words


class RequiredMetadata(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must be said of a certificate: `owner`, `team`, `environment`, or the key of a tag."""

    required_keys: Words


class AllowedEnvironments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The environments a certificate may be of, in any case."""

    allowed: Words


class RenewalLeadTime(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many days before its end a certificate must be renewed."""

    lead_time_days: Days = 30


class CertificateLifetime(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The longest life, in days."""

    max_days: Days


class Expression(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A CEL expression (see `policy.rules.expressions`) that is true of what keeps the rule, and what to say else."""

    expression: Annotated[str, Meta(min_length=1, max_length=4000)]
    message: Annotated[str, Meta(max_length=255)] = ""


Config: TypeAlias = (
    AllowedIssuers
    | AllowedDomains
    | RequiredMetadata
    | AllowedEnvironments
    | RenewalLeadTime
    | CertificateLifetime
    | Expression
)

CONFIGS: Mapping[PolicyType, type[Config]] = {
    PolicyType.ALLOWED_ISSUERS: AllowedIssuers,
    PolicyType.ALLOWED_DOMAINS: AllowedDomains,
    PolicyType.REQUIRED_METADATA: RequiredMetadata,
    PolicyType.ALLOWED_ENVIRONMENTS: AllowedEnvironments,
    PolicyType.RENEWAL_LEAD_TIME: RenewalLeadTime,
    PolicyType.CERTIFICATE_LIFETIME: CertificateLifetime,
    PolicyType.CEL: Expression,
}


def config_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a kind of rule's configuration. Raises Malformed."""
    return msgspec.json.schema(CONFIGS[read_type(kind)])


def read_type(text: str) -> PolicyType:
    """The kind of rule that a text names, in any case. Raises Malformed."""
    return _named(PolicyType, text, "type")


def read_severity(text: str) -> PolicySeverity:
    """The severity that a text names, in any case. Raises Malformed."""
    return _named(PolicySeverity, text, "severity")


def read_config(kind: PolicyType, config: Mapping[str, Any]) -> Config:
    """A rule's typed configuration. Raises Malformed with every key at fault, named `config.<key>`."""
    read = read_stored(kind, config)
    if isinstance(read, Expression):
        try:
            check_expression(read.expression)
        except Malformed as error:
            field = "config.expression"
            raise _malformed([Violation("expression_cannot_be_read", f"{field}: {error.message}", field)]) from error
    return read


def read_stored(kind: PolicyType, config: Mapping[str, Any]) -> Config:
    """The same of a rule that is there: an expression that can no longer be read is judged so, and never kept."""
    wanted = CONFIGS[kind]
    known = [field.name for field in msgspec.structs.fields(wanted)]
    unknown = [name for name in config if name not in known]
    if unknown:
        raise _malformed([_unknown(kind, name, known) for name in unknown])
    try:
        read: Config = msgspec.convert(dict(config), wanted)
    except msgspec.ValidationError as error:
        raise _malformed([_wrong(str(error))]) from error
    if isinstance(read, AllowedDomains):
        _check_patterns(read.allowed_domains)
    return read


def _check_patterns(patterns: list[str]) -> None:
    faults: list[Violation] = []
    for index, pattern in enumerate(patterns):
        try:
            check_pattern(pattern)
        except Malformed as error:
            field = f"config.allowed_domains[{index}]"
            faults.append(Violation("pattern_has_wrong_form", error.message, field))
    if faults:
        raise _malformed(faults)


def _unknown(kind: PolicyType, name: str, known: list[str]) -> Violation:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    field = f"config.{name[:64]}"
    return Violation("unknown_key", f"{name[:64]!r} is no key of {kind}; {hint}", field)


def _wrong(text: str) -> Violation:
    where = _WHERE.search(text)
    name = where.group(1) if where else ""
    if text.startswith("Object missing required field"):
        name = text.split("`")[1]
        return Violation("key_is_missing", f"config.{name} is needed", f"config.{name}")
    return Violation("wrong_value", f"config.{name}: {_WHERE.sub('', text)}".replace("`", ""), f"config.{name}")


def _malformed(faults: list[Violation]) -> Malformed:
    return Malformed("; ".join(each.message for each in faults), violations=tuple(faults))


def _named(words: type[WordT], text: str, field: str) -> WordT:
    found = {str(word).casefold(): word for word in words}.get(text.strip().casefold())
    if found is None:
        message = f"{field} is one of {', '.join(map(str, words))}; not {text[:64]!r}"
        raise Malformed(message, violations=(Violation(f"unknown_{field}", message, field),))
    return found
