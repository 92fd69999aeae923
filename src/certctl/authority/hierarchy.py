"""Certificates of the CA itself: root, intermediate, OCSP responder (RFC 5280 4.2.1.9, RFC 6960 4.2.2.2).

Every signature is made by `Signer.sign` over a TBS written under a throw-away key, and every result is verified before
it is returned. Must never make a leaf; those pass the lint in `authority.sign`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certctl.authority.signer import IssuingCA, PkiAddresses, SealedKey, Signer
from certctl.authority.tbs import (
    BACKDATE,
    add_addresses,
    certificate_of,
    choose_validity,
    issuer_key_identifier,
    join,
    new_serial_number,
    whole_second,
    write_tbs,
)
from certctl.core.errors import Misconfigured
from certctl.pki.algorithms import SIGNATURE_OF
from certctl.pki.certs import common_name_of, extension_of
from certctl.pki.csr import UB_COMMON_NAME
from certctl.pki.keys import load_public_key, subject_key_identifier


async def make_root(common_name: str, key: SealedKey, signer: Signer, now: datetime, validity: timedelta) -> bytes:
    """A self-signed root (DER). Raises Misconfigured for a name that does not fit, TrustError on a bad signature."""
    subject = _name(common_name)
    not_before = whole_second(now - BACKDATE)
    builder = _builder(subject, subject, key, not_before, whole_second(now + validity))
    builder = _add_ca_extensions(builder, path_length=None)
    algorithm = SIGNATURE_OF[key.algorithm]
    tbs_der = write_tbs(builder, algorithm)
    return join(tbs_der, algorithm, await signer.sign(key.key_ref, algorithm, tbs_der), None)


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
    parent = certificate_of(issuer)
    _check_room(parent, path_length)
    subject = _name(common_name)
    if subject == parent.subject:
        raise Misconfigured("an intermediate needs another common name than its issuer")
    builder = _builder(subject, parent.subject, key, *choose_validity(parent, now, validity))
    builder = _add_ca_extensions(builder, path_length)
    builder = add_addresses(_add_authority(builder, parent), issuer.ca_certificate_id, addresses)
    return await _sign(builder, issuer, signer)


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
    text = common_name.strip()
    if not 0 < len(text) <= UB_COMMON_NAME:
        raise Misconfigured(f"a CA's common name has 1 to {UB_COMMON_NAME} characters")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
