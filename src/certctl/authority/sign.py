"""Leaves of the built-in CA, in three acts: draft the TBS, have it linted, sign exactly those bytes (RFC 5280 4).

`draft_leaf` signs nothing: its bytes are stored as the intent. `approve_tbs` lints a twin and hands out a token that
can be used once and only for those bytes; `sign_tbs` takes nothing but the token. Must never sign bytes that were not
linted.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from msgspec import Struct

from certctl.authority.lint import LintRules, lint
from certctl.authority.signer import IssuingCA, PkiAddresses, Signer
from certctl.authority.tbs import (
    add_addresses,
    certificate_of,
    choose_validity,
    issuer_key_identifier,
    join,
    make_twin,
    new_serial_number,
    write_tbs,
)
from certctl.core.errors import Malformed, Rejected, TrustError
from certctl.core.names import Name, parse_name
from certctl.pki.csr import UB_COMMON_NAME
from certctl.pki.ekus import eku_oid
from certctl.pki.keys import PublicKey, load_public_key, subject_key_identifier
from certctl.pki.sans import subject_alternative_name


class LeafTemplate(Struct, frozen=True):
    """What the approved request says. `ekus` are names or dotted OIDs; `spki_der` is the CSR's key."""

    common_name: str
    names: tuple[Name, ...]
    spki_der: bytes
    validity: timedelta
    ekus: tuple[str, ...]
    must_staple: bool
    now: datetime

    @property
    def rules(self) -> LintRules:
        """The same, as the lint asks for it."""
        return LintRules(self.names, self.spki_der, self.validity, self.ekus, self.must_staple)


class Draft(Struct, frozen=True):
    """A serial number and the whole TBS under it; times are aware UTC on whole seconds."""

    serial_number: int
    tbs_der: bytes
    not_before: datetime
    not_after: datetime


_MINT = object()


class LintedTbs:
    """The right to have one linted TBS signed by one CA, once. Only `approve_tbs` makes it."""

    __slots__ = ("_ca_certificate_id", "_sha256", "_tbs_der", "_used")

    def __init__(self, tbs_der: bytes, ca_certificate_id: str, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("only approve_tbs makes a LintedTbs")
        self._tbs_der = tbs_der
        self._sha256 = hashlib.sha256(tbs_der).digest()
        self._ca_certificate_id = ca_certificate_id
        self._used = False

    def consume(self, ca_certificate_id: str) -> bytes:
        """The linted bytes; afterwards the token is worthless. Raises TrustError on reuse or for another CA."""
        if self._used:
            raise TrustError("a linted TBS was used twice")
        self._used = True
        if ca_certificate_id != self._ca_certificate_id:
            raise TrustError("a TBS linted for one CA was handed to another")
        if hashlib.sha256(self._tbs_der).digest() != self._sha256:
            raise TrustError("a linted TBS was changed")
        return self._tbs_der

    def __repr__(self) -> str:
        return f"LintedTbs(sha256={self._sha256.hex()})"


def draft_leaf(ca: IssuingCA, template: LeafTemplate, addresses: PkiAddresses, crl_shards: int = 1) -> Draft:
    """Choose serial and times and write the TBS; the draft is linted already, so that no intent is stored in vain.

    Of several shards of the CA's CRL the certificate names the one that its serial number falls into.

    Raises Rejected for a template no certificate can hold, Misconfigured when the CA has ended, TrustError by the lint.
    """
    if not template.names or not template.ekus:
        raise Rejected("a certificate needs at least one name and one extended key usage")
    issuer = certificate_of(ca)
    not_before, not_after = choose_validity(issuer, template.now, template.validity)
    serial_number = new_serial_number()
    try:
        key = load_public_key(template.spki_der)
        subject = _subject(template)
        builder = (
            x509.CertificateBuilder()
            .serial_number(serial_number)
            .issuer_name(issuer.subject)
            .subject_name(subject)
            .public_key(key)
            .not_valid_before(not_before)
            .not_valid_after(not_after)
        )
        builder = _add_usage(builder, template, key, subject)
        crl_shard = serial_number % crl_shards + 1 if crl_shards > 1 else 0
        builder = _add_relations(builder, ca, key, addresses, crl_shard)
        tbs_der = write_tbs(builder, ca.signature_algorithm)
    except (Malformed, ValueError) as error:
        raise Rejected(f"the certificate cannot be written: {error}") from error
    _lint(tbs_der, ca, template.rules)
    return Draft(serial_number, tbs_der, not_before, not_after)


def approve_tbs(tbs_der: bytes, ca: IssuingCA, rules: LintRules) -> LintedTbs:
    """Lint the stored TBS against what was approved. Raises TrustError; returns the one-use right to sign it."""
    _lint(tbs_der, ca, rules)
    return LintedTbs(tbs_der, ca.ca_certificate_id, _MINT)


@lru_cache(maxsize=256)  # a verdict is of bytes, CA and rules alone: drafted a moment ago, it is the same now
def _lint(tbs_der: bytes, ca: IssuingCA, rules: LintRules) -> None:
    lint(make_twin(tbs_der, ca.signature_algorithm), ca, rules)


async def sign_tbs(token: LintedTbs, ca: IssuingCA, signer: Signer) -> bytes:
    """Sign exactly the linted bytes: the certificate (DER), verified with the CA's key. Raises TrustError."""
    tbs_der = token.consume(ca.ca_certificate_id)
    signature = await signer.sign(ca.key_ref, ca.signature_algorithm, tbs_der)
    return join(tbs_der, ca.signature_algorithm, signature, certificate_of(ca))


def _subject(template: LeafTemplate) -> x509.Name:
    value = template.common_name.strip()
    if value:
        try:
            name = parse_name(value, "common_name")
        except Malformed:
            name = None
        if name in template.names:
            value = str(name)
    # Longer than ub-common-name: the SAN carries it alone (RFC 5280 appendix A.1).
    fits = 0 < len(value) <= UB_COMMON_NAME
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value)] if fits else [])


def _add_usage(
    builder: x509.CertificateBuilder, template: LeafTemplate, key: PublicKey, subject: x509.Name
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=isinstance(key, rsa.RSAPublicKey),
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    ekus = x509.ExtendedKeyUsage([eku_oid(eku) for eku in template.ekus])
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(ekus, critical=False)
        # RFC 5280 4.2.1.6: critical exactly when the subject is empty.
        .add_extension(subject_alternative_name(template.names), critical=not subject.rdns)
    )
    if template.must_staple:
        builder = builder.add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
    return builder


def _add_relations(
    builder: x509.CertificateBuilder, ca: IssuingCA, key: PublicKey, addresses: PkiAddresses, crl_shard: int
) -> x509.CertificateBuilder:
    return add_addresses(
        builder.add_extension(x509.SubjectKeyIdentifier(subject_key_identifier(key)), critical=False).add_extension(
            x509.AuthorityKeyIdentifier(issuer_key_identifier(certificate_of(ca)), None, None), critical=False
        ),
        ca.ca_certificate_id,
        addresses,
        crl_shard,
    )
