"""Extended key usages by the names people write (RFC 5280 4.2.1.12) and by dotted OID."""

from __future__ import annotations

import re

from cryptography.x509 import ObjectIdentifier

from certctl.core.errors import Malformed, Violation

_OF_NAME = {
    "serverAuth": "1.3.6.1.5.5.7.3.1",
    "clientAuth": "1.3.6.1.5.5.7.3.2",
    "codeSigning": "1.3.6.1.5.5.7.3.3",
    "emailProtection": "1.3.6.1.5.5.7.3.4",
    "timeStamping": "1.3.6.1.5.5.7.3.8",
    "OCSPSigning": "1.3.6.1.5.5.7.3.9",
    "anyExtendedKeyUsage": "2.5.29.37.0",
}
_OF_OID = {dotted: name for name, dotted in _OF_NAME.items()}
_OF_FOLDED = {name.lower(): dotted for name, dotted in _OF_NAME.items()}
_DOTTED = re.compile(r"[0-2](\.(0|[1-9]\d{0,9})){1,20}")

ANY = ObjectIdentifier(_OF_NAME["anyExtendedKeyUsage"])
OCSP_SIGNING = ObjectIdentifier(_OF_NAME["OCSPSigning"])


def eku_oid(text: str) -> ObjectIdentifier:
    """The OID of an EKU written by name (any case) or dotted. Raises Malformed."""
    dotted = _OF_FOLDED.get(text.strip().lower(), text.strip())
    message = f"{text!r} is no extended key usage; write {', '.join(sorted(_OF_NAME))} or a dotted OID"
    fault = Malformed(message, violations=(Violation("eku_is_unknown", message, "ekus"),))
    if not _DOTTED.fullmatch(dotted):
        raise fault
    try:
        return ObjectIdentifier(dotted)
    except ValueError as error:
        raise fault from error


def eku_name(oid: ObjectIdentifier | str) -> str:
    """The name of an EKU, or its dotted OID when it has none here."""
    dotted = oid if isinstance(oid, str) else oid.dotted_string
    return _OF_OID.get(dotted, dotted)
