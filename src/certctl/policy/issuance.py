"""May it be issued? Each rule is a sentence that names its violation; all are asked, all violations are told.

`judge_request` judges what was asked, `judge_csr` the same once more with the holder's key and names beside it: between
the two a profile may have changed, and it is the present one that holds. Pure; a CSR never widens a request (RFC 2986,
RFC 5280 4.2.1.6).
"""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

from certctl.core.errors import Malformed, PolicyDenied, Violation
from certctl.core.names import Name, NameKind, parse_name
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr_attributes import OF_AGENTS, TLS_FEATURE, attribute_name, attribute_oid
from certctl.pki.ekus import eku_oid
from certctl.policy.chain import Rule, judge
from certctl.policy.patterns import check_pattern, matches

SHORT_LIVED_BELOW = timedelta(hours=1)
LEAST_LIFETIME = timedelta(seconds=1)
DEFAULT_EKUS = ("serverAuth",)
_LEAST_RSA_BITS = 2048
_STRONG_CURVES = frozenset({"P-256", "P-384", "P-521"})
_SPIFFE = "spiffe://"


class KeyRule(Struct, frozen=True):
    """One kind of key a profile allows: `algorithm` is RSA, ECDSA or Ed25519, `min_size` in bits (0: no limit)."""

    algorithm: str
    min_size: int = 0


class ProfileFacts(Struct, frozen=True, kw_only=True):
    """A profile as the rules see it. Empty lists and None mean no limit, but for `allowed_ekus`: empty is serverAuth.

    A SPIFFE name is judged by `spiffe_uri_pattern` when there is one, every other name by `required_san_patterns`.
    """

    id: str
    version: int
    enabled: bool = True
    allowed_key_algorithms: tuple[KeyRule, ...] = ()
    max_ttl: timedelta | None = None
    allowed_ekus: tuple[str, ...] = ()
    required_san_patterns: tuple[str, ...] = ()
    spiffe_uri_pattern: str = ""
    allow_short_lived: bool = False
    must_staple: bool = False
    required_csr_attributes: tuple[str, ...] = ()


class IssuanceFacts(Struct, frozen=True, kw_only=True):
    """A request. The key is absent until its holder has sent a CSR; its curve is empty for RSA and Ed25519.

    `of_agent` says that an agent will make key and CSR; `csr_holds` are the OIDs of what a CSR that is there holds.
    """

    common_name: str
    names: tuple[Name, ...]
    validity: timedelta
    profile: ProfileFacts
    issuer_id: str
    issuer_enabled: bool
    ekus: tuple[str, ...] = ()
    must_staple: bool = False
    key_kind: str | None = None
    key_size_bits: int | None = None
    key_curve: str | None = None
    of_agent: bool = False
    csr_holds: frozenset[str] | None = None


class _CsrQuestion(Struct, frozen=True):
    key_kind: str | None
    common_name: str
    names: tuple[Name, ...]
    asked: tuple[Name, ...]


def judge_request(facts: IssuanceFacts) -> tuple[Violation, ...]:
    """Every rule that the request breaks; its key is judged too when it is known."""
    return judge(REQUEST_RULES, facts)


def judge_csr(
    facts: IssuanceFacts, *, csr_common_name: str, csr_names: tuple[Name, ...], asked: tuple[Name, ...]
) -> tuple[Violation, ...]:
    """Every rule that request and CSR together break. The CSR must name exactly `asked`, in whatever order.

    A CSR without SANs is read as naming what was asked when its common name is one of those names.
    """
    question = _CsrQuestion(facts.key_kind, csr_common_name, csr_names, asked)
    return judge(REQUEST_RULES, facts) + judge(CSR_RULES, question)


def choose_key_algorithm(profile: ProfileFacts) -> KeyAlgorithm:
    """The key that a holder should make under this profile. Raises PolicyDenied when it allows none that we make."""
    for algorithm, kind, size_bits in _PREFERRED:
        if _allowed(profile, kind, size_bits):
            return algorithm
    message = f"profile {profile.id} allows no key that certctl can make"
    raise PolicyDenied((Violation("profile_allows_no_key", message, "certificate_profile_id"),))


# The smallest strong one first. Ed25519 stands last: public CAs and browsers do not take it.
_PREFERRED = (
    (KeyAlgorithm.ECDSA_P256, "ECDSA", 256),
    (KeyAlgorithm.ECDSA_P384, "ECDSA", 384),
    (KeyAlgorithm.RSA_2048, "RSA", 2048),
    (KeyAlgorithm.RSA_3072, "RSA", 3072),
    (KeyAlgorithm.RSA_4096, "RSA", 4096),
    (KeyAlgorithm.ED25519, "Ed25519", 256),
)


def profile_is_disabled(facts: IssuanceFacts) -> Violation | None:
    """A disabled profile issues nothing."""
    if facts.profile.enabled:
        return None
    return Violation("profile_is_disabled", f"profile {facts.profile.id} is disabled", "certificate_profile_id")


def issuer_is_disabled(facts: IssuanceFacts) -> Violation | None:
    """A disabled issuer is asked for nothing."""
    if facts.issuer_enabled:
        return None
    return Violation("issuer_is_disabled", f"issuer {facts.issuer_id} is disabled", "issuer_id")


def no_names_given(facts: IssuanceFacts) -> Violation | None:
    """RFC 6125: relying parties read the SANs only, so there must be one."""
    return None if facts.names else Violation("no_names_given", "at least one name is needed", "sans")


def common_name_is_not_among_the_names(facts: IssuanceFacts) -> Violation | None:
    """The common name says nothing that the SANs do not say."""
    if not facts.common_name or _is_one_of(facts.common_name, facts.names):
        return None
    message = f"common name {facts.common_name!r} is not among the names"
    return Violation("common_name_is_not_among_the_names", message, "common_name")


def profile_pattern_is_unusable(facts: IssuanceFacts) -> Violation | None:
    """A pattern that cannot be read matches nothing; say so rather than only refuse every name."""
    for pattern in _patterns(facts.profile):
        try:
            check_pattern(pattern)
        except Malformed as error:
            message = f"profile {facts.profile.id}: {error.message}"
            return Violation("profile_pattern_is_unusable", message, "certificate_profile_id")
    return None


def name_is_outside_the_profile(facts: IssuanceFacts) -> Violation | None:
    """Each name must match one of the profile's patterns, when it has any."""
    patterns = facts.profile.required_san_patterns
    spiffe_has_its_own = bool(facts.profile.spiffe_uri_pattern)
    if not patterns:
        return None
    outside = [
        str(name)
        for name in facts.names
        if not (spiffe_has_its_own and _is_spiffe(name)) and not any(_fits(pattern, name) for pattern in patterns)
    ]
    if not outside:
        return None
    message = f"{', '.join(outside)} matches no name pattern of profile {facts.profile.id} ({', '.join(patterns)})"
    return Violation("name_is_outside_the_profile", message, "sans")


def spiffe_name_is_outside_the_pattern(facts: IssuanceFacts) -> Violation | None:
    """A SPIFFE id must match the profile's SPIFFE pattern, when it has one."""
    pattern = facts.profile.spiffe_uri_pattern
    outside = [str(name) for name in facts.names if pattern and _is_spiffe(name) and not _fits(pattern, name)]
    if not outside:
        return None
    message = f"{', '.join(outside)} does not match SPIFFE pattern {pattern} of profile {facts.profile.id}"
    return Violation("spiffe_name_is_outside_the_pattern", message, "sans")


def spiffe_name_is_not_the_only_uri(facts: IssuanceFacts) -> Violation | None:
    """X.509-SVID 2: a certificate with a SPIFFE id has exactly one URI name."""
    uris = [name for name in facts.names if name.kind is NameKind.URI]
    if len(uris) < 2 or not any(_is_spiffe(name) for name in uris):
        return None
    return Violation("spiffe_name_is_not_the_only_uri", "a SPIFFE id must be the only URI name", "sans")


def lifetime_exceeds_the_profile(facts: IssuanceFacts) -> Violation | None:
    """Nothing lives longer than the profile's longest life."""
    longest = facts.profile.max_ttl
    if longest is None or facts.validity <= longest:
        return None
    message = f"a lifetime of {_seconds(facts.validity)} exceeds the {_seconds(longest)} of profile {facts.profile.id}"
    return Violation("lifetime_exceeds_the_profile", message, "validity_seconds")


def lifetime_is_too_short(facts: IssuanceFacts) -> Violation | None:
    """Lives of under an hour are for profiles that say so: they must renew without a person's help."""
    if facts.validity < LEAST_LIFETIME:
        return Violation("lifetime_is_too_short", "a lifetime must be at least 1 s", "validity_seconds")
    if facts.profile.allow_short_lived or facts.validity >= SHORT_LIVED_BELOW:
        return None
    message = (
        f"a lifetime of {_seconds(facts.validity)} is under {_seconds(SHORT_LIVED_BELOW)}, "
        f"and profile {facts.profile.id} does not allow short-lived certificates"
    )
    return Violation("lifetime_is_too_short", message, "validity_seconds")


def eku_is_outside_the_profile(facts: IssuanceFacts) -> Violation | None:
    """Each extended key usage asked for must be one the profile allows, by name or by OID (RFC 5280 4.2.1.12)."""
    allowed = {_eku(text) for text in facts.profile.allowed_ekus or DEFAULT_EKUS}
    outside = [text for text in facts.ekus if _eku(text) not in allowed]
    if not outside:
        return None
    message = f"extended key usage {', '.join(outside)} is not allowed by profile {facts.profile.id}"
    return Violation("eku_is_outside_the_profile", message, "ekus")


def staple_is_missing(facts: IssuanceFacts) -> Violation | None:
    """A must-staple profile issues nothing without it (RFC 7633); asking for it is always allowed."""
    if facts.must_staple or not facts.profile.must_staple:
        return None
    message = f"profile {facts.profile.id} issues must-staple certificates only"
    return Violation("staple_is_missing", message, "must_staple")


def key_type_is_outside_the_profile(facts: IssuanceFacts) -> Violation | None:
    """The key must be of a kind the profile allows."""
    rules = facts.profile.allowed_key_algorithms
    if facts.key_kind is None or not rules or _rules_for(facts.profile, facts.key_kind):
        return None
    allowed = ", ".join(rule.algorithm for rule in rules)
    message = f"{facts.key_kind} keys are not allowed by profile {facts.profile.id} (allowed: {allowed})"
    return Violation("key_type_is_outside_the_profile", message, "key")


def key_is_too_small(facts: IssuanceFacts) -> Violation | None:
    """The key must have the size the profile asks of its kind; of several rules for one kind, any will do."""
    if facts.key_kind is None:
        return None
    rules = _rules_for(facts.profile, facts.key_kind)
    least = min((rule.min_size for rule in rules), default=0)
    if (facts.key_size_bits or 0) >= least:
        return None
    message = f"{facts.key_kind} key of {facts.key_size_bits or 0} bits; profile {facts.profile.id} asks for {least}"
    return Violation("key_is_too_small", message, "key")


def key_is_weak(facts: IssuanceFacts) -> Violation | None:
    """No profile can allow these: RSA under 2048 bits, a curve but P-256, P-384, P-521, any other kind of key."""
    kind, size = facts.key_kind, facts.key_size_bits or 0
    if kind is None or kind == "Ed25519" or (kind == "RSA" and size >= _LEAST_RSA_BITS):
        return None
    if kind == "ECDSA" and facts.key_curve in _STRONG_CURVES:
        return None
    shown = facts.key_curve or f"{size} bits"
    message = (
        f"{kind} key ({shown}) is too weak or unknown; RSA of 2048 bits, P-256, P-384, P-521, Ed25519 are accepted"
    )
    return Violation("key_is_weak", message, "key")


def csr_lacks_attributes(facts: IssuanceFacts) -> Violation | None:
    """A CSR holds whatever the profile asks it to, as attribute or as extension; an agent's holds its names alone."""
    held = facts.csr_holds
    if held is None:
        held = OF_AGENTS | ({TLS_FEATURE} if facts.must_staple else set())
        if not facts.of_agent:
            return None  # there is no CSR yet, and whoever makes it may well do as is asked
    lacking = [oid for oid in map(_attribute, facts.profile.required_csr_attributes) if oid not in held]
    if not lacking:
        return None
    told = ", ".join(map(attribute_name, lacking))
    if facts.csr_holds is None:
        message = (
            f"profile {facts.profile.id} wants {told} in the CSR, which agents do not write: send a CSR of your own"
        )
    else:
        message = f"the CSR does not hold {told}, which profile {facts.profile.id} asks for"
    return Violation("csr_lacks_attributes", message, "csr")


def csr_shows_no_key(question: _CsrQuestion) -> Violation | None:
    """A CSR is judged with its key or not at all."""
    return None if question.key_kind else Violation("csr_shows_no_key", "the CSR's key is not known", "csr")


def csr_names_other_names(question: _CsrQuestion) -> Violation | None:
    """A CSR may not name what was not asked, in its SANs or its common name."""
    other = [str(name) for name in question.names if name not in question.asked]
    if question.common_name and not _is_one_of(question.common_name, question.asked):
        other.append(question.common_name)
    if not other:
        return None
    message = f"the CSR names {', '.join(dict.fromkeys(other))}, which was not asked for"
    return Violation("csr_names_other_names", message, "csr")


def csr_lacks_names(question: _CsrQuestion) -> Violation | None:
    """A CSR names all that was asked: fewer means that its holder means another certificate."""
    if not question.names and _is_one_of(question.common_name, question.asked):
        return None
    lacking = [str(name) for name in question.asked if name not in question.names]
    if not lacking:
        return None
    return Violation("csr_lacks_names", f"the CSR does not name {', '.join(lacking)}, which was asked for", "csr")


REQUEST_RULES: tuple[Rule[IssuanceFacts], ...] = (
    profile_is_disabled,
    issuer_is_disabled,
    no_names_given,
    common_name_is_not_among_the_names,
    profile_pattern_is_unusable,
    name_is_outside_the_profile,
    spiffe_name_is_outside_the_pattern,
    spiffe_name_is_not_the_only_uri,
    lifetime_exceeds_the_profile,
    lifetime_is_too_short,
    eku_is_outside_the_profile,
    staple_is_missing,
    key_type_is_outside_the_profile,
    key_is_too_small,
    key_is_weak,
    csr_lacks_attributes,
)
CSR_RULES: tuple[Rule[_CsrQuestion], ...] = (csr_shows_no_key, csr_names_other_names, csr_lacks_names)


def _patterns(profile: ProfileFacts) -> tuple[str, ...]:
    spiffe = (profile.spiffe_uri_pattern,) if profile.spiffe_uri_pattern else ()
    return (*profile.required_san_patterns, *spiffe)


def _fits(pattern: str, name: Name) -> bool:
    try:
        return matches(pattern, name)
    except Malformed:
        return False  # named by profile_pattern_is_unusable


def _is_spiffe(name: Name) -> bool:
    return name.kind is NameKind.URI and name.value.startswith(_SPIFFE)


def _is_one_of(text: str, names: tuple[Name, ...]) -> bool:
    if any(name.value == text for name in names):
        return True
    try:
        return parse_name(text) in names
    except Malformed:
        return False


def _eku(text: str) -> str:
    try:
        return eku_oid(text).dotted_string
    except Malformed:
        return text


def _attribute(text: str) -> str:
    try:
        return attribute_oid(text)
    except Malformed:
        return text


def _rules_for(profile: ProfileFacts, kind: str) -> list[KeyRule]:
    return [rule for rule in profile.allowed_key_algorithms if rule.algorithm.lower() == kind.lower()]


def _allowed(profile: ProfileFacts, kind: str, size_bits: int) -> bool:
    if not profile.allowed_key_algorithms:
        return True
    return any(rule.min_size <= size_bits for rule in _rules_for(profile, kind))


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"
