"""Certificates of the CA itself: root, intermediate, OCSP responder (RFC 5280 4.2.1.9, RFC 6960 4.2.2.2).

Every signature is made by `Signer.sign` over a TBS written under a throw-away key, and every result is verified before
it is returned. Must never make a leaf; those pass the lint in `authority.sign`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from certctl.authority.ca_lint import lint_ca
from certctl.authority.signer import IssuingCA, PkiAddresses, SealedKey, Signer
from certctl.authority.tbs import (
    BACKDATE,
    add_addresses,
    certificate_of,
    choose_validity,
    issuer_key_identifier,
    join,
    make_twin,
    new_serial_number,
    whole_second,
    write_tbs,
)
from certctl.core.errors import Misconfigured
from certctl.pki.algorithms import SIGNATURE_OF
from certctl.pki.certs import common_name_of, extension_of
from certctl.pki.csr import UB_COMMON_NAME
from certctl.pki.keys import load_public_key, subject_key_identifier


class CaDraft(Struct, frozen=True):
    """A serial number and the whole TBS of a CA certificate under it; times are aware UTC on whole seconds."""

    serial_number: int
    tbs_der: bytes
    not_before: datetime
    not_after: datetime


async def make_root(common_name: str, key: SealedKey, signer: Signer, now: datetime, validity: timedelta) -> bytes:
    """A self-signed root (DER). Raises Misconfigured for a name that does not fit, TrustError on a bad signature."""
    subject = _name(common_name)
    not_before = whole_second(now - BACKDATE)
    builder = _builder(subject, subject, key, not_before, whole_second(now + validity))
    builder = _add_ca_extensions(builder, path_length=None)
    algorithm = SIGNATURE_OF[key.algorithm]
    tbs_der = write_tbs(builder, algorithm)
    return join(tbs_der, algorithm, await signer.sign(key.key_ref, algorithm, tbs_der), None)


class CaSubject(Struct, frozen=True, kw_only=True):
    """The distinguished name of a CA; only the common name is needed."""

    common_name: str
    organization: tuple[str, ...] = ()
    organizational_unit: tuple[str, ...] = ()
    country: tuple[str, ...] = ()
    locality: tuple[str, ...] = ()
    province: tuple[str, ...] = ()


class CaTemplate(Struct, frozen=True, kw_only=True):
    """What an intermediate shall be; `permitted` and `excluded` are name constraints (RFC 5280 4.2.1.10)."""

    subject: CaSubject
    validity: timedelta
    path_length: int = 0
    permitted: tuple[x509.GeneralName, ...] = ()
    excluded: tuple[x509.GeneralName, ...] = ()


def draft_intermediate(
    template: CaTemplate, key: SealedKey, issuer: IssuingCA, addresses: PkiAddresses, now: datetime
) -> CaDraft:
    """Choose the serial and write the whole TBS of a CA certificate under `issuer`; signs nothing.

    Its validity is within the issuer's. Raises Misconfigured for what cannot be, TrustError by the lint.
    """
    parent = certificate_of(issuer)
    _check_room(parent, template.path_length)
    subject = _distinguished_name(template.subject)
    if subject == parent.subject:
        raise Misconfigured("an intermediate needs another name than its issuer")
    not_before, not_after = choose_validity(parent, now, template.validity)
    builder = _builder(subject, parent.subject, key, not_before, not_after)
    builder = _add_ca_extensions(builder, template.path_length)
    if template.permitted or template.excluded:
        constraints = x509.NameConstraints(list(template.permitted) or None, list(template.excluded) or None)
        builder = builder.add_extension(constraints, critical=True)  # RFC 5280 4.2.1.10: MUST be critical
    builder = add_addresses(_add_authority(builder, parent), issuer.ca_certificate_id, addresses)
    tbs_der = write_tbs(builder, issuer.signature_algorithm)
    twin = make_twin(tbs_der, issuer.signature_algorithm)
    lint_ca(twin, issuer, key.spki_der)
    return CaDraft(twin.serial_number, tbs_der, not_before, not_after)


async def sign_intermediate(tbs_der: bytes, spki_der: bytes, issuer: IssuingCA, signer: Signer) -> bytes:
    """Lint and sign a stored TBS: the certificate (DER), verified with the issuer's key. Raises TrustError."""
    lint_ca(make_twin(tbs_der, issuer.signature_algorithm), issuer, spki_der)
    signature = await signer.sign(issuer.key_ref, issuer.signature_algorithm, tbs_der)
    return join(tbs_der, issuer.signature_algorithm, signature, certificate_of(issuer))


async def make_intermediate(
    common_name: str,
    key: SealedKey,
    issuer: IssuingCA,
    signer: Signer,
    addresses: PkiAddresses,
    now: datetime,
    validity: timedelta,
    path_length: int = 0,
) -> bytes:
    """A CA certificate (DER) under `issuer`, its validity within the issuer's. Raises Misconfigured, TrustError."""
    template = CaTemplate(subject=CaSubject(common_name=common_name), validity=validity, path_length=path_length)
    draft = draft_intermediate(template, key, issuer, addresses, now)
    return await sign_intermediate(draft.tbs_der, key.spki_der, issuer, signer)


async def make_ocsp_responder(
    ca: IssuingCA, key: SealedKey, signer: Signer, now: datetime, validity: timedelta
) -> bytes:
    """A certificate (DER) that may sign OCSP answers for `ca`; short-lived, with id-pkix-ocsp-nocheck."""
    parent = certificate_of(ca)
    subject = _name(f"{common_name_of(parent.subject)[:48]} OCSP responder")
    builder = _builder(subject, parent.subject, key, *choose_validity(parent, now, validity))
    builder = (
        _add_authority(builder, parent)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(is_ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
        .add_extension(x509.OCSPNoCheck(), critical=False)
    )
    return await _sign(builder, ca, signer)


async def _sign(builder: x509.CertificateBuilder, ca: IssuingCA, signer: Signer) -> bytes:
    tbs_der = write_tbs(builder, ca.signature_algorithm)
    signature = await signer.sign(ca.key_ref, ca.signature_algorithm, tbs_der)
    return join(tbs_der, ca.signature_algorithm, signature, certificate_of(ca))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: SealedKey, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    public_key = load_public_key(key.spki_der)
    return (
        x509.CertificateBuilder()
        .serial_number(new_serial_number())
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier(subject_key_identifier(public_key)), critical=False)
    )


def _add_ca_extensions(builder: x509.CertificateBuilder, path_length: int | None) -> x509.CertificateBuilder:
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    return builder.add_extension(constraints, critical=True).add_extension(_usage(is_ca=True), critical=True)


def _add_authority(builder: x509.CertificateBuilder, parent: x509.Certificate) -> x509.CertificateBuilder:
    identifier = x509.AuthorityKeyIdentifier(issuer_key_identifier(parent), None, None)
    return builder.add_extension(identifier, critical=False)


def _usage(*, is_ca: bool) -> x509.KeyUsage:
    # A CA signs its own OCSP answers where there is no responder certificate: digitalSignature (BR 7.1.2.10.7).
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _check_room(parent: x509.Certificate, path_length: int) -> None:
    constraints = extension_of(parent, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise Misconfigured("the issuer is no CA")
    # RFC 5280 4.2.1.9: each level below has at least one less.
    if path_length < 0 or (constraints.path_length is not None and path_length >= constraints.path_length):
        raise Misconfigured(f"path length {path_length} does not fit under the issuer's ({constraints.path_length})")


def _name(common_name: str) -> x509.Name:
    return _distinguished_name(CaSubject(common_name=common_name))


# RFC 5280 appendix A.1: upper bounds, and the order in which people read them
_ATTRIBUTES = (
    ("country", NameOID.COUNTRY_NAME, 2),
    ("province", NameOID.STATE_OR_PROVINCE_NAME, 128),
    ("locality", NameOID.LOCALITY_NAME, 128),
    ("organization", NameOID.ORGANIZATION_NAME, 64),
    ("organizational_unit", NameOID.ORGANIZATIONAL_UNIT_NAME, 64),
)


def _distinguished_name(subject: CaSubject) -> x509.Name:
    text = subject.common_name.strip()
    if not 0 < len(text) <= UB_COMMON_NAME or not text.isprintable():
        raise Misconfigured(f"a CA's common name has 1 to {UB_COMMON_NAME} printable characters")
    attributes: list[x509.NameAttribute[str]] = []
    for field, oid, most in _ATTRIBUTES:
        values: tuple[str, ...] = getattr(subject, field)
        for value in values:
            if not 0 < len(value.strip()) <= most or not value.isprintable():
                raise Misconfigured(f"{field} of a CA's subject has 1 to {most} printable characters")
            attributes.append(_attribute(field, oid, value.strip()))
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _attribute(field: str, oid: x509.ObjectIdentifier, value: str) -> x509.NameAttribute[str]:
    try:
        return x509.NameAttribute(oid, value)
    except ValueError as error:
        raise Misconfigured(f"{field} of a CA's subject: {error}") from error
