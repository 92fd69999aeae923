"""What an intermediate must be before a CA of ours signs it: the rules of `lint` that hold for any certificate, and
those of CAs (RFC 5280 4.2.1.9, 4.2.1.10).

An intermediate is never weaker, and never may more, than what stands above it. Must never mend anything.
"""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtensionOID

from certctl.authority.lint import (
    Case,
    LintRules,
    Rule,
    apply_rules,
    issuer_is_no_ca,
    issuer_name_differs,
    key_identifiers_are_wrong,
    key_is_not_the_approved,
    key_is_the_issuers,
    key_is_weak,
    serial_number_is_out_of_bounds,
    signature_algorithm_is_not_the_issuers,
    status_addresses_are_wrong,
    validity_exceeds_the_issuers,
    validity_is_out_of_order,
    version_is_not_3,
)
from certctl.authority.signer import IssuingCA
from certctl.authority.tbs import public_key_of
from certctl.core.errors import Violation
from certctl.pki.certs import extension_of, load_certificate
from certctl.pki.constraints import is_narrower
from certctl.pki.keys import PublicKey

_ENOUGH_BITS = 128
_CA_EXTENSIONS = {
    ExtensionOID.BASIC_CONSTRAINTS: True,
    ExtensionOID.KEY_USAGE: True,
    ExtensionOID.NAME_CONSTRAINTS: True,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS: False,
    ExtensionOID.CRL_DISTRIBUTION_POINTS: False,
}
_RSA_OF_128_BITS = 3072


def ca_is_no_ca(case: Case) -> Violation | None:
    """RFC 5280 4.2.1.3, 4.2.1.9: basicConstraints CA:TRUE and keyUsage keyCertSign, cRLSign, both critical."""
    try:
        basic = case.twin.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = case.twin.extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound as error:
        return Violation("ca_is_no_ca", str(error))
    if basic.critical and basic.value.ca and usage.critical and usage.value.key_cert_sign and usage.value.crl_sign:
        return None
    return Violation("ca_is_no_ca", "basicConstraints or keyUsage are not those of a CA")


def path_is_longer_than_the_parents(case: Case) -> Violation | None:
    """RFC 5280 4.2.1.9: each level below has at least one less, and a bound there must be."""
    mine, above = extension_of(case.twin, x509.BasicConstraints), extension_of(case.issuer, x509.BasicConstraints)
    length = mine.path_length if mine is not None else None
    bound = above.path_length if above is not None else 0
    if length is not None and length >= 0 and (bound is None or length < bound):
        return None
    return Violation("path_is_longer_than_the_parents", f"path length {length} does not fit under {bound}")


def key_is_weaker_than_the_parents(case: Case) -> Violation | None:
    """A chain is as strong as its weakest key: 128 bits of security, or what the parent has."""
    mine, parents = _strength(public_key_of(case.twin)), _strength(public_key_of(case.issuer))
    if mine >= min(parents, _ENOUGH_BITS):
        return None
    return Violation("key_is_weaker_than_the_parents", f"{mine} bits of security under a parent of {parents}")


def constraints_are_wider_than_the_parents(case: Case) -> Violation | None:
    """What an intermediate is permitted must be permitted to every CA above it; exclusions add up by themselves."""
    mine = extension_of(case.twin, x509.NameConstraints)
    if mine is None:
        return None
    extension = case.twin.extensions.get_extension_for_class(x509.NameConstraints)
    if not extension.critical:
        return Violation("constraints_are_wider_than_the_parents", "name constraints are not critical")
    for certificate in (case.issuer, *map(load_certificate, case.ca.chain_der)):
        above = extension_of(certificate, x509.NameConstraints)
        for base in mine.permitted_subtrees or () if above is not None else ():
            permitted = [one for one in above.permitted_subtrees or () if type(one) is type(base)] if above else []
            if permitted and not any(is_narrower(base, one) for one in permitted):
                message = f"{base.value} is not permitted to {certificate.subject.rfc4514_string()}"
                return Violation("constraints_are_wider_than_the_parents", message)
    return None


def ca_extension_is_unknown(case: Case) -> Violation | None:
    """Only the extensions of this profile, each with the critical flag that RFC 5280 4.2 gives it."""
    for extension in case.twin.extensions:
        if _CA_EXTENSIONS.get(extension.oid) is not extension.critical:
            text = f"{extension.oid.dotted_string}, critical={extension.critical}, is not of this profile"
            return Violation("ca_extension_is_unknown", text)
    return None


CA_RULES: tuple[Rule, ...] = (
    issuer_is_no_ca,
    version_is_not_3,
    serial_number_is_out_of_bounds,
    signature_algorithm_is_not_the_issuers,
    issuer_name_differs,
    validity_is_out_of_order,
    validity_exceeds_the_issuers,
    key_is_not_the_approved,
    key_is_weak,
    key_is_the_issuers,
    key_identifiers_are_wrong,
    status_addresses_are_wrong,
    ca_is_no_ca,
    path_is_longer_than_the_parents,
    key_is_weaker_than_the_parents,
    constraints_are_wider_than_the_parents,
    ca_extension_is_unknown,
)


def lint_ca(twin: x509.Certificate, ca: IssuingCA, spki_der: bytes) -> None:
    """Apply every rule for an intermediate of our own. Raises TrustError that names the rules broken."""
    apply_rules(twin, ca, LintRules((), spki_der, timedelta(0), (), must_staple=False), CA_RULES)


def _strength(key: PublicKey) -> int:
    """Bits of security (NIST SP 800-57 part 1, table 2)."""
    if isinstance(key, rsa.RSAPublicKey):
        return 112 if key.key_size < _RSA_OF_128_BITS else 128
    return key.curve.key_size // 2 if isinstance(key, ec.EllipticCurvePublicKey) else _ENOUGH_BITS
