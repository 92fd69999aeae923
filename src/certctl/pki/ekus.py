"""Extended key usages by the names people write (RFC 5280 4.2.1.12) and by dotted OID."""

from __future__ import annotations

from cryptography.x509 import ObjectIdentifier

from certctl.pki.oids import NamedOids

_EKUS = NamedOids(
    {
        "serverAuth": "1.3.6.1.5.5.7.3.1",
        "clientAuth": "1.3.6.1.5.5.7.3.2",
        "codeSigning": "1.3.6.1.5.5.7.3.3",
        "emailProtection": "1.3.6.1.5.5.7.3.4",
        "timeStamping": "1.3.6.1.5.5.7.3.8",
        "OCSPSigning": "1.3.6.1.5.5.7.3.9",
        "anyExtendedKeyUsage": "2.5.29.37.0",
    },
    wanted="no extended key usage",
    rule="eku_is_unknown",
    field="ekus",
)
ANY = _EKUS["anyExtendedKeyUsage"]
OCSP_SIGNING = _EKUS["OCSPSigning"]


def eku_oid(text: str) -> ObjectIdentifier:
    """The OID of an EKU written by name (any case) or dotted. Raises Malformed."""
    return _EKUS.read(text)


def eku_name(oid: ObjectIdentifier | str) -> str:
    """The name of an EKU, or its dotted OID when it has none here."""
    return _EKUS.name(oid)
