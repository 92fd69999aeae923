"""What a CSR may be asked to hold, by the names people write and by dotted OID (RFC 2985 5.4, RFC 5280 4.2).

Attributes of the request itself, and the extensions that it asks for in `extensionRequest`: both are there or not.
"""

from __future__ import annotations

from certctl.pki.oids import NamedOids

_ATTRIBUTES = NamedOids(
    {
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
    },
    wanted="nothing that a CSR holds",
    rule="csr_attribute_is_unknown",
    field="required_csr_attributes",
)
# what the CSRs of certctl's own agents hold (`csr.build_csr`): names as an extension, and no attribute besides
OF_AGENTS = frozenset(_ATTRIBUTES[name].dotted_string for name in ("extensionRequest", "subjectAltName"))
TLS_FEATURE = _ATTRIBUTES["tlsFeature"].dotted_string


def attribute_oid(text: str) -> str:
    """The dotted OID of an attribute or extension written by name (any case) or dotted. Raises Malformed."""
    return _ATTRIBUTES.read(text).dotted_string


def attribute_name(dotted: str) -> str:
    """The name of an attribute or extension, or its dotted OID when it has none here."""
    return _ATTRIBUTES.name(dotted)
