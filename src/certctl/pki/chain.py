"""Build and verify certification paths (RFC 5280 6.1), without revocation and without policy trees.

The verifier names the first fault it meets and at which certificate. It never fetches anything and never trusts a root
that the caller did not hand in.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID

from certctl.core.errors import Malformed, TrustError
from certctl.pki.certs import extension_of, load_certificate
from certctl.pki.constraints import check_name_constraints
from certctl.pki.keys import KeyFacts, describe_key

MAX_CHAIN = 10
_JUDGED = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.NAME_CONSTRAINTS,
    ExtensionOID.TLS_FEATURE,
    ExtensionOID.CERTIFICATE_POLICIES,
}


def build_chain(leaf_der: bytes, pool: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The issuers of a leaf found in `pool` (DER, any order), nearest first, without the self-signed root.

    Prefers a path that ends at a self-signed certificate of the pool; else the longest there is, possibly empty. Raises
    Malformed when the leaf or a pool entry cannot be read.
    """
    leaf = load_certificate(leaf_der)
    candidates = tuple(load_certificate(der) for der in dict.fromkeys(pool) if der != leaf_der)
    best = _climb(leaf, candidates, ())
    ders = {id(certificate): der for certificate, der in zip(candidates, _distinct(pool, leaf_der), strict=True)}
    return tuple(ders[id(certificate)] for certificate in best if not _is_self_signed(certificate))


def _distinct(pool: tuple[bytes, ...], leaf_der: bytes) -> tuple[bytes, ...]:
    return tuple(der for der in dict.fromkeys(pool) if der != leaf_der)


def _climb(
    subject: x509.Certificate, pool: tuple[x509.Certificate, ...], above: tuple[x509.Certificate, ...]
) -> tuple[x509.Certificate, ...]:
    if _is_self_signed(subject) or len(above) >= MAX_CHAIN:
        return above
    best = above
    for issuer in pool:
        if issuer in above or not _issued(subject, issuer):
            continue
        path = _climb(issuer, pool, (*above, issuer))
        if _is_self_signed(path[-1]):
            return path
        best = max(best, path, key=len)
    return best


def _issued(subject: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        verify_issued(subject, issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _is_self_signed(certificate: x509.Certificate) -> bool:
    return certificate.subject == certificate.issuer and _issued(certificate, certificate)


def verify_chain(leaf_der: bytes, chain_der: tuple[bytes, ...], root_der: bytes, at: datetime) -> None:
    """Verify leaf, issuers (nearest first, with or without the root) and root at one moment. Raises TrustError."""
    above = tuple(der for der in chain_der if der != root_der)
    if len(above) > MAX_CHAIN:
        raise TrustError(f"the chain has {len(above)} certificates; at most {MAX_CHAIN} are accepted")
    try:
        path = [load_certificate(der) for der in (leaf_der, *above, root_der)]
    except Malformed as error:
        raise TrustError("the chain holds a certificate that cannot be read", detail=error.message) from error
    for certificate in path:
        _check_validity(certificate, at)
        _check_extensions(certificate)
    for subject, issuer in itertools.pairwise(path):
        _check_signature(subject, issuer)
    for depth, certificate in enumerate(path[1:]):
        _check_ca(certificate, [below for below in path[1 : depth + 1] if below.subject != below.issuer])
        constraints = extension_of(certificate, x509.NameConstraints)
        if constraints is not None:
            for below in path[: depth + 1]:
                # RFC 5280 6.1.3 (b): self-issued certificates are exempt, unless they are the leaf.
                if below is path[0] or below.subject != below.issuer:
                    check_name_constraints(below, constraints, _who(certificate))


def _check_validity(certificate: x509.Certificate, at: datetime) -> None:
    if at < certificate.not_valid_before_utc:
        raise TrustError(f"{_who(certificate)} is not valid before {certificate.not_valid_before_utc.isoformat()}")
    if at > certificate.not_valid_after_utc:
        raise TrustError(f"{_who(certificate)} expired at {certificate.not_valid_after_utc.isoformat()}")


def _check_extensions(certificate: x509.Certificate) -> None:
    # RFC 5280 6.1.4 (o): a critical extension that is not processed makes the path invalid.
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _JUDGED:
            raise TrustError(f"{_who(certificate)} has the unknown critical extension {extension.oid.dotted_string}")


def _check_signature(subject: x509.Certificate, issuer: x509.Certificate) -> None:
    if subject.issuer != issuer.subject:
        raise TrustError(f"{_who(subject)} names {subject.issuer.rfc4514_string()!r} as issuer, not {_who(issuer)}")
    aki, ski = extension_of(subject, x509.AuthorityKeyIdentifier), extension_of(issuer, x509.SubjectKeyIdentifier)
    if aki and ski and aki.key_identifier is not None and aki.key_identifier != ski.digest:
        raise TrustError(f"{_who(subject)} names another issuer key than {_who(issuer)} has")
    if _hash_name(subject) in {"md5", "sha1"}:
        raise TrustError(f"{_who(subject)} is signed with {_hash_name(subject)}, which can be forged")
    _run(lambda: _key_of(issuer), f"{_who(issuer)} has a key that is not accepted")
    _run(lambda: verify_issued(subject, issuer), f"{_who(subject)} is not signed by {_who(issuer)}")


@lru_cache(maxsize=512)  # a fact of their bytes alone: who has just signed asks it, and who judges the answer
def verify_issued(subject: x509.Certificate, issuer: x509.Certificate) -> None:
    """Verify that the issuer's key has signed, and its name is the one given. Raises ValueError, TypeError,
    InvalidSignature or UnsupportedAlgorithm.
    """
    subject.verify_directly_issued_by(issuer)


@lru_cache(maxsize=64)
def _key_of(issuer: x509.Certificate) -> KeyFacts:
    return describe_key(issuer.public_key())


def _hash_name(certificate: x509.Certificate) -> str:
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm as error:
        raise TrustError(f"{_who(certificate)} is signed with an unknown algorithm", detail=str(error)) from error
    return algorithm.name if algorithm is not None else ""


def _run(check: Callable[[], object], message: str) -> None:
    try:
        check()
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, Malformed) as error:
        raise TrustError(message, detail=f"{type(error).__name__}: {error}") from error


def _check_ca(certificate: x509.Certificate, below: list[x509.Certificate]) -> None:
    constraints = extension_of(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise TrustError(f"{_who(certificate)} is no CA (basicConstraints)")
    usage = extension_of(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise TrustError(f"{_who(certificate)} may not sign certificates (keyUsage)")
    # RFC 5280 4.2.1.9: counts the intermediates beneath it that are not self-issued.
    if constraints.path_length is not None and len(below) > constraints.path_length:
        raise TrustError(f"{_who(certificate)} allows {constraints.path_length} CAs beneath it; there are {len(below)}")


def _who(certificate: x509.Certificate) -> str:
    return repr(certificate.subject.rfc4514_string() or f"serial {certificate.serial_number:x}")
