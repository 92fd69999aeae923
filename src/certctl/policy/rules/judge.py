"""Does a certificate keep a rule? One function a kind, named as the sentence that names its violation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeAlias

from msgspec import Struct

from certctl.core.errors import Violation
from certctl.policy.patterns import matches
from certctl.policy.rules import expressions
from certctl.policy.rules.configs import (
    AllowedDomains,
    AllowedEnvironments,
    AllowedIssuers,
    CertificateLifetime,
    Config,
    Expression,
    PolicySeverity,
    RenewalLeadTime,
    RequiredMetadata,
)
from certctl.policy.rules.subject import Subject

# CAs date a certificate back by up to an hour, for clocks that are behind: that makes its life no longer
BACKDATED = timedelta(hours=1)
_MOST_NAMED = 10


class Rule(Struct, frozen=True, kw_only=True):
    """A rule as it judges: its configuration is read already."""

    id: str
    name: str
    severity: PolicySeverity
    config: Config


class Found(Struct, frozen=True):
    """A rule that a certificate breaks, and how."""

    rule: Rule
    violation: Violation


def judge(rules: Sequence[Rule], subject: Subject) -> tuple[Found, ...]:
    """Every rule that is broken, in the order of the rules."""
    judged = ((rule, _JUDGES[type(rule.config)](rule.config, subject)) for rule in rules)
    return tuple(Found(rule, told(rule, violation)) for rule, violation in judged if violation is not None)


def told(rule: Rule, violation: Violation) -> Violation:
    """The violation with its rule's name in front, for whoever meets it without the rule beside it."""
    return Violation(violation.rule, f"policy {rule.name}: {violation.message}", violation.field)


def issuer_is_not_allowed(config: AllowedIssuers, subject: Subject) -> Violation | None:
    """Only the issuers on the list are asked."""
    if subject.issuer_id in config.allowed_issuer_ids:
        return None
    message = f"issuer {subject.issuer_id} is not among {_listed(config.allowed_issuer_ids)}"
    return Violation("issuer_is_not_allowed", message, "issuer_id")


def name_is_not_allowed(config: AllowedDomains, subject: Subject) -> Violation | None:
    """Each name, of whatever kind, matches one of the patterns: a kind that none speaks of is not allowed."""
    outside = [
        str(name) for name in subject.names if not any(matches(pattern, name) for pattern in config.allowed_domains)
    ]
    if not outside:
        return None
    message = f"{_listed(outside)} matches none of {_listed(config.allowed_domains)}"
    return Violation("name_is_not_allowed", message, "sans")


def metadata_is_missing(config: RequiredMetadata, subject: Subject) -> Violation | None:
    """Each key says something: owner, team and environment by their fields or by a tag, all else by a tag."""
    fields = {"owner": subject.owner_id, "team": subject.team_id, "environment": subject.environment}
    missing = [key for key in config.required_keys if not (fields.get(key) or subject.tags.get(key, "").strip())]
    if not missing:
        return None
    return Violation("metadata_is_missing", f"{_listed(missing)} must be given", "tags")


def environment_is_not_allowed(config: AllowedEnvironments, subject: Subject) -> Violation | None:
    """Its environment is on the list; none at all is not."""
    allowed = {word.strip().casefold() for word in config.allowed}
    if subject.environment.strip().casefold() in allowed:
        return None
    message = f"environment {subject.environment!r} is not among {_listed(config.allowed)}"
    return Violation("environment_is_not_allowed", message, "environment")


def renewal_comes_too_late(config: RenewalLeadTime, subject: Subject) -> Violation | None:
    """It is renewed early enough, and what is at hand does not end before that."""
    wanted = timedelta(days=config.lead_time_days)
    if subject.lead is None:
        message = f"it is never renewed by itself; {config.lead_time_days} days before its end are asked for"
        return Violation("renewal_comes_too_late", message, "renewal_policy_id")
    if subject.lead < wanted:
        message = f"it is renewed {_days(subject.lead)} before its end; {config.lead_time_days} days are asked for"
        return Violation("renewal_comes_too_late", message, "renewal_policy_id")
    if subject.remaining is not None and subject.remaining < wanted:
        left = _days(max(subject.remaining, timedelta(0)))
        message = f"it ends in {left} and is not renewed; {config.lead_time_days} days before its end are asked for"
        return Violation("renewal_comes_too_late", message, "renewal_policy_id")
    return None


def life_is_too_long(config: CertificateLifetime, subject: Subject) -> Violation | None:
    """Neither what is asked for nor what was signed lives longer."""
    longest = timedelta(days=config.max_days)
    lives = [subject.validity] if subject.validity is not None else []
    if subject.lifetime is not None:
        lives.append(subject.lifetime - BACKDATED)
    if max(lives, default=timedelta(0)) <= longest:
        return None
    message = f"a life of {_days(max(lives))} exceeds {config.max_days} days"
    return Violation("life_is_too_long", message, "validity_seconds")


def expression_is_not_kept(config: Expression, subject: Subject) -> Violation | None:
    """It is true, and nothing else: what cannot be judged is not kept."""
    fault = expressions.fault(config.expression, subject)
    if fault is None:
        return None
    return Violation("expression_is_not_kept", f"{config.message or config.expression[:100]} ({fault})", "")


Judge: TypeAlias = Callable[[Any, Subject], Violation | None]

_JUDGES: Mapping[type[Config], Judge] = {
    AllowedIssuers: issuer_is_not_allowed,
    AllowedDomains: name_is_not_allowed,
    RequiredMetadata: metadata_is_missing,
    AllowedEnvironments: environment_is_not_allowed,
    RenewalLeadTime: renewal_comes_too_late,
    CertificateLifetime: life_is_too_long,
    Expression: expression_is_not_kept,
}


def _listed(words: Sequence[str]) -> str:
    more = len(words) - _MOST_NAMED
    return ", ".join(words[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _days(span: timedelta) -> str:
    days = span / timedelta(days=1)
    return f"{days:.0f} days" if days >= 1 and abs(days - round(days)) < 0.05 else f"{days:.1f} days"
