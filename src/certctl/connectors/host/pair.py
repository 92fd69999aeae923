"""Read the pair to deploy from this host and refuse a wrong one before anything is touched.

A certificate without its own key, not yet valid or no longer valid, or not the one that was announced would take a
server down. The key is read here and goes into the target's file, nowhere else. RFC 5280 4.1.2.5.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from msgspec import Struct

from certctl.connectors.base.target import Material
from certctl.connectors.host.paths import MOST_FILE_BYTES, file_error
from certctl.core.errors import Malformed, Misconfigured, Rejected
from certctl.pki.fingerprints import sha256_hex
from certctl.pki.keys import public_key_matches
from certctl.pki.pem import chain_pem, read_certificates

_KEY_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----\r?\n?", re.DOTALL)


class Pair(Struct, frozen=True):
    """A leaf with the chain above it and its key, all PEM, checked to belong together and to be valid now."""

    leaf_der: bytes
    leaf_pem: bytes
    chain_pem: bytes
    key_pem: bytes
    fingerprint_sha256: str
    not_after: datetime

    def __repr__(self) -> str:
        return f"Pair(fingerprint_sha256={self.fingerprint_sha256!r})"


def read_pair(material: Material, now: datetime | None = None) -> Pair:
    """The pair of `material`. Raises Rejected for a certificate not to be deployed, TrustError for another key."""
    if material.key_path is None:
        raise Misconfigured(
            "there is no key for this certificate on this host; it can only be deployed by its key holder"
        )
    key_pem = read_key_file(material.key_path)
    try:
        leaf_der, *rest = read_certificates(material.leaf_pem)
        above = [*rest, *(read_certificates(material.chain_pem) if material.chain_pem.strip() else ())]
        public_key_matches(key_pem, leaf_der)
        leaf = x509.load_der_x509_certificate(leaf_der)
        for der in above:
            x509.load_der_x509_certificate(der)
    except (Malformed, ValueError) as error:
        reason = error.message if isinstance(error, Malformed) else "a certificate cannot be read"
        raise Rejected(f"the certificate is not deployed: {reason}") from error
    fingerprint = sha256_hex(leaf_der)
    if material.fingerprint_sha256 and material.fingerprint_sha256.lower() != fingerprint:
        raise Rejected("the certificate is not deployed: it is not the one its fingerprint names")
    moment = now or datetime.now(UTC)
    if leaf.not_valid_after_utc <= moment:
        raise Rejected(f"the certificate is not deployed: it expired at {leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")
    if leaf.not_valid_before_utc > moment:
        raise Rejected(
            f"the certificate is not deployed: it is not valid before {leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}; "
            "look at the clock of this host"
        )
    # Written anew, so that nothing but certificates gets into the server's files.
    return Pair(
        leaf_der=leaf_der,
        leaf_pem=chain_pem([leaf_der]).encode(),
        chain_pem=chain_pem(above).encode(),
        key_pem=key_pem,
        fingerprint_sha256=fingerprint,
        not_after=leaf.not_valid_after_utc,
    )


def read_key_file(path: Path) -> bytes:
    """The bytes of a key file of ours; links are not followed. Raises Misconfigured or Temporary."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Misconfigured(f"the key file {path} is no regular file")
        with os.fdopen(descriptor, "rb") as file:
            return file.read(MOST_FILE_BYTES)
    except OSError as error:
        raise file_error(error, f"the key file {path}") from error


def leaf_of(pem: bytes | None) -> x509.Certificate | None:
    """The first certificate of a file's bytes, None when there is none that can be read."""
    try:
        return x509.load_der_x509_certificate(read_certificates(pem or b"")[0])
    except (Malformed, ValueError):
        return None


def fingerprint_of(pem: bytes | None) -> str:
    """SHA-256 of the first certificate of a file's bytes, empty when there is none that can be read."""
    try:
        return sha256_hex(read_certificates(pem or b"")[0])
    except Malformed:
        return ""


def first_dns_name(certificate: x509.Certificate | None) -> str:
    """The first DNS name that is no wildcard: a name by which a server would be asked. Empty when there is none."""
    if certificate is None:
        return ""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return next((name for name in names.get_values_for_type(x509.DNSName) if not name.startswith("*")), "")
    except (x509.ExtensionNotFound, ValueError):
        return ""


def check_files_match(live: Mapping[str, bytes | None], cert_path: str, key_path: str) -> str:
    """Raise unless the key file belongs to the certificate file; returns the certificate's fingerprint."""
    certificate, key = live.get(cert_path), live.get(key_path)
    if certificate is None or key is None:
        raise Misconfigured(f"{cert_path} or {key_path} is missing")
    leaf_der = read_certificates(certificate)[0]
    public_key_matches(_key_block(key), leaf_der)
    return sha256_hex(leaf_der)


def _key_block(pem: bytes) -> bytes:
    """The private key of a file that may hold certificates too."""
    found = _KEY_BLOCK.search(pem)
    return found[0] if found else pem
