"""Turns rows into the facts that the pure policy judges. One way for every door and stage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from certctl.core.catalogue import IssuerRecord, Profile, RenewalPolicy
from certctl.core.certificate import Certificate, RequestBody, VersionFacts
from certctl.core.errors import Violation
from certctl.core.names import parse_names
from certctl.pki.csr import CsrFacts
from certctl.policy.approval import decision_hash
from certctl.policy.calendar import read_calendar
from certctl.policy.issuance import IssuanceFacts, KeyRule, ProfileFacts, judge_csr
from certctl.policy.jitter import fraction_of
from certctl.policy.renewal import RenewalFacts, RenewalPolicyFacts
from certctl.store.asked import SuggestionRecord


def profile_facts(profile: Profile) -> ProfileFacts:
    """The profile as the rules of issuance see it."""
    return ProfileFacts(
        id=profile.id,
        version=profile.version,
        enabled=profile.enabled,
        allowed_key_algorithms=tuple(
            KeyRule(algorithm=str(rule["algorithm"]), min_size=int(rule.get("min_size", 0)))
            for rule in profile.allowed_key_algorithms
        ),
        max_ttl=timedelta(seconds=profile.max_ttl_seconds) if profile.max_ttl_seconds else None,
        allowed_ekus=tuple(profile.allowed_ekus),
        required_san_patterns=tuple(profile.required_san_patterns),
        spiffe_uri_pattern=profile.spiffe_uri_pattern,
        allow_short_lived=profile.allow_short_lived,
        must_staple=profile.must_staple,
        required_csr_attributes=tuple(profile.required_csr_attributes),
    )


def binding(profile: Profile, *, own_tls: bool) -> Profile:
    """The profile as it binds a request: as it is, but for the certificate of the control plane's own listener.

    No edit of a profile stops or changes that one: whoever made it could never be told so, nor undo it.
    """
    if not own_tls:
        return profile
    return msgspec.structs.replace(
        profile,
        enabled=True,
        requires_approval=False,
        allowed_key_algorithms=[],
        max_ttl_seconds=0,
        allowed_ekus=["serverAuth"],
        required_san_patterns=[],
        spiffe_uri_pattern="",
        allow_short_lived=False,
        must_staple=False,
        required_csr_attributes=[],
    )


def issuance_facts(
    body: RequestBody, profile: Profile, issuer: IssuerRecord, csr: CsrFacts | None = None, *, of_agent: bool = False
) -> IssuanceFacts:
    """A request, and when it is there its CSR, as the rules of issuance see them; `of_agent`: an agent makes one."""
    key = csr.key if csr is not None else None
    profile = binding(profile, own_tls=body.own_tls)
    return IssuanceFacts(
        common_name=body.common_name,
        names=parse_names(body.names),
        validity=timedelta(seconds=body.validity_seconds),
        profile=profile_facts(profile),
        issuer_id=issuer.id,
        issuer_enabled=issuer.enabled or body.own_tls,
        ekus=tuple(body.ekus),
        must_staple=body.must_staple,
        key_kind=key.kind if key else None,
        key_size_bits=key.size_bits if key else None,
        key_curve=key.curve if key else None,
        of_agent=of_agent,
        csr_holds=csr_holds(csr) if csr is not None else None,
    )


def csr_violations(body: RequestBody, profile: Profile, issuer: IssuerRecord, csr: CsrFacts) -> tuple[Violation, ...]:
    """Every rule that a request and its CSR together break."""
    return judge_csr(
        issuance_facts(body, profile, issuer, csr),
        csr_common_name=csr.common_name,
        csr_names=csr.names,
        asked=parse_names([body.common_name, *body.names]),
    )


def csr_holds(csr: CsrFacts) -> frozenset[str]:
    """The OIDs of a CSR's attributes and of the extensions that it asks for."""
    return frozenset(csr.attribute_oids + csr.extension_oids)


class Dated(Protocol):
    """A version, with or without its bytes."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def not_before(self) -> datetime: ...  # noqa: D102
    @property
    def not_after(self) -> datetime: ...  # noqa: D102
    @property
    def created_at(self) -> datetime: ...  # noqa: D102


def renewal_facts(
    certificate: Certificate,
    version: Dated,
    policy: RenewalPolicy,
    *,
    live_job: bool,
    now: datetime,
    suggestion: SuggestionRecord | None = None,
) -> RenewalFacts:
    """One current version as the rules of renewal see it."""
    return RenewalFacts(
        version_id=version.id,
        not_before=version.not_before,
        not_after=version.not_after,
        issued_at=version.created_at,
        policy=RenewalPolicyFacts(
            window_days=policy.renewal_window_days,
            window_fraction=policy.renewal_window_fraction,
            auto_renew=policy.auto_renew,
            max_retries=policy.max_retries,
            retry_interval=timedelta(seconds=policy.retry_interval_seconds),
            calendar=read_calendar(policy.renewal_windows, policy.freezes),
        ),
        failures=certificate.failures,
        last_failure_at=certificate.last_failure_at,
        live_job=live_job,
        status=certificate.status,
        now=now,
        suggested_at=_moment(version.id, suggestion),
    )


def _moment(version_id: str, suggestion: SuggestionRecord | None) -> datetime | None:
    """A moment within the CA's window, the same each time for one version (RFC 9773 4.2: at random)."""
    if suggestion is None or suggestion.window_start is None or suggestion.window_end is None:
        return None
    length = suggestion.window_end - suggestion.window_start
    return suggestion.window_start + length * fraction_of(f"suggested/{version_id}")


def earliest_end(versions: Sequence[VersionFacts]) -> datetime | None:
    """When the first of the current versions ends: what the certificate's row calls `expires_at`."""
    return min((version.not_after for version in versions), default=None)


def hash_of(body: RequestBody, *, profile_version: int) -> str:
    """The hash a decision binds to."""
    return decision_hash(
        names=parse_names([body.common_name, *body.names]),
        profile_id=body.profile_id,
        profile_version=profile_version,
        issuer_id=body.issuer_id,
        validity=timedelta(seconds=body.validity_seconds),
        key_rule=body.key_algorithm,
    )
