"""What a leaf must be before our CA signs it: named rules over a twin with a worthless signature.

Each rule takes the case (twin, CA, what was approved) and names one violation or none; `lint` tells all at once. Rules
follow RFC 5280 4 and the basics of the CA/Browser Forum BR 7.1. Must never mend anything: a wrong TBS is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID, NameOID
from msgspec import Struct

from certctl.authority.signer import IssuingCA
from certctl.authority.tbs import (
    BACKDATE,
    TbsParts,
    certificate_of,
    issuer_key_identifier,
    public_key_of,
    read_parts,
    subject_of,
)
from certctl.core.errors import Malformed, TrustError, Violation
from certctl.core.names import Name
from certctl.pki.certs import extension_of, load_certificate
from certctl.pki.constraints import check_name_constraints
from certctl.pki.csr import UB_COMMON_NAME
from certctl.pki.der import algorithm_identifier
from certctl.pki.ekus import ANY, OCSP_SIGNING, eku_name, eku_oid
from certctl.pki.keys import describe_key, spki_der, subject_key_identifier
from certctl.pki.sans import read_general_name

MAX_SERIAL_BITS = 159  # RFC 5280 4.1.2.2: 20 octets, the sign bit clear
_KNOWN_EXTENSIONS = {
    ExtensionOID.BASIC_CONSTRAINTS: True,
    ExtensionOID.KEY_USAGE: True,
    ExtensionOID.EXTENDED_KEY_USAGE: False,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS: False,
    ExtensionOID.CRL_DISTRIBUTION_POINTS: False,
    ExtensionOID.TLS_FEATURE: False,
}


class LintRules(Struct, frozen=True):
    """What was approved: the leaf must say exactly this. `ekus` are names or dotted OIDs."""

    names: tuple[Name, ...]
    spki_der: bytes
    validity: timedelta
    ekus: tuple[str, ...]
    must_staple: bool


class Case(Struct, frozen=True):
    """One leaf before its CA: the twin, its raw fields, the CA and the CA's certificate, and what was approved."""

    twin: x509.Certificate
    parts: TbsParts
    ca: IssuingCA
    issuer: x509.Certificate
    rules: LintRules


Rule = Callable[[Case], Violation | None]


def lint(twin: x509.Certificate, ca: IssuingCA, rules: LintRules) -> None:
    """Apply every rule. Raises TrustError that names the rules broken; the sentences are in its detail."""
    apply_rules(twin, ca, rules, RULES)


def apply_rules(twin: x509.Certificate, ca: IssuingCA, rules: LintRules, asked: tuple[Rule, ...]) -> None:
    """Ask each of `asked`. Raises TrustError that names the rules broken."""
    try:
        parts = read_parts(twin.tbs_certificate_bytes)
    except Malformed as error:
        raise TrustError("lint refused to sign: the TBS cannot be taken apart", detail=error.message) from error
    case = Case(twin, parts, ca, certificate_of(ca), rules)
    violations = [found for rule in asked if (found := _apply(rule, case)) is not None]
    if violations:
        names = ", ".join(v.rule for v in violations)
        raise TrustError(f"lint refused to sign: {names}", detail="; ".join(v.message for v in violations))


def _apply(rule: Rule, case: Case) -> Violation | None:
    try:
        return rule(case)
    except (Malformed, TrustError, ValueError) as error:
        # A rule that cannot judge refuses: what it looked at has no form it knows.
        name = getattr(rule, "__name__", "rule")
        return Violation(name, f"{name} could not be judged: {error}")


def issuer_is_no_ca(case: Case) -> Violation | None:
    """RFC 5280 4.2.1.3, 4.2.1.9: only a CA with keyCertSign signs certificates."""
    issuer = case.issuer
    constraints, usage = extension_of(issuer, x509.BasicConstraints), extension_of(issuer, x509.KeyUsage)
    fits = constraints is not None and constraints.ca and (usage is None or usage.key_cert_sign)
    return None if fits else Violation("issuer_is_no_ca", "the issuer's certificate may not sign certificates")


def version_is_not_3(case: Case) -> Violation | None:
    """RFC 5280 4.1.2.1: extensions need version 3."""
    return (
        None
        if case.twin.version is x509.Version.v3
        else Violation("version_is_not_3", f"version is {case.twin.version}")
    )


def serial_number_is_out_of_bounds(case: Case) -> Violation | None:
    """RFC 5280 4.1.2.2: positive, at most 20 octets; BR 7.1: at least 64 bits of randomness."""
    bits = case.twin.serial_number.bit_length()
    if case.twin.serial_number > 0 and 64 <= bits <= MAX_SERIAL_BITS:
        return None
    return Violation("serial_number_is_out_of_bounds", f"serial number {case.twin.serial_number:x} has {bits} bits")


def signature_algorithm_is_not_the_issuers(case: Case) -> Violation | None:
    """RFC 5280 4.1.2.3: the inner algorithm is the one that the CA will sign with, to the byte."""
    if case.parts.signature_algorithm_der == algorithm_identifier(case.ca.signature_algorithm):
        return None
    return Violation("signature_algorithm_is_not_the_issuers", f"inner algorithm is not {case.ca.signature_algorithm}")


def issuer_name_differs(case: Case) -> Violation | None:
    """RFC 5280 4.1.2.4, 7.1: issuer is the CA's subject, the same bytes."""
    if case.parts.issuer_der == subject_of(case.ca):
        return None
    return Violation("issuer_name_differs", f"issuer {case.twin.issuer.rfc4514_string()!r} is not the CA's subject")


def validity_is_out_of_order(case: Case) -> Violation | None:
    """RFC 5280 4.1.2.5."""
    if case.twin.not_valid_before_utc < case.twin.not_valid_after_utc:
        return None
    return Violation("validity_is_out_of_order", "notBefore is not before notAfter")


def validity_exceeds_the_issuers(case: Case) -> Violation | None:
    """A leaf that outlives its CA cannot be verified."""
    issuer = case.issuer
    starts, ends = case.twin.not_valid_before_utc, case.twin.not_valid_after_utc
    if issuer.not_valid_before_utc <= starts and ends <= issuer.not_valid_after_utc:
        return None
    return Violation("validity_exceeds_the_issuers", "validity is not within the CA's own")


def validity_is_longer_than_approved(case: Case) -> Violation | None:
    """The approved lifetime, and the backdating beside it."""
    span = case.twin.not_valid_after_utc - case.twin.not_valid_before_utc
    allowed = case.rules.validity + min(BACKDATE, case.rules.validity / 10) + timedelta(seconds=1)
    return None if span <= allowed else Violation("validity_is_longer_than_approved", f"{span} is over {allowed}")


def subject_has_other_attributes(case: Case) -> Violation | None:
    """The subject is empty or one common name of at most 64 characters (RFC 5280 appendix A.1)."""
    attributes = list(case.twin.subject)
    if not attributes:
        return None
    alone = len(attributes) == 1 and attributes[0].oid == NameOID.COMMON_NAME
    if alone and 0 < len(str(attributes[0].value)) <= UB_COMMON_NAME:
        return None
    return Violation("subject_has_other_attributes", f"subject is {case.twin.subject.rfc4514_string()!r}")


def common_name_is_no_san(case: Case) -> Violation | None:
    """BR 7.1.4.3: a common name repeats one of the SAN entries, character for character."""
    values = {name.value for name in _names(case)}
    found = [str(attribute.value) for attribute in case.twin.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    missing = [value for value in found if value not in values]
    return Violation("common_name_is_no_san", f"common name {missing[0]!r} is not in the SAN") if missing else None


def san_is_missing(case: Case) -> Violation | None:
    """RFC 5280 4.2.1.6: there is a SAN, critical exactly when the subject is empty."""
    try:
        extension = case.twin.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return Violation("san_is_missing", "there is no subject alternative name")
    if len(list(extension.value)) > 0 and extension.critical is (not case.twin.subject.rdns):
        return None
    return Violation("san_is_missing", "the subject alternative name is empty, or its critical flag is wrong")


def name_is_not_canonical(case: Case) -> Violation | None:
    """Every SAN entry is of a known kind and already in its one canonical form."""
    for value in extension_of(case.twin, x509.SubjectAlternativeName) or ():
        name = read_general_name(value)
        if name.value != str(value.value):
            return Violation("name_is_not_canonical", f"{value.value!r} is not in canonical form ({name.value!r})")
    return None


def names_are_not_the_approved(case: Case) -> Violation | None:
    """Names come from the approved request: no more, no fewer, none twice."""
    if _names(case) == list(case.rules.names):
        return None
    return Violation("names_are_not_the_approved", f"names are {', '.join(map(str, _names(case)))}")


def key_is_not_the_approved(case: Case) -> Violation | None:
    """The certified key is the one that signed the CSR, to the byte."""
    if case.parts.spki_der == case.rules.spki_der:
        return None
    return Violation("key_is_not_the_approved", "the key is not the one of the CSR")


def key_is_weak(case: Case) -> Violation | None:
    """BR 6.1.5, 6.1.6: size, curve, exponent, modulus."""
    try:
        describe_key(public_key_of(case.twin))
    except (Malformed, TrustError) as error:
        return Violation("key_is_weak", error.message)
    return None


def key_is_the_issuers(case: Case) -> Violation | None:
    """A leaf with the CA's own key would speak as the CA."""
    same = spki_der(public_key_of(case.twin)) == spki_der(public_key_of(case.issuer))
    return Violation("key_is_the_issuers", "the key is the CA's own") if same else None


def leaf_may_be_a_ca(case: Case) -> Violation | None:
    """RFC 5280 4.2.1.9: basicConstraints says CA:FALSE."""
    constraints = extension_of(case.twin, x509.BasicConstraints)
    fits = constraints is not None and not constraints.ca and constraints.path_length is None
    return None if fits else Violation("leaf_may_be_a_ca", "basicConstraints does not say CA:FALSE")


def key_usage_is_wrong(case: Case) -> Violation | None:
    """RFC 5280 4.2.1.3: digitalSignature, and never keyCertSign or cRLSign."""
    usage = extension_of(case.twin, x509.KeyUsage)
    fits = usage is not None and usage.digital_signature and not usage.key_cert_sign and not usage.crl_sign
    return None if fits else Violation("key_usage_is_wrong", "keyUsage is missing or allows what a leaf may not do")


def ekus_are_not_the_approved(case: Case) -> Violation | None:
    """Exactly the approved usages; a leaf is never for OCSP signing and never for any usage."""
    found = list(extension_of(case.twin, x509.ExtendedKeyUsage) or ())
    wanted = {eku_oid(eku) for eku in case.rules.ekus}
    if set(found) == wanted and len(found) == len(wanted) > 0 and not wanted & {ANY, OCSP_SIGNING}:
        return None
    return Violation("ekus_are_not_the_approved", f"extended key usages are {', '.join(map(eku_name, found))}")


def must_staple_is_not_as_approved(case: Case) -> Violation | None:
    """RFC 7633: the TLS feature stands exactly when it was approved."""
    features = list(extension_of(case.twin, x509.TLSFeature) or ())
    if features == ([x509.TLSFeatureType.status_request] if case.rules.must_staple else []):
        return None
    return Violation("must_staple_is_not_as_approved", f"TLS features are {[feature.name for feature in features]}")


def key_identifiers_are_wrong(case: Case) -> Violation | None:
    """RFC 5280 4.2.1.1, 4.2.1.2: AKI is the CA's SKI; SKI is of the certified key."""
    aki, ski = extension_of(case.twin, x509.AuthorityKeyIdentifier), extension_of(case.twin, x509.SubjectKeyIdentifier)
    if aki is None or aki.key_identifier != issuer_key_identifier(case.issuer):
        return Violation("key_identifiers_are_wrong", "the authority key identifier is not the CA's")
    if ski is None or ski.digest != subject_key_identifier(public_key_of(case.twin)):
        return Violation("key_identifiers_are_wrong", "the subject key identifier is missing or of another key")
    return None


def extension_is_unknown(case: Case) -> Violation | None:
    """Only the extensions of this profile, each with the critical flag that RFC 5280 4.2 gives it."""
    for extension in case.twin.extensions:
        if extension.oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME:
            continue
        if _KNOWN_EXTENSIONS.get(extension.oid) is not extension.critical:
            text = f"{extension.oid.dotted_string}, critical={extension.critical}, is not of this profile"
            return Violation("extension_is_unknown", text)
    return None


def status_addresses_are_wrong(case: Case) -> Violation | None:
    """RFC 5280 4.2.1.13, 4.2.2.1: one plain-HTTP address each for CRL, OCSP and the CA's certificate."""
    access = list(extension_of(case.twin, x509.AuthorityInformationAccess) or ())
    points = list(extension_of(case.twin, x509.CRLDistributionPoints) or ())
    methods = {a.access_method for a in access}
    locations = [a.access_location for a in access] + [name for point in points for name in point.full_name or ()]
    wanted = {AuthorityInformationAccessOID.OCSP, AuthorityInformationAccessOID.CA_ISSUERS}
    if methods == wanted and len(locations) == 3 and points and all(_is_plain_http(x) for x in locations):
        return None
    return Violation("status_addresses_are_wrong", "CRL, OCSP and caIssuers need one plain-HTTP address each")


def name_is_outside_the_cas_constraints(case: Case) -> Violation | None:
    """RFC 5280 4.2.1.10: a name that a CA above may not speak for makes the chain invalid."""
    for certificate in (case.issuer, *map(load_certificate, case.ca.chain_der)):
        constraints = extension_of(certificate, x509.NameConstraints)
        if constraints is not None:
            try:
                check_name_constraints(case.twin, constraints, certificate.subject.rfc4514_string())
            except TrustError as error:
                return Violation("name_is_outside_the_cas_constraints", error.message)
    return None


def _is_plain_http(location: x509.GeneralName) -> bool:
    return isinstance(location, x509.UniformResourceIdentifier) and location.value.startswith("http://")


def _names(case: Case) -> list[Name]:
    return [read_general_name(value) for value in extension_of(case.twin, x509.SubjectAlternativeName) or ()]


RULES: tuple[Rule, ...] = (
    issuer_is_no_ca,
    version_is_not_3,
    serial_number_is_out_of_bounds,
    signature_algorithm_is_not_the_issuers,
    issuer_name_differs,
    validity_is_out_of_order,
    validity_exceeds_the_issuers,
    validity_is_longer_than_approved,
    subject_has_other_attributes,
    common_name_is_no_san,
    san_is_missing,
    name_is_not_canonical,
    names_are_not_the_approved,
    key_is_not_the_approved,
    key_is_weak,
    key_is_the_issuers,
    leaf_may_be_a_ca,
    key_usage_is_wrong,
    ekus_are_not_the_approved,
    must_staple_is_not_as_approved,
    key_identifiers_are_wrong,
    extension_is_unknown,
    status_addresses_are_wrong,
    name_is_outside_the_cas_constraints,
)
