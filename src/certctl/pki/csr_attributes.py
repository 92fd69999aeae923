"""What a CSR may be asked to hold, by the names people write and by dotted OID (RFC 2985 5.4, RFC 5280 4.2).

Attributes of the request itself, and the extensions that it asks for in `extensionRequest`: both are there or not.
"""

from __future__ import annotations

import re

from cryptography.x509 import ObjectIdentifier

from certctl.core.errors import Malformed, Violation

_OF_NAME = {
    "challengePassword": "1.2.840.113549.1.9.7",
    "unstructuredName": "1.2.840.113549.1.9.2",
    "unstructuredAddress": "1.2.840.113549.1.9.8",
    "extensionRequest": "1.2.840.113549.1.9.14",
    "subjectAltName": "2.5.29.17",
    "subjectKeyIdentifier": "2.5.29.14",
    "keyUsage": "2.5.29.15",
    "extendedKeyUsage": "2.5.29.37",
    "basicConstraints": "2.5.29.19",
    "certificatePolicies": "2.5.29.32",
    "tlsFeature": "1.3.6.1.5.5.7.1.24",
}
_OF_OID = {dotted: name for name, dotted in _OF_NAME.items()}
_OF_FOLDED = {name.lower(): dotted for name, dotted in _OF_NAME.items()}
_DOTTED = re.compile(r"[0-2](\.(0|[1-9]\d{0,9})){1,20}")

# what the CSRs of certctl's own agents hold (`csr.build_csr`): names as an extension, and no attribute besides
OF_AGENTS = frozenset({_OF_NAME["extensionRequest"], _OF_NAME["subjectAltName"]})
TLS_FEATURE = _OF_NAME["tlsFeature"]


def attribute_oid(text: str) -> str:
    """The dotted OID of an attribute or extension written by name (any case) or dotted. Raises Malformed."""
    dotted = _OF_FOLDED.get(text.strip().lower(), text.strip())
    message = f"{text!r} is nothing that a CSR holds; write {', '.join(_OF_NAME)} or a dotted OID"
    fault = Malformed(message, violations=(Violation("csr_attribute_is_unknown", message, "required_csr_attributes"),))
    if not _DOTTED.fullmatch(dotted):
        raise fault
    try:
        return ObjectIdentifier(dotted).dotted_string
    except ValueError as error:
        raise fault from error


def attribute_name(dotted: str) -> str:
    """The name of an attribute or extension, or its dotted OID when it has none here."""
    return _OF_OID.get(dotted, dotted)
